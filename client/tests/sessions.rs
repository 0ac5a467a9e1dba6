//! Writes in a session: what is sent again, under which sequence, and what a caller is told.

mod common;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Say, failed};
use kontiki_client::proto::kv::kv_server::KvServer;
use kontiki_client::proto::v1::data_server::{Data, DataServer};
use kontiki_client::proto::v1::*;
use kontiki_client::proto::{ERROR_DOMAIN, metadata};
use kontiki_client::{Client, ClusterChange, Error, Options};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

/// Answers writes as its script says, and remembers where in which session each was.
#[derive(Debug, Clone, Default)]
struct Server(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Say>,
    then: Option<Say>,
    /// Session, sequence, acknowledged of every write; zeros outside a session.
    seen: Vec<(u64, u64, u64)>,
    opened: u64,
    /// Of every write and every session that was closed.
    clusters: Vec<String>,
    closed: Vec<u64>,
    /// The cluster that it says to be of.
    cluster_id: String,
    window_max: u32,
}

fn unknown(code: Code, reason: &str) -> Status {
    let outcome = [(metadata::OUTCOME.to_owned(), "UNKNOWN".to_owned())];
    let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, outcome);
    Status::with_error_details(code, format!("scripted {reason}"), details)
}

impl Server {
    fn new(script: impl IntoIterator<Item = Say>, then: Option<Say>) -> Self {
        let state = State {
            script: script.into_iter().collect(),
            then,
            window_max: 100,
            cluster_id: "c1".to_owned(),
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    async fn client(&self, options: Options) -> Client {
        self.client_of(common::Server::default(), options).await
    }

    /// A client of this server that has `kv` beside it.
    async fn client_of(&self, kv: common::Server, options: Options) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(DataServer::new(self.clone()))
                .add_service(KvServer::new(kv))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Client::with_options([address], options).unwrap()
    }
}

#[tonic::async_trait]
impl Data for Server {
    async fn write(
        &self,
        request: Request<WriteRequest>,
    ) -> Result<Response<WriteResponse>, Status> {
        let at = request.into_inner().in_session.unwrap_or_default();
        let say = {
            let mut state = self.state();
            state.seen.push((at.session, at.sequence, at.acknowledged));
            state.clusters.push(at.cluster_id);
            let then = state.then.clone();
            state.script.pop_front().or(then).unwrap_or(Say::Ok)
        };
        match say {
            Say::Ok => Ok(Response::new(WriteResponse {
                index: at.sequence,
                ..WriteResponse::default()
            })),
            Say::Failed(code, reason) => Err(failed(code, reason, None)),
            Say::Bare(Code::DataLoss) => Err(unknown(Code::DataLoss, "REPLY_FORGOTTEN")),
            Say::Bare(code) => Err(Status::new(code, "a proxy speaks")),
            Say::Silence => std::future::pending().await,
            Say::Redirect(leader) => Err(failed(
                Code::FailedPrecondition,
                "NOT_LEADER",
                Some(&leader),
            )),
        }
    }

    type WriteStreamStream = tokio_stream::Empty<Result<WriteStreamResponse, Status>>;

    async fn write_stream(
        &self,
        _: Request<Streaming<WriteStreamRequest>>,
    ) -> Result<Response<Self::WriteStreamStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn open_session(
        &self,
        _: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionResponse>, Status> {
        let mut state = self.state();
        state.opened += 1;
        Ok(Response::new(OpenSessionResponse {
            session: 10 * state.opened,
            ttl_milliseconds: 1000,
            window_max: state.window_max,
            cluster_id: state.cluster_id.clone(),
        }))
    }

    async fn close_session(
        &self,
        request: Request<CloseSessionRequest>,
    ) -> Result<Response<CloseSessionResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        state.closed.push(request.session);
        if request.cluster_id != state.cluster_id {
            return Err(failed(Code::FailedPrecondition, "WRONG_CLUSTER", None));
        }
        Ok(Response::new(CloseSessionResponse {}))
    }

