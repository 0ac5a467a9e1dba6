//! Three servers of openraft over a log in memory, and calls for a network.

mod log;
mod network;
mod replica;

use std::collections::BTreeSet;
use std::io::Cursor;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use openraft::{Config, Raft, SnapshotPolicy};

use super::machine::{Machine, Replica};
use super::{Client, Cluster, ELECTION_TIMEOUT, HEARTBEAT, PATIENCE};
use log::LogStore;
use network::Network;
use replica::Store;

openraft::declare_raft_types!(
    pub Types:
        D = Bytes,
        R = Vec<u8>,
        Node = (),
);

type StorageError = openraft::StorageError<u64>;

const LEADER: u64 = 0;
/// Entries of one message: more than there are callers.
const APPEND_ENTRIES_MAX: u64 = 1024;
/// Entries after which the log is cut, and those that are kept then.
const SNAPSHOT_EVERY: u64 = 64 << 10;
const KEPT_ENTRIES: u64 = 4 << 10;

pub struct OpenRaft {
    servers: Vec<Raft<Types>>,
    stores: Vec<Store>,
}

impl Cluster for OpenRaft {
    type Client = Leader;

    async fn start(machine: Machine) -> Result<Self> {
        let [shortest, longest] = ELECTION_TIMEOUT.map(|timeout| timeout.as_millis() as u64);
        let config = Config {
            heartbeat_interval: HEARTBEAT.as_millis() as u64,
            election_timeout_min: shortest,
            election_timeout_max: longest,
            max_payload_entries: APPEND_ENTRIES_MAX,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
            max_in_snapshot_log_to_keep: KEPT_ENTRIES,
            purge_batch_size: KEPT_ENTRIES,
            ..Config::default()
        };
        let config = Arc::new(config.validate().context("the configuration")?);
        let network = Network::default();
        let (mut servers, mut stores) = (Vec::new(), Vec::new());
        for id in 0..3 {
            let store = Store::new(machine.make());
            let log = LogStore::default();
            let raft = Raft::new(id, config.clone(), network.clone(), log, store.clone());
            let raft = raft.await.context("start a server")?;
            network.add(id, raft.clone());
            servers.push(raft);
            stores.push(store);
        }
        let leader = &servers[LEADER as usize];
        leader
            .initialize(BTreeSet::from([0, 1, 2]))
            .await
            .context("initialize")?;
        for server in &servers {
            let metrics = server.wait(Some(PATIENCE));
            let followed = metrics.current_leader(LEADER, "start").await;
            followed.context("follow the first server")?;
        }
        Ok(Self { servers, stores })
    }

    fn client(&self) -> Leader {
        Leader(self.servers[LEADER as usize].clone())
    }

    fn replicas(&self) -> [Replica; 3] {
        [0, 1, 2].map(|n| self.stores[n].replica())
    }

    async fn stop(self) -> Result<Vec<Vec<u8>>> {
        for server in &self.servers {
            server.shutdown().await.context("a server panicked")?;
        }
        let snapshots = self.stores.iter().map(|store| store.has_sent_snapshot());
        ensure!(
            !snapshots.into_iter().any(|sent| sent),
            "a server fell behind"
        );
        Ok(self.stores.iter().map(Store::state).collect())
    }
}

#[derive(Clone)]
pub struct Leader(Raft<Types>);

impl Client for Leader {
    async fn write(&self, command: Bytes) -> Result<Vec<u8>> {
        let written = self.0.client_write(command).await;
        Ok(written.context("refused")?.data)
    }
}
