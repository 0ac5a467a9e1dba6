//! `Admin` against scripted servers: who is asked, and what is made of the answers.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{failed, options, refusing};
use kontiki_client::Admin;
use kontiki_client::proto::v1::admin_server::{Admin as Service, AdminServer};
use kontiki_client::proto::v1::*;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};

/// A server that answers with its status, and redirects what only a leader does.
#[derive(Debug, Clone, Default)]
struct Node {
    status: StatusResponse,
    /// Where it sends people; empty: it leads.
    leader: String,
    asked: Arc<Mutex<Vec<String>>>,
    /// Leader waits that time out before one succeeds.
    leaderless: Arc<Mutex<u32>>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Node {
    fn new(id: u64, role: Role, commit_index: u64, leader: &str) -> Self {
        let server = Server {
            server_id: format!("{id:016x}"),
            ..Server::default()
        };
        let configuration = Configuration {
            index: 1,
            voters: vec![server.server_id.clone()],
            ..Default::default()
        };
        let status = StatusResponse {
            server: Some(server),
            role: role.into(),
            serving: role == Role::Leader,
            term: 2,
            commit_index,
            configuration: Some(configuration),
            ..StatusResponse::default()
        };
        Node {
            status,
            leader: leader.to_owned(),
            ..Node::default()
        }
    }

    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(AdminServer::new(self.clone()))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        address
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn lead<T: Default>(&self, what: &str) -> Answer<T> {
        self.asked.lock().unwrap().push(what.to_owned());
        if self.leader.is_empty() {
            return Ok(Response::new(T::default()));
        }
        Err(failed(
            Code::FailedPrecondition,
            "NOT_LEADER",
            Some(&self.leader),
        ))
    }

    fn own<T: Default>(&self, what: &str) -> Answer<T> {
        self.asked.lock().unwrap().push(what.to_owned());
        Ok(Response::new(T::default()))
    }
}

#[tonic::async_trait]
impl Service for Node {
    async fn bootstrap(&self, _: Request<BootstrapRequest>) -> Answer<BootstrapResponse> {
        self.own("bootstrap")
    }
    async fn activate(&self, _: Request<ActivateRequest>) -> Answer<ActivateResponse> {
        self.lead("activate")
    }
    async fn add_server(&self, _: Request<AddServerRequest>) -> Answer<ChangeResponse> {
        self.lead("add_server")
    }
    async fn remove_server(&self, _: Request<RemoveServerRequest>) -> Answer<ChangeResponse> {
        self.lead("remove_server")
    }
    async fn replace_server(&self, _: Request<ReplaceServerRequest>) -> Answer<ChangeResponse> {
        self.lead("replace_server")
    }
    async fn transfer_leadership(
        &self,
        _: Request<TransferLeadershipRequest>,
    ) -> Answer<TransferLeadershipResponse> {
        self.lead("transfer_leadership")
    }
    async fn trigger_election(
        &self,
        _: Request<TriggerElectionRequest>,
    ) -> Answer<TriggerElectionResponse> {
        self.own("trigger_election")
    }
    async fn quarantine(&self, _: Request<QuarantineRequest>) -> Answer<QuarantineResponse> {
        self.own("quarantine")
    }
    async fn await_leader(&self, _: Request<AwaitLeaderRequest>) -> Answer<AwaitLeaderResponse> {
        let mut left = self.leaderless.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            return Err(failed(Code::DeadlineExceeded, "TIMED_OUT", None));
        }
        Ok(Response::new(AwaitLeaderResponse {
            leader: self.status.server.clone(),
            term: 2,
        }))
    }
    async fn status(&self, _: Request<StatusRequest>) -> Answer<StatusResponse> {
        Ok(Response::new(self.status.clone()))
    }
    async fn introduce(&self, _: Request<IntroduceRequest>) -> Answer<IntroduceResponse> {
        self.own("introduce")
    }
    async fn ping(&self, _: Request<PingRequest>) -> Answer<PingResponse> {
        self.own("ping")
    }
    async fn inspect(&self, _: Request<InspectRequest>) -> Answer<InspectResponse> {
        self.own("inspect")
    }
    async fn stop_server(&self, _: Request<StopServerRequest>) -> Answer<StopServerResponse> {
        self.own("stop_server")
    }
}

