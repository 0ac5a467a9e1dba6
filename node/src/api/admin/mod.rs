//! `kontiki.v1.Admin`: what operators and people ask of a server.

mod service;

use std::time::Duration;

use futures::future::join_all;
use kontiki_proto::v1;
use kontiki_raft::{ChangeRequest, Index, Purpose, SERVERS_MAX};
use tonic::Request;

use super::bounds::at_most;
use super::error::ApiError;
use super::patience;
use super::text::{
    cluster_id, invalid, server, server_id, servers, wire_configuration, wire_inspection,
    wire_server, wire_status,
};
use crate::address_book::ServerRef;
use crate::driver::{Answer, INSPECT_BYTES_MAX, Input, Refusal, Until};
use crate::handle::{Failure, Handle, Reply};
use crate::introduce;

/// Longest and usual wait for a leader, in milliseconds.
const AWAIT_LEADER_MAX: u64 = 600_000;
const AWAIT_LEADER_DEFAULT: u64 = 5_000;
/// Bytes of a command that an inspection shows, if the request does not say.
const INSPECT_PAYLOAD_DEFAULT: usize = 256;
/// Bytes of the reason to stop, or to be quarantined.
const REASON_BYTES_MAX: usize = 1024;
/// Turns of the runtime in which the answer to whoever stops the server gets out. It may get lost all
/// the same, as when the server crashes.
const ANSWER_TURNS_MAX: usize = 64;

/// The service.
#[derive(Clone, Debug)]
pub struct AdminService {
    handle: Handle,
}

impl AdminService {
    /// A service in front of a node.
    pub fn new(handle: Handle) -> Self {
        Self { handle }
    }

    fn patience<T>(&self, request: &Request<T>) -> Result<Duration, ApiError> {
        let limit = Duration::from_millis(self.handle.limits.admin_timeout_milliseconds);
        patience(request.metadata(), limit)
    }

    async fn ask(
        &self,
        wait: Duration,
        input: impl FnOnce(Reply) -> Input<Reply>,
    ) -> Result<Answer, ApiError> {
        self.handle.ask(wait, input).await.map_err(ApiError::Admin)
    }

    /// A request that names a cluster is meant for a server of that cluster only.
    fn check_cluster(&self, asked: &str) -> Result<(), ApiError> {
        if asked.is_empty() {
            return Ok(());
        }
        let (asked, mine) = (cluster_id("cluster_id", asked)?, self.handle.cluster());
        match mine == Some(asked) {
            true => Ok(()),
            false => Err(ApiError::WrongCluster { mine, asked }),
        }
    }

    /// A request that names a server is meant for that incarnation only.
    fn check_server(&self, asked: &str) -> Result<(), ApiError> {
        let me = self.handle.server;
        if asked.is_empty() || server_id("server_id", asked)? == me {
            return Ok(());
        }
        let refusal = Refusal::WrongServer(me);
        Err(ApiError::Admin(Failure::Refused(refusal)))
    }

    async fn bootstrap(
        &self,
        request: Request<v1::BootstrapRequest>,
    ) -> Answered<v1::BootstrapResponse> {
        let wait = self.patience(&request)?;
        let request = request.into_inner();
        let cluster = cluster_id("cluster_id", &request.cluster_id)?;
        let named = servers("voters", request.voters)?;
        let voters: Vec<_> = named.iter().map(|voter| voter.id).collect();
        if !voters.contains(&self.handle.server) {
            let refusal = Refusal::WrongServer(self.handle.server);
            return Err(ApiError::Admin(Failure::Refused(refusal)));
        }
        named
            .into_iter()
            .for_each(|voter| self.handle.book.learn(voter));
        let input = |reply| Input::Bootstrap {
            cluster,
            voters,
            reply,
        };
        match self.ask(wait, input).await? {
            Answer::Done => Ok(v1::BootstrapResponse {}),
            _ => Err(ApiError::BadAnswer("a bootstrap's")),
        }
    }

    async fn activate(
        &self,
        request: Request<v1::ActivateRequest>,
    ) -> Answered<v1::ActivateResponse> {
        let wait = self.patience(&request)?;
        self.check_cluster(&request.into_inner().cluster_id)?;
        match self.ask(wait, |reply| Input::Activate { reply }).await? {
            Answer::Activated(index) => Ok(v1::ActivateResponse { index: index.0 }),
            _ => Err(ApiError::BadAnswer("an activation's")),
        }
    }

    /// Takes note of servers that are to be added, and asks them which versions of the machine they
    /// run. Who does not answer says it with its first acknowledgement.
    async fn meet(&self, added: Vec<ServerRef>) {
        if self.handle.standing().leader == Some(self.handle.server) {
            join_all(
                added
                    .iter()
                    .map(|one| introduce::ask_versions(&self.handle, one)),
            )
            .await;
        }
        added
            .into_iter()
            .for_each(|one| self.handle.book.learn(one));
    }

