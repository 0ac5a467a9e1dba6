//! Messages that are not meant for this server: from another cluster, for another incarnation, or
//! in somebody else's name. All are dropped, and counted.

mod common;

use common::{NodeProcess, cluster, eventually};
use kontiki_proto::raft::peer_client::PeerClient;
use kontiki_proto::raft::peer_message::Body;
use kontiki_proto::raft::{Heartbeat, Hello, PeerMessage};
use kontiki_proto::{metadata, reason, v1};
use tonic::{Code, Status};
use tonic_types::StatusExt;

fn id(text: &str) -> u64 {
    u64::from_str_radix(text, 16).expect("an id")
}

fn heartbeat(cluster: u64, from: u64, to: u64) -> PeerMessage {
    // Of a term so high that whoever believed it would follow.
    let heartbeat = Heartbeat {
        term: 1000,
        commit: 0,
        round: 1,
        beat: None,
    };
    PeerMessage {
        cluster,
        from,
        to,
        body: Some(Body::Heartbeat(heartbeat)),
        ..PeerMessage::default()
    }
}

fn hello(cluster: u64, from: u64, to: u64) -> PeerMessage {
    PeerMessage {
        body: Some(Body::Hello(Hello::default())),
        ..heartbeat(cluster, from, to)
    }
}

/// Dials, and sends; keeps the stream open while the node is looked at.
async fn send(node: &NodeProcess, messages: Vec<PeerMessage>) -> Result<impl Drop, Status> {
    use futures::StreamExt;
    struct Open(Box<dyn std::any::Any>);
    impl Drop for Open {
        fn drop(&mut self) {
            let _ = &self.0;
        }
    }
    let mut client = PeerClient::connect(format!("http://{}", node.peer))
        .await
        .expect("it listens");
    let requests = futures::stream::iter(messages).chain(futures::stream::pending());
    let answers = client.liveness(requests).await?;
    Ok(Open(Box::new(answers)))
}

async fn dropped(node: &NodeProcess, reason: &str) {
    let name = format!("kontiki_peer_messages_dropped_total{{reason=\"{reason}\"}}");
    eventually("it is counted", async || {
        (node.metric(&name) >= 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn c8_strangers_are_dropped_and_counted() {
    let (nodes, leader) = cluster(1).await;
    let node = &nodes[leader];
    let term = node.status().await.term;
    let (mine, stranger) = (id(&node.server_id), 0x5eed);
    let cluster = 0xc1;

    let foreign = vec![
        hello(0xbad, stranger, mine),
        heartbeat(0xbad, stranger, mine),
    ];
    let _open = send(node, foreign).await.expect("a stranger may dial");
    dropped(node, "wrong_cluster").await;

    let forged = vec![
        hello(cluster, stranger, mine),
        heartbeat(cluster, stranger + 1, mine),
    ];
    let _open = send(node, forged).await.expect("a stranger may dial");
    dropped(node, "wrong_sender").await;

    let misled = vec![
        hello(cluster, stranger, mine),
        heartbeat(cluster, stranger, mine + 1),
    ];
    let _open = send(node, misled).await.expect("a stranger may dial");
    dropped(node, "wrong_server").await;

    let nonsense = PeerMessage {
        body: None,
        ..hello(cluster, stranger, mine)
    };
    let _open = send(node, vec![hello(cluster, stranger, mine), nonsense])
        .await
        .expect("dials");
    dropped(node, "malformed").await;

    assert_eq!(node.status().await.term, term, "nobody believed any of it");
}

#[tokio::test]
async fn c8_a_dial_for_another_incarnation_is_refused() {
    let node = NodeProcess::start("fresh", &[]);
    let other = id(&node.server_id) ^ 1;
    let Err(status) = send(&node, vec![hello(0, 0x5eed, other)]).await else {
        panic!("it took the call of another server");
    };
    assert_eq!(status.code(), Code::FailedPrecondition);
    let details = status.get_error_details();
    assert_eq!(
        details.error_info().expect("a detail").reason,
        reason::WRONG_SERVER
    );
    dropped(&node, "wrong_server").await;
}

#[tokio::test]
async fn admin_requests_for_others_are_refused() {
    let (nodes, leader) = cluster(1).await;
    let mut admin = nodes[leader].admin().await;
    let foreign = v1::ActivateRequest {
        cluster_id: "bad".into(),
    };
    let status = admin.activate(foreign).await.expect_err("another cluster");
    let info = status
        .get_error_details()
        .error_info()
        .expect("a detail")
        .clone();
    assert_eq!(info.reason, reason::WRONG_CLUSTER);
    assert_eq!(
        info.metadata.get(metadata::OUTCOME).map(String::as_str),
        Some("FAILED")
    );
    let other = v1::TriggerElectionRequest {
        cluster_id: String::new(),
        server_id: "1".into(),
    };
    let status = admin
        .trigger_election(other)
        .await
        .expect_err("another server");
    let info = status
        .get_error_details()
        .error_info()
        .expect("a detail")
        .clone();
    assert_eq!(info.reason, reason::WRONG_SERVER);
}
