//! Writes in a session, sent again and again: to the same leader, to another one, after the session
//! is gone. The counter counts how often each was applied.

mod common;

use std::io::Write;

use common::{NodeProcess, cluster_of_id, cluster_with, eventually};
use kontiki_proto::v1::data_client::DataClient;
use kontiki_proto::v1::streamed_result::Result as StreamResult;
use kontiki_proto::v1::{self, InSession, WriteRequest, WriteResponse};
use kontiki_proto::{metadata, reason};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

const COUNTER: &[&str] = &["--machine", "counter"];

async fn data(node: &NodeProcess) -> DataClient<Channel> {
    DataClient::connect(format!("http://{}", node.client))
        .await
        .expect("it listens")
}

/// A session, and the cluster that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    id: u64,
    cluster_id: String,
}

async fn open(node: &NodeProcess) -> Session {
    let request = v1::OpenSessionRequest {};
    let opened = data(node).await.open_session(request).await;
    let opened = opened.expect("opened").into_inner();
    assert_eq!(opened.window_max, 1024);
    Session {
        id: opened.session,
        cluster_id: opened.cluster_id,
    }
}

/// Adds one.
async fn write(node: &NodeProcess, in_session: InSession) -> Result<WriteResponse, Seen> {
    let request = WriteRequest {
        command: "1".into(),
        in_session: Some(in_session),
    };
    let written = data(node).await.write(request).await;
    written
        .map(tonic::Response::into_inner)
        .map_err(|status| seen(&status))
}

async fn count(node: &NodeProcess) -> String {
    let request = v1::ReadRequest {
        query: "x".into(),
        consistency: v1::Consistency::Linearizable.into(),
        ..v1::ReadRequest::default()
    };
    let read = data(node).await.read(request).await.expect("read");
    String::from_utf8(read.into_inner().reply.to_vec()).expect("text")
}

fn at(session: &Session, sequence: u64, acknowledged: u64) -> InSession {
    InSession {
        session: session.id,
        sequence,
        acknowledged,
        cluster_id: session.cluster_id.clone(),
    }
}

/// Code, reason, outcome.
type Seen = (Code, String, String);

fn seen(status: &Status) -> Seen {
    let details = status.get_error_details();
    let info = details.error_info().expect("a detail");
    let outcome = info.metadata.get(metadata::OUTCOME).expect("an outcome");
    (status.code(), info.reason.clone(), outcome.clone())
}

fn failed(code: Code, reason: &str) -> Seen {
    (code, reason.into(), "FAILED".into())
}

/// Sends it to every server until one has written it in a later term than `term`; which one.
async fn insist(nodes: &[NodeProcess], term: u64, in_session: InSession) -> (usize, WriteResponse) {
    eventually("written by another leader", async || {
        for (at, node) in nodes.iter().enumerate() {
            if node.status().await.term > term
                && let Ok(written) = write(node, in_session.clone()).await
            {
                return Some((at, written));
            }
        }
        None
    })
    .await
}

#[tokio::test]
async fn a_write_sent_again_is_applied_once_by_one_leader_after_the_other() {
    let (mut nodes, leader) = cluster_with(3, COUNTER).await;
    let session = open(&nodes[leader]).await;
    let first = write(&nodes[leader], at(&session, 1, 0))
        .await
        .expect("written");
    assert_eq!(&first.reply[..], b"1");
    assert_eq!(write(&nodes[leader], at(&session, 1, 0)).await, Ok(first));
    // In flight several times at once, and out of order.
    let third = write(&nodes[leader], at(&session, 3, 0))
        .await
        .expect("written");
    let (one, other, another) = tokio::join!(
        write(&nodes[leader], at(&session, 2, 0)),
        write(&nodes[leader], at(&session, 2, 0)),
        write(&nodes[leader], at(&session, 2, 0)),
    );
    let second = one.expect("written");
    assert_eq!((other, another), (Ok(second.clone()), Ok(second.clone())));
    assert_eq!(
        (&third.reply[..], &second.reply[..]),
        (&b"2"[..], &b"3"[..])
    );

    let term = nodes[leader].status().await.term;
    let request = v1::TransferLeadershipRequest::default();
    let mut admin = nodes[leader].admin().await;
    let transferred = admin.transfer_leadership(request).await;
    transferred.expect("transferred");
    let (next, again) = insist(&nodes, term, at(&session, 2, 1)).await;
    assert_eq!(again, second);
    assert_eq!(insist(&nodes, term, at(&session, 3, 1)).await.1, third);

    // And after the leader's death, what it alone has answered.
    let (_, fourth) = insist(&nodes, term, at(&session, 4, 1)).await;
    let term = nodes[next].status().await.term;
    drop(nodes.remove(next));
    let (next, again) = insist(&nodes, term, at(&session, 4, 1)).await;
    assert_eq!(again, fourth);
    assert_eq!(insist(&nodes, term, at(&session, 3, 1)).await.1, third);
    let next = &nodes[next];
    assert_eq!(count(next).await, "4", "applied, each once");
}