    async fn change(
        &self,
        wait: Duration,
        change: ChangeRequest,
        until: Until,
    ) -> Answered<v1::ChangeResponse> {
        let input = |reply| Input::Change {
            change,
            until,
            reply,
        };
        match self.ask(wait, input).await? {
            Answer::Changed(status) => Ok(v1::ChangeResponse {
                configuration: Some(wire_configuration(&status)),
            }),
            _ => Err(ApiError::BadAnswer("a change's")),
        }
    }

    async fn add(&self, request: Request<v1::AddServerRequest>) -> Answered<v1::ChangeResponse> {
        let wait = self.patience(&request)?;
        let request = request.into_inner();
        self.check_cluster(&request.cluster_id)?;
        let named = servers("servers", request.servers)?;
        let purpose = match request.as_learner {
            true => Purpose::Stay,
            false => Purpose::Join,
        };
        let change = ChangeRequest {
            add: named.iter().map(|added| (added.id, purpose)).collect(),
            remove: ids("supersedes", &request.supersedes)?,
            seen: seen(request.configuration_index),
        };
        self.meet(named).await;
        self.change(wait, change, until(request.as_learner || request.no_wait))
            .await
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveServerRequest>,
    ) -> Answered<v1::ChangeResponse> {
        let wait = self.patience(&request)?;
        let request = request.into_inner();
        self.check_cluster(&request.cluster_id)?;
        if request.server_ids.is_empty() {
            return Err(invalid("server_ids", "", "a list of at least one server"));
        }
        let change = ChangeRequest {
            add: Vec::new(),
            remove: ids("server_ids", &request.server_ids)?,
            seen: seen(request.configuration_index),
        };
        self.change(wait, change, Until::Effective).await
    }

    async fn replace(
        &self,
        request: Request<v1::ReplaceServerRequest>,
    ) -> Answered<v1::ChangeResponse> {
        let wait = self.patience(&request)?;
        let request = request.into_inner();
        self.check_cluster(&request.cluster_id)?;
        let lost = server_id("lost", &request.lost)?;
        let missing = || invalid("server", "", "the server that takes the place");
        let added = server("server", request.server.ok_or_else(missing)?)?;
        let change = ChangeRequest {
            add: vec![(added.id, Purpose::Replace(lost))],
            remove: ids("supersedes", &request.supersedes)?,
            seen: seen(request.configuration_index),
        };
        self.meet(vec![added]).await;
        self.change(wait, change, until(request.no_wait)).await
    }

    async fn transfer(
        &self,
        request: Request<v1::TransferLeadershipRequest>,
    ) -> Answered<v1::TransferLeadershipResponse> {
        let wait = self.patience(&request)?;
        let request = request.into_inner();
        self.check_cluster(&request.cluster_id)?;
        let target = match request.target.as_str() {
            "" => None,
            target => Some(server_id("target", target)?),
        };
        let input = |reply| Input::Transfer { target, reply };
        match self.ask(wait, input).await? {
            Answer::Transferred(standing) => Ok(v1::TransferLeadershipResponse {
                leader_id: standing.leader.map(|id| id.to_string()).unwrap_or_default(),
                term: standing.term.0,
            }),
            _ => Err(ApiError::BadAnswer("a transfer's")),
        }
    }

    async fn trigger(
        &self,
        request: Request<v1::TriggerElectionRequest>,
    ) -> Answered<v1::TriggerElectionResponse> {
        let wait = self.patience(&request)?;
        let request = request.into_inner();
        self.check_cluster(&request.cluster_id)?;
        self.check_server(&request.server_id)?;
        match self
            .ask(wait, |reply| Input::TriggerElection { reply })
            .await?
        {
            Answer::Triggered(term) => Ok(v1::TriggerElectionResponse { term: term.0 }),
            _ => Err(ApiError::BadAnswer("an election's")),
        }
    }

    async fn quarantine(
        &self,
        request: Request<v1::QuarantineRequest>,
    ) -> Answered<v1::QuarantineResponse> {
        let wait = self.patience(&request)?;
        let v1::QuarantineRequest {
            cluster_id,
            server_id,
            why,
        } = request.into_inner();
        self.check_cluster(&cluster_id)?;
        self.check_server(&server_id)?;
        at_most("why", why.len(), REASON_BYTES_MAX)?;
        if why.is_empty() {
            return Err(invalid("why", "", "1 to 1024 bytes"));
        }
        match self
            .ask(wait, |reply| Input::Quarantine { why, reply })
            .await?
        {
            Answer::Done => Ok(v1::QuarantineResponse {}),
            _ => Err(ApiError::BadAnswer("a quarantine's")),
        }
    }