    async fn read(&self, _: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}

fn options() -> Options {
    Options {
        sessions: true,
        ..common::options()
    }
}

const EXPIRED: Say = Say::Failed(Code::NotFound, "SESSION_EXPIRED");

const WRONG_CLUSTER: Say = Say::Failed(Code::FailedPrecondition, "WRONG_CLUSTER");

#[tokio::test]
async fn what_is_unknown_is_sent_again_in_its_place_until_it_is_known() {
    let server = Server::new(
        [
            Say::Ok,
            Say::Bare(Code::Unavailable),
            Say::Failed(Code::Unavailable, "NO_LEADER"),
            Say::Silence,
            Say::Ok,
        ],
        None,
    );
    let client = server
        .client(Options {
            attempt_timeout: Duration::from_secs(1),
            ..options()
        })
        .await;
    assert_eq!(client.write("a").await.unwrap().index, 1);
    assert_eq!(client.write("b").await.unwrap().index, 2);
    let expected = [(10, 1, 0), (10, 2, 1), (10, 2, 1), (10, 2, 1), (10, 2, 1)];
    assert_eq!(server.state().seen, expected);
    assert_eq!(server.state().opened, 1);
    client.close_session().await.unwrap();
    assert_eq!(server.state().closed, [10]);
}

#[tokio::test]
async fn no_failure_settles_what_was_unknown_before() {
    for last in [
        EXPIRED,
        WRONG_CLUSTER,
        Say::Failed(Code::InvalidArgument, "REFUSED_BY_MACHINE"),
        Say::Failed(Code::OutOfRange, "SEQUENCE_ALREADY_ACKNOWLEDGED"),
        Say::Bare(Code::DataLoss),
    ] {
        let server = Server::new([Say::Bare(Code::Unavailable), last.clone()], None);
        let client = server.client(options()).await;
        let error = client.write("a").await.unwrap_err();
        assert!(error.is_unknown(), "{last:?}: {error}");
        if let Say::Failed(_, reason) = last {
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert_eq!(server.state().seen.len(), 2, "{last:?}");
        // The next write is another session's.
        client.write("b").await.unwrap();
        assert_eq!(server.state().seen[2], (20, 1, 0), "{last:?}");
    }
}

#[tokio::test]
async fn at_the_deadline_an_unknown_write_is_unknown_though_the_last_attempt_failed() {
    let no_leader = Say::Failed(Code::Unavailable, "NO_LEADER");
    for (first, is_unknown) in [
        (Say::Bare(Code::Unavailable), true),
        (no_leader.clone(), false),
    ] {
        let server = Server::new([first], Some(no_leader.clone()));
        let options = Options {
            timeout: Duration::from_secs(1),
            attempt_timeout: Duration::from_secs(30),
            ..options()
        };
        let error = server.client(options).await.write("a").await.unwrap_err();
        assert_eq!(error.is_unknown(), is_unknown, "{error}");
    }
}

#[tokio::test]
async fn a_new_write_that_meets_an_expired_session_goes_into_another() {
    let server = Server::new([Say::Ok, EXPIRED, Say::Ok, Say::Ok], None);
    let client = server.client(options()).await;
    for _ in 0..3 {
        client.write("a").await.unwrap();
    }
    let expected = [(10, 1, 0), (10, 2, 1), (20, 1, 0), (20, 2, 1)];
    assert_eq!(server.state().seen, expected);
}

#[tokio::test]
async fn a_write_that_was_given_up_is_acknowledged_by_the_next() {
    let server = Server::new([Say::Silence, Say::Ok], None);
    let client = server.client(options()).await;
    let given_up = tokio::spawn({
        let client = client.clone();
        async move { client.write("a").await }
    });
    while server.state().seen.is_empty() {
        tokio::task::yield_now().await;
    }
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    client.write("b").await.unwrap();
    assert_eq!(server.state().seen, [(10, 1, 0), (10, 2, 1)]);
}

#[tokio::test]
async fn clones_share_a_session_and_its_window() {
    let server = Server::new([], None);
    server.state().window_max = 3;
    let client = server.client(options()).await;
    let writes = (0..40).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.write("a").await.unwrap().index })
    });
    let mut sequences = futures::future::join_all(writes)
        .await
        .into_iter()
        .collect::<Result<Vec<u64>, _>>()
        .unwrap();
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=40).collect::<Vec<u64>>());
    let state = server.state();
    assert_eq!(state.opened, 1);
    for (session, sequence, acknowledged) in &state.seen {
        assert_eq!(*session, 10);
        assert!(sequence > acknowledged && *sequence <= acknowledged + 3);
    }
}

#[tokio::test]
async fn a_full_window_fails_a_write_that_was_never_sent() {
    let server = Server::new([], None);
    server.state().window_max = 1;
    let client = server
        .client(Options {
            timeout: Duration::from_secs(1),
            ..options()
        })
        .await;
    let held = client.place().await.unwrap().expect("with sessions");
    let error = client.write("a").await.unwrap_err();
    assert_eq!(error.reason(), Some("SESSION_WINDOW_FULL"), "{error}");
    assert!(server.state().seen.is_empty());
    drop(held);
    client.write("a").await.unwrap();
    assert_eq!(server.state().seen, [(10, 2, 1)]);
}