#[tokio::test]
async fn what_only_a_leader_does_follows_its_peer_address() {
    let leader = Node::new(1, Role::Leader, 5, "");
    let follower = Node::new(2, Role::Follower, 5, &leader.serve().await);
    let admin = Admin::with_options([follower.serve().await], options()).unwrap();
    admin.add_server(AddServerRequest::default()).await.unwrap();
    admin
        .remove_server(RemoveServerRequest::default())
        .await
        .unwrap();
    admin
        .replace_server(ReplaceServerRequest::default())
        .await
        .unwrap();
    admin
        .transfer_leadership(TransferLeadershipRequest::default())
        .await
        .unwrap();
    admin.activate(ActivateRequest::default()).await.unwrap();
    assert_eq!(follower.asked(), ["add_server"]);
    assert_eq!(
        leader.asked(),
        [
            "add_server",
            "remove_server",
            "replace_server",
            "transfer_leadership",
            "activate"
        ]
    );
}

#[tokio::test]
async fn what_one_server_does_is_asked_of_that_one() {
    let (one, other) = (
        Node::new(1, Role::Leader, 5, ""),
        Node::new(2, Role::Follower, 5, ""),
    );
    let endpoints = [one.serve().await, other.serve().await];
    let admin = Admin::with_options(&endpoints, options()).unwrap();
    let at = admin.endpoints()[1].clone();
    admin
        .bootstrap(&at, BootstrapRequest::default())
        .await
        .unwrap();
    admin
        .introduce(&at, IntroduceRequest::default())
        .await
        .unwrap();
    admin
        .trigger_election(&at, TriggerElectionRequest::default())
        .await
        .unwrap();
    admin.ping(&at).await.unwrap();
    admin.inspect(&at, InspectRequest::default()).await.unwrap();
    admin
        .stop_server(&at, StopServerRequest::default())
        .await
        .unwrap();
    assert_eq!(
        other.asked(),
        [
            "bootstrap",
            "introduce",
            "trigger_election",
            "ping",
            "inspect",
            "stop_server"
        ]
    );
    assert!(one.asked().is_empty());
}

#[tokio::test]
async fn members_are_by_the_word_of_the_leader_or_of_the_furthest() {
    let leader = Node::new(1, Role::Leader, 5, "").serve().await;
    let ahead = Node::new(2, Role::Follower, 9, "").serve().await;
    let behind = Node::new(3, Role::Follower, 4, "").serve().await;
    let gone = refusing().await.to_string();
    let admin = Admin::with_options([&gone, &ahead, &leader, &behind], options()).unwrap();
    let members = admin.members().await.unwrap();
    assert_eq!(
        (members.seen_by.as_str(), members.seen_by_leader),
        ("0000000000000001", true)
    );
    let statuses = admin.status().await;
    assert_eq!(statuses.len(), 4);
    assert_eq!(
        statuses[0].1.as_ref().unwrap_err().reason(),
        Some("UNREACHABLE")
    );
    assert!(statuses[1..].iter().all(|(_, status)| status.is_ok()));

    let admin = Admin::with_options([&behind, &ahead], options()).unwrap();
    let members = admin.members().await.unwrap();
    assert_eq!(
        (members.seen_by.as_str(), members.seen_by_leader),
        ("0000000000000002", false)
    );
}

#[tokio::test]
async fn a_joiner_has_no_members() {
    let mut joiner = Node::new(1, Role::Joiner, 0, "");
    joiner.status.configuration = None;
    let admin = Admin::with_options([joiner.serve().await], options()).unwrap();
    assert_eq!(
        admin.members().await.unwrap_err().reason(),
        Some("NOT_A_MEMBER")
    );
}

#[tokio::test]
async fn a_leader_is_awaited_across_waits_that_time_out() {
    let node = Node::new(1, Role::Follower, 5, "");
    *node.leaderless.lock().unwrap() = 3;
    let admin = Admin::with_options([node.serve().await], options()).unwrap();
    let answer = admin.await_leader(Duration::from_secs(30)).await.unwrap();
    assert_eq!(answer.leader.unwrap().server_id, "0000000000000001");
    assert_eq!(*node.leaderless.lock().unwrap(), 0);
}