    async fn await_leader(
        &self,
        request: Request<v1::AwaitLeaderRequest>,
    ) -> Answered<v1::AwaitLeaderResponse> {
        let milliseconds = match request.get_ref().timeout_ms {
            0 => AWAIT_LEADER_DEFAULT,
            asked if asked <= AWAIT_LEADER_MAX => asked,
            asked => {
                return Err(invalid("timeout_ms", &asked.to_string(), "at most 600000"));
            }
        };
        let wait = patience(request.metadata(), Duration::from_millis(milliseconds))?;
        let standing = self.handle.await_leader(wait).await;
        let standing = standing.map_err(ApiError::Read)?;
        let leader = standing.leader.map(|id| self.handle.book.find(id));
        Ok(v1::AwaitLeaderResponse {
            leader: leader.map(wire_server),
            term: standing.term.0,
        })
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answered<v1::StatusResponse> {
        let wait = self.patience(&request)?;
        let input = |reply| Input::Status { reply };
        let answer = self.handle.ask_always(wait, input).await;
        match answer.map_err(ApiError::Read)? {
            Answer::Status(status) => Ok(wire_status(&status, &self.handle.book)),
            _ => Err(ApiError::BadAnswer("a status'")),
        }
    }

    fn introduce(&self, request: v1::IntroduceRequest) -> Answered<v1::IntroduceResponse> {
        // A joiner belongs to no cluster yet, and is told where its future peers are.
        if self.handle.cluster().is_some() {
            self.check_cluster(&request.cluster_id)?;
        }
        let max = self.handle.limits.address_book_max;
        if request.servers.len() > max {
            let count = format!("{} servers", request.servers.len());
            return Err(invalid(
                "servers",
                &count,
                &format!("at most {max} servers"),
            ));
        }
        let named = request
            .servers
            .into_iter()
            .map(|one| server("servers", one));
        let named: Vec<_> = named.collect::<Result<_, _>>()?;
        named
            .into_iter()
            .for_each(|one| self.handle.book.learn(one));
        Ok(v1::IntroduceResponse {})
    }

    async fn inspect(&self, request: Request<v1::InspectRequest>) -> Answered<v1::InspectResponse> {
        let wait = self.patience(&request)?;
        let request = request.into_inner();
        self.check_cluster(&request.cluster_id)?;
        self.check_server(&request.server_id)?;
        let payload_bytes_max = match request.payload_bytes_max as usize {
            0 => INSPECT_PAYLOAD_DEFAULT,
            asked if asked <= INSPECT_BYTES_MAX => asked,
            asked => {
                let right = format!("at most {INSPECT_BYTES_MAX}");
                return Err(invalid("payload_bytes_max", &asked.to_string(), &right));
            }
        };
        let input = |reply| Input::Inspect {
            first: Index(request.first_index),
            payload_bytes_max,
            reply,
        };
        let answer = self.handle.ask_always(wait, input).await;
        match answer.map_err(ApiError::Read)? {
            Answer::Inspected(seen) => Ok(wire_inspection(*seen, &self.handle.book)),
            _ => Err(ApiError::BadAnswer("an inspection's")),
        }
    }

    fn stop_server(&self, request: v1::StopServerRequest) -> Answered<v1::StopServerResponse> {
        self.check_cluster(&request.cluster_id)?;
        self.check_server(&request.server_id)?;
        at_most("reason", request.reason.len(), REASON_BYTES_MAX)?;
        let v1::StopServerRequest {
            reason, graceful, ..
        } = request;
        tracing::info!(reason, graceful, "told to stop");
        let ending = self.handle.ending.clone();
        match graceful {
            true => ending.stop(Some(reason)),
            // The answer first.
            false => drop(tokio::spawn(async move {
                for _ in 0..ANSWER_TURNS_MAX {
                    tokio::task::yield_now().await;
                }
                ending.end(reason);
            })),
        }
        Ok(v1::StopServerResponse {})
    }

    fn ping(&self) -> v1::PingResponse {
        let handle = &self.handle;
        let initial = handle
            .initial_config
            .iter()
            .map(|(node, address)| v1::Server {
                node: node.clone(),
                peer_address: address.clone(),
                ..v1::Server::default()
            });
        v1::PingResponse {
            cluster_id: handle
                .cluster()
                .map(|id| id.to_string())
                .unwrap_or_default(),
            server: Some(wire_server(handle.book.me().clone())),
            initial_config: initial.collect(),
            machine_versions_min: *handle.versions.start(),
            machine_versions_max: *handle.versions.end(),
        }
    }
}

type Answered<T> = Result<T, ApiError>;

fn seen(index: u64) -> Option<Index> {
    (index != 0).then_some(Index(index))
}

fn until(committed: bool) -> Until {
    match committed {
        true => Until::Committed,
        false => Until::Effective,
    }
}

fn ids(field: &'static str, list: &[String]) -> Result<Vec<kontiki_raft::ServerId>, ApiError> {
    if list.len() > SERVERS_MAX {
        let count = format!("{} servers", list.len());
        return Err(invalid(
            field,
            &count,
            &format!("at most {SERVERS_MAX} servers"),
        ));
    }
    list.iter().map(|text| server_id(field, text)).collect()
}
