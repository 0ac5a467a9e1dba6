//! What a scenario works with: a cluster, clients, and a note of everything that is done to them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use kontiki_client::{Address, Client, Consistency, Range};
use kontiki_tests::linearizability::history::Moment;
use kontiki_tests::rng::Rng;

use crate::cluster::{Cluster, Kind, eventually};
use crate::load::Load;
use crate::network::{Network, Stopped};
use crate::proxy::Proxies;

/// Hosts beside those of the voters, for servers that are added.
pub const SPARE: usize = 2;
/// Writes that show that the store is in service.
pub const SOME: u64 = 50;

/// See the module.
pub struct World {
    pub load: Load,
    pub cluster: Cluster,
    /// In scenarios that delay.
    pub proxies: Option<Proxies>,
    /// Voters at first, on the first hosts.
    pub size: usize,
    pub rng: Rng,
    pub notes: Vec<Note>,
    /// That faults took place: what was counted.
    pub evidence: BTreeMap<&'static str, u64>,
}

/// Something that was done to the cluster.
#[derive(Clone, Debug)]
pub struct Note {
    pub at: Moment,
    pub what: String,
    pub is_fault: bool,
}

impl World {
    /// A cluster, and clients that have written.
    ///
    /// # Errors
    /// It does not come about.
    pub async fn begin(kind: Kind, seed: u64, logs: &Path) -> Result<Self> {
        let size = kind.size;
        let network = Network::make(size + SPARE)?;
        let proxies = match kind.is_proxied {
            true => Some(Proxies::start(size + SPARE).await?),
            false => None,
        };
        let cluster = Cluster::start(network, kind, logs).await?;
        let load = Load::start(size, size + SPARE, seed);
        load.go_on(SOME).await?;
        Ok(Self {
            load,
            cluster,
            proxies,
            size,
            rng: Rng::new(seed),
            notes: Vec::new(),
            evidence: BTreeMap::new(),
        })
    }

    fn take_note(&mut self, what: impl Into<String>, is_fault: bool) {
        let at = self.load.recorder().now();
        let what = what.into();
        self.notes.push(Note { at, what, is_fault });
    }

    /// A fault begins.
    pub fn fault(&mut self, what: impl Into<String>) {
        self.take_note(what, true);
    }

    /// Something else is done that may cost service.
    pub fn step(&mut self, what: impl Into<String>) {
        self.take_note(what, false);
    }

    /// Something that shows that a fault took place was counted.
    pub fn count(&mut self, what: &'static str, count: u64) {
        if count > 0 {
            *self.evidence.entry(what).or_insert(0) += count;
        }
    }

    /// The largest of something that was measured.
    pub fn worst(&mut self, what: &'static str, measured: u64) {
        let worst = self.evidence.entry(what).or_insert(0);
        *worst = measured.max(*worst);
    }

    /// A server that does not lead.
    pub fn follower_of(&mut self, leader: usize) -> Result<usize> {
        let others = self.cluster.others(&[leader]);
        self.rng.pick(&others).context("it is not alone")
    }

    /// Ends all cuts, and adds up what they have stopped.
    ///
    /// # Errors
    /// They cannot be ended.
    pub fn heal(&mut self) -> Result<Stopped> {
        let stopped = self.cluster.network.heal()?;
        self.step("healed");
        self.count("packets dropped", stopped.dropped);
        self.count("packets reset", stopped.reset);
        Ok(stopped)
    }

    /// With all faults over, the store is in service, all servers agree on a leader and the
    /// configuration, and have the same keys with the same values of the same revisions.
    ///
    /// # Errors
    /// Something of it does not come true.
    pub async fn settle(&mut self) -> Result<()> {
        self.load.go_on(SOME).await?;
        self.load.stop().await?;
        self.cluster.agreement().await?;
        eventually("all servers have the same content", async || {
            let mut contents = Vec::new();
            for place in self.cluster.places() {
                contents.push(content(&self.cluster.node(place).client).await?);
            }
            Ok(contents
                .windows(2)
                .all(|pair| pair[0] == pair[1])
                .then_some(()))
        })
        .await
    }
}

/// Keys, values and revisions of one server.
async fn content(address: &str) -> Result<Vec<(Vec<u8>, Vec<u8>, u64)>> {
    let endpoint: Address = address.parse()?;
    let client = Client::new([address])?;
    let pages = client.range_at(&endpoint, Range::all(), Consistency::Stale);
    let pages: Vec<_> = pages.try_collect().await?;
    let records = pages.into_iter().flat_map(|page| page.kvs);
    let content: Vec<_> = records
        .map(|record| {
            (
                record.key.to_vec(),
                record.value.to_vec(),
                record.mod_revision,
            )
        })
        .collect();
    ensure!(!content.is_empty(), "{address} has nothing");
    Ok(content)
}