#[tokio::test]
async fn a_client_may_go_without() {
    let server = Server::new([Say::Bare(Code::Unavailable)], None);
    let client = server
        .client(Options {
            sessions: false,
            ..options()
        })
        .await;
    let error = client.write("a").await.unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
    assert!(client.place().await.unwrap().is_none());
    assert_eq!(server.state().seen, [(0, 0, 0)]);
    assert_eq!(server.state().opened, 0);
}

#[tokio::test]
async fn h1_a_new_write_that_meets_another_cluster_goes_into_a_session_of_it_and_the_caller_hears_of_it()
 {
    let server = Server::new([Say::Ok, WRONG_CLUSTER], None);
    let client = server.client(options()).await;
    let mut changes = client.clone().cluster_changes();
    client.write("a").await.unwrap();
    assert_eq!(client.cluster_change(), None);
    server.state().cluster_id = "c2".to_owned();
    client.write("b").await.unwrap();
    let expected = [(10, 1, 0), (10, 2, 1), (20, 1, 0)];
    assert_eq!(server.state().seen, expected);
    assert_eq!(server.state().clusters, ["c1", "c1", "c2"]);
    let change = ClusterChange {
        former: "c1".to_owned(),
        present: "c2".to_owned(),
        count: 1,
    };
    assert_eq!(changes.next().await, Some(change.clone()));
    assert_eq!(client.cluster_change(), Some(change));
    client.write("c").await.unwrap();
    assert_eq!(server.state().seen[3], (20, 2, 1), "and goes on there");
    client.close_session().await.unwrap();
    assert_eq!(server.state().closed, [20]);
    drop(client);
    assert_eq!(changes.next().await, None, "one change, told once");
}

#[tokio::test]
async fn h1_a_write_in_doubt_is_never_sent_to_another_cluster() {
    let server = Server::new([Say::Ok, Say::Bare(Code::Unavailable), WRONG_CLUSTER], None);
    let client = server.client(options()).await;
    client.write("a").await.unwrap();
    server.state().cluster_id = "c2".to_owned();
    let error = client.write("b").await.unwrap_err();
    assert!(error.is_unknown(), "{error}");
    assert!(error.to_string().contains("WRONG_CLUSTER"), "{error}");
    let expected = [(10, 1, 0), (10, 2, 1), (10, 2, 1)];
    assert_eq!(server.state().seen, expected);
    assert_eq!(server.state().clusters, ["c1"; 3]);
    // The next write is the first in the other cluster, and the caller hears that it is another.
    client.write("c").await.unwrap();
    assert_eq!(server.state().seen[3], (20, 1, 0));
    let change = client.cluster_change().expect("seen");
    assert_eq!((&change.former[..], &change.present[..]), ("c1", "c2"));
}

#[tokio::test]
async fn h1_a_session_of_a_cluster_that_is_gone_counts_as_closed() {
    let server = Server::new([], None);
    let client = server.client(options()).await;
    client.write("a").await.unwrap();
    server.state().cluster_id = "c2".to_owned();
    client.close_session().await.unwrap();
    client.write("b").await.unwrap();
    assert_eq!(server.state().clusters, ["c1", "c2"]);
}

#[tokio::test]
async fn h1_a_write_with_a_condition_is_not_carried_over_into_another_cluster() {
    let (server, kv) = (Server::new([], None), common::Server::default());
    let client = server.client_of(kv.clone(), options()).await;
    client.write("a").await.unwrap();
    kv.state.lock().unwrap().script = [WRONG_CLUSTER, Say::Ok].into();
    server.state().cluster_id = "c2".to_owned();
    // Revision 7 of the former cluster.
    let error = client.put_if("k", "v", 7).await.unwrap_err();
    assert_eq!(error.reason(), Some("WRONG_CLUSTER"), "{error}");
    for named in ["c1", "c2"] {
        assert!(error.to_string().contains(named), "{error}");
    }
    assert_eq!(kv.state.lock().unwrap().puts.len(), 1, "and sent once");
    // The next one is meant for the cluster that is there.
    client.put_if("k", "v", 0).await.unwrap();
    assert_eq!(client.cluster_change().expect("seen").present, "c2");
}