#[tokio::test]
async fn what_a_session_does_not_allow_is_refused_with_its_reason_and_not_applied() {
    let (nodes, leader) = cluster_with(1, COUNTER).await;
    let node = &nodes[leader];
    let session = open(node).await;
    write(node, at(&session, 1, 0)).await.expect("written");
    write(node, at(&session, 2, 1)).await.expect("written");
    let refused = async |in_session| write(node, in_session).await.expect_err("refused");
    let backwards = failed(Code::OutOfRange, reason::SEQUENCE_ALREADY_ACKNOWLEDGED);
    assert_eq!(refused(at(&session, 1, 0)).await, backwards);
    let full = failed(Code::ResourceExhausted, reason::SESSION_WINDOW_FULL);
    assert_eq!(refused(at(&session, 1026, 1)).await, full);
    let unknown = failed(Code::NotFound, reason::SESSION_EXPIRED);
    let with_id = |id| Session {
        id,
        ..session.clone()
    };
    let next = with_id(session.id + 1);
    assert_eq!(refused(at(&next, 1, 0)).await, unknown);
    let invalid = failed(Code::InvalidArgument, reason::INVALID);
    for in_session in [
        at(&with_id(0), 1, 0),
        at(&session, 0, 0),
        at(&session, 3, 3),
    ] {
        assert_eq!(refused(in_session.clone()).await, invalid, "{in_session:?}");
    }
    let shows = async |open: f64| {
        eventually("the number of sessions", async || {
            (node.metric("kontiki_sessions") == open).then_some(())
        })
        .await;
    };
    shows(1.0).await;
    let close = v1::CloseSessionRequest {
        session: session.id,
        cluster_id: session.cluster_id.clone(),
    };
    for _ in 0..2 {
        let closed = data(node).await.close_session(close.clone()).await;
        closed.expect("closed");
    }
    assert_eq!(refused(at(&session, 3, 2)).await, unknown);
    shows(0.0).await;
    assert_eq!(count(node).await, "2");
}

/// A write that adds to the counter outside any session, as many times as it takes to compact the
/// log past `index`.
async fn compact(node: &NodeProcess, index: u64) {
    let mut data = data(node).await;
    eventually("the log is compacted", async || {
        let request = WriteRequest {
            command: "0".into(),
            in_session: None,
        };
        data.write(request).await.expect("written");
        (node.status().await.first_index > index).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_session_is_part_of_the_snapshot_that_refills_the_next_leader() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "limits: {{logTailBytes: 4096}}").expect("written");
    let path = file.path().to_str().expect("text");
    let arguments = [COUNTER, &["--config", path]].concat();
    let (mut nodes, _) = cluster_with(1, &arguments).await;
    let old = nodes.remove(0);
    let session = open(&old).await;
    let first = write(&old, at(&session, 1, 0)).await.expect("written");
    let second = write(&old, at(&session, 2, 0)).await.expect("written");
    compact(&old, second.index).await;

    // It never sees the entries of the session, only the snapshot.
    let fresh = NodeProcess::start("fresh", &arguments);
    let request = v1::AddServerRequest {
        servers: vec![fresh.server()],
        ..v1::AddServerRequest::default()
    };
    let added = old.admin().await.add_server(request).await;
    added.expect("added");
    assert!(fresh.status().await.first_index > second.index);
    let request = v1::TransferLeadershipRequest {
        target: fresh.server_id.clone(),
        ..v1::TransferLeadershipRequest::default()
    };
    let transferred = old.admin().await.transfer_leadership(request).await;
    transferred.expect("transferred");
    let nodes = [fresh];
    assert_eq!(insist(&nodes, 0, at(&session, 1, 0)).await.1, first);
    assert_eq!(insist(&nodes, 0, at(&session, 2, 0)).await.1, second);
    let (_, third) = insist(&nodes, 0, at(&session, 3, 2)).await;
    assert_eq!(insist(&nodes, 0, at(&session, 3, 2)).await.1, third);
    assert_eq!(count(&nodes[0]).await, "3", "applied, each once");
}

/// One node with these settings of sessions.
async fn node_with(sessions: &str) -> NodeProcess {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "sessions: {sessions}").expect("written");
    let path = file.path().to_str().expect("text");
    let arguments = [COUNTER, &["--config", path]].concat();
    let (mut nodes, _) = cluster_with(1, &arguments).await;
    nodes.remove(0)
}

