//! Its network: a request is a call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use openraft::error::{InstallSnapshotError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, Raft};

use super::Types;

/// Clones share one network.
#[derive(Clone, Default)]
pub struct Network(Arc<Mutex<BTreeMap<u64, Raft<Types>>>>);

impl Network {
    pub fn add(&self, id: u64, raft: Raft<Types>) {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        servers.insert(id, raft);
    }

    fn get(&self, id: u64) -> Option<Raft<Types>> {
        let servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        servers.get(&id).cloned()
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, (): &()) -> Link {
        Link {
            target,
            raft: self.get(target),
        }
    }
}

/// From one server to another.
pub struct Link {
    target: u64,
    raft: Option<Raft<Types>>,
}

type CallError<E> = RPCError<u64, (), RaftError<u64, E>>;

impl Link {
    fn raft<E: std::error::Error>(&self) -> Result<&Raft<Types>, CallError<E>> {
        let missing = || AnyError::error(format!("there is no server {}", self.target));
        let raft = self.raft.as_ref();
        raft.ok_or_else(|| RPCError::Unreachable(Unreachable::new(&missing())))
    }

    fn failed<E: std::error::Error>(&self, error: RaftError<u64, E>) -> CallError<E> {
        RPCError::RemoteError(RemoteError::new(self.target, error))
    }
}

impl RaftNetwork<Types> for Link {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, (), RaftError<u64>>> {
        let answer = self.raft()?.append_entries(request).await;
        answer.map_err(|error| self.failed(error))
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        _: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, CallError<InstallSnapshotError>> {
        let answer = self.raft()?.install_snapshot(request).await;
        answer.map_err(|error| self.failed(error))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, (), RaftError<u64>>> {
        let answer = self.raft()?.vote(request).await;
        answer.map_err(|error| self.failed(error))
    }
}