#[tokio::test]
async fn an_idle_session_expires_and_is_not_opened_again_by_its_use() {
    let node = &node_with("{ttlMilliseconds: 1000}").await;
    // A machine that stands still for a second makes it expire at once.
    let (session, index) = eventually("a write in a session", async || {
        let session = open(node).await;
        let written = write(node, at(&session, 1, 0)).await.ok()?;
        Some((session, written.index as f64))
    })
    .await;
    let written: u64 = count(node).await.parse().expect("a number");
    let shown = async |metric, wanted: f64| {
        eventually(metric, async || {
            // In this order: what is shown is as of the write, or later.
            let is_shown = node.metric("kontiki_applied_index") >= index;
            (is_shown && node.metric(metric) == wanted).then_some(())
        })
        .await;
    };
    // They are gone, and with them the entries that count the time.
    shown("kontiki_sessions", 0.0).await;
    shown("kontiki_session_bytes", 0.0).await;
    let last = node.status().await.last_index;
    let expired = failed(Code::NotFound, reason::SESSION_EXPIRED);
    for in_session in [at(&session, 1, 0), at(&session, 2, 1)] {
        assert_eq!(write(node, in_session).await, Err(expired.clone()));
    }
    assert_eq!(count(node).await, written.to_string());
    assert_eq!(node.status().await.last_index, last + 2);
}

#[tokio::test]
async fn sessions_are_bounded_in_number_and_in_bytes() {
    let node = &node_with("{sessionsMax: 2}").await;
    let sessions = [open(node).await, open(node).await, open(node).await];
    let expired = failed(Code::NotFound, reason::SESSION_EXPIRED);
    assert_eq!(write(node, at(&sessions[0], 1, 0)).await, Err(expired));
    for session in &sessions[1..] {
        write(node, at(session, 1, 0)).await.expect("open");
    }

    // Far from their ttl, more than fit: a clock entry makes room.
    let node = &node_with("{bytesMax: 65536}").await;
    let mut data = data(node).await;
    let mut newest = open(node).await;
    for _ in 0..400 {
        let opened = data.open_session(v1::OpenSessionRequest {}).await;
        newest.id = opened.expect("opened").into_inner().session;
    }
    eventually("all fit", async || {
        let bytes = node.metric("kontiki_session_bytes");
        (bytes > 32768.0 && bytes <= 65536.0).then_some(())
    })
    .await;
    assert!(node.metric("kontiki_sessions") < 401.0);
    write(node, at(&newest, 1, 0))
        .await
        .expect("the newest is open");
}

#[tokio::test]
async fn a_stream_takes_writes_of_a_session_and_kv_does() {
    let (nodes, leader) = cluster_with(1, COUNTER).await;
    let node = &nodes[leader];
    let session = open(node).await;
    // Each twice, in one message.
    let commands = (1..=200).map(|id| v1::StreamedCommand {
        id,
        command: "1".into(),
        in_session: Some(at(&session, id.div_ceil(2), 0)),
    });
    let message = v1::WriteStreamRequest {
        commands: commands.collect(),
    };
    let mut data = data(node).await;
    let stream = data.write_stream(futures::stream::iter([message]));
    let mut stream = stream.await.expect("a stream").into_inner();
    let mut replies = std::collections::BTreeMap::new();
    while let Some(message) = stream.message().await.expect("no error") {
        for result in message.results {
            let Some(StreamResult::Written(written)) = result.result else {
                panic!("{result:?}")
            };
            replies.insert(result.id, written);
        }
    }
    assert_eq!(replies.len(), 200);
    for sequence in 1..=100 {
        assert_eq!(replies[&(2 * sequence - 1)], replies[&(2 * sequence)]);
    }
    assert_eq!(count(node).await, "100");

    let (nodes, leader) = cluster_with(1, &[]).await;
    let session = open(&nodes[leader]).await;
    let address = format!("http://{}", nodes[leader].client);
    let kv = kontiki_proto::kv::kv_client::KvClient::connect(address);
    let mut kv = kv.await.expect("it listens");
    for _ in 0..2 {
        let request = kontiki_proto::kv::PutRequest {
            key: "k".into(),
            value: "v".into(),
            // Only the first time: sent again, it is answered and not judged anew.
            if_mod_revision: Some(0),
            in_session: Some(at(&session, 1, 0)),
            ..Default::default()
        };
        let put = kv.put(request).await.expect("put").into_inner();
        assert_eq!((put.revision, put.mismatch), (1, false));
        let request = kontiki_proto::kv::DeleteRequest {
            key: "k".into(),
            if_mod_revision: Some(1),
            in_session: Some(at(&session, 2, 0)),
            ..Default::default()
        };
        let deleted = kv.delete(request).await.expect("deleted").into_inner();
        assert_eq!((deleted.deleted, deleted.revision), (true, 2));
        assert!(!deleted.mismatch);
    }
}

#[tokio::test]
async fn h1_a_session_of_another_cluster_is_refused_by_name() {
    // Two clusters of their own, whose sessions have the same id.
    let (former, _) = cluster_of_id("c1", 1, COUNTER).await;
    let (present, _) = cluster_of_id("c2", 1, COUNTER).await;
    let (former, present) = (&former[0], &present[0]);
    let (theirs, mine) = (open(former).await, open(present).await);
    assert_eq!(theirs.id, mine.id, "this is what the test is about");
    assert_ne!(theirs.cluster_id, mine.cluster_id);
    for sequence in [1, 2] {
        let written = write(present, at(&mine, sequence, sequence - 1)).await;
        written.expect("written");
    }

    let mut data = data(present).await;
    let request = WriteRequest {
        command: "1".into(),
        in_session: Some(at(&theirs, 3, 2)),
    };
    let status = data.write(request.clone()).await.expect_err("refused");
    let wrong = failed(Code::FailedPrecondition, reason::WRONG_CLUSTER);
    assert_eq!(seen(&status), wrong);
    for cluster in [&theirs.cluster_id, &mine.cluster_id] {
        assert!(status.message().contains(cluster), "{}", status.message());
    }
    let details = status.get_error_details();
    let info = details.error_info().expect("a detail");
    assert_eq!(
        info.metadata.get(metadata::CLUSTER_ID),
        Some(&mine.cluster_id)
    );

    // In a stream as well, and to close it.
    let command = v1::StreamedCommand {
        id: 7,
        command: request.command,
        in_session: request.in_session,
    };
    let message = v1::WriteStreamRequest {
        commands: vec![command],
    };
    let stream = data.write_stream(futures::stream::iter([message])).await;
    let mut stream = stream.expect("a stream").into_inner();
    let results = stream.message().await.expect("no error").expect("a result");
    let Some(StreamResult::Error(error)) = &results.results[0].result else {
        panic!("{results:?}")
    };
    assert_eq!(error.reason, reason::WRONG_CLUSTER);
    let close = |session: &Session| v1::CloseSessionRequest {
        session: session.id,
        cluster_id: session.cluster_id.clone(),
    };
    let status = data
        .close_session(close(&theirs))
        .await
        .expect_err("refused");
    assert_eq!(seen(&status), wrong);

    // The session that has the id here is as it was.
    let third = write(present, at(&mine, 3, 2)).await.expect("written");
    assert_eq!(&third.reply[..], b"3");
    assert_eq!(write(present, at(&mine, 3, 2)).await, Ok(third));
    assert_eq!(count(present).await, "3");

    // Whoever names no cluster, or none that there could be, is told which field is missing.
    for cluster_id in ["", "0", "not hexadecimal"] {
        let nowhere = Session {
            cluster_id: cluster_id.to_owned(),
            ..mine.clone()
        };
        let request = WriteRequest {
            command: "1".into(),
            in_session: Some(at(&nowhere, 4, 3)),
        };
        let invalid = failed(Code::InvalidArgument, reason::INVALID);
        let status = data.write(request).await.expect_err("refused");
        assert_eq!(seen(&status), invalid);
        assert!(status.message().contains("in_session.cluster_id"));
        let status = data
            .close_session(close(&nowhere))
            .await
            .expect_err("refused");
        assert_eq!(seen(&status), invalid);
        assert!(status.message().contains("cluster_id"));
    }
    assert_eq!(count(present).await, "3");
}
