//! Real node processes on loopback, with real signals.

mod cluster;
mod sessions;
mod state_limit;
mod total_loss;

use std::time::{Duration, Instant};

use kontiki_proto::raft::peer_client::PeerClient;
use kontiki_proto::raft::peer_message::Body;
use kontiki_proto::raft::{Heartbeat, Hello, PeerMessage};
use kontiki_proto::reason;
use kontiki_tests::node::{self, Node};
use rustix::process::Signal;
use tonic::Code;

use cluster::{Cluster, DEADLINE, admin, channel, detail, get, put, status};

/// From `kill -9` of the leader to the next acknowledged write, with default timers.
const FAILOVER_WITHIN: Duration = Duration::from_secs(3);

/// Waits until something holds; fails after [`DEADLINE`].
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_killed_leader_is_replaced_within_three_seconds_and_nothing_is_lost() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader(&[]).await;
    put(&cluster.nodes[leader], "before", "1")
        .await
        .expect("the leader takes writes");

    let killed = Instant::now();
    cluster.nodes[leader].signal(Signal::KILL);
    let survivors: Vec<usize> = (0..3).filter(|place| *place != leader).collect();
    let mut wrote_at = None;
    while wrote_at.is_none() {
        assert!(killed.elapsed() < DEADLINE, "no survivor takes a write");
        for place in &survivors {
            if put(&cluster.nodes[*place], "after", "2").await.is_ok() {
                wrote_at = Some(*place);
                break;
            }
        }
    }
    let gap = killed.elapsed();
    println!("from kill -9 of the leader to the next acknowledged write: {gap:?}");
    assert!(gap < FAILOVER_WITHIN, "{gap:?}");
    assert!(!cluster.nodes[leader].ends_well(DEADLINE), "it was killed");

    let place = cluster.leader(&[leader]).await;
    let found = get(&cluster.nodes[place], "before")
        .await
        .expect("it reads");
    assert_eq!(found.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_leader_told_to_stop_hands_over_and_exits_well() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader(&[]).await;
    let term = status(&cluster.nodes[leader])
        .await
        .expect("it answers")
        .term;

    cluster.nodes[leader].signal(Signal::TERM);
    assert!(cluster.nodes[leader].ends_well(DEADLINE), "exit status 0");
    // Handed over before it ended: no timeout of an election has passed since.
    let others: Vec<usize> = (0..3).filter(|place| *place != leader).collect();
    let mut successor = None;
    for place in others {
        let status = status(&cluster.nodes[place]).await.expect("it answers");
        assert!(
            status.leader.is_some(),
            "{} knows no leader",
            cluster.nodes[place].name
        );
        assert_eq!(status.term, term + 1, "one election, and one only");
        if status.serving {
            successor = Some(place);
        }
    }
    let successor = successor.expect("one of them leads");
    put(&cluster.nodes[successor], "key", "value")
        .await
        .expect("it takes writes");
}

#[tokio::test]
async fn a_write_to_a_follower_is_redirected_to_the_leader() {
    let cluster = Cluster::of_three().await;
    let leader = cluster.leader(&[]).await;
    let follower = &cluster.nodes[cluster.other_than(leader)];
    eventually("the follower knows the leader", async || {
        status(follower)
            .await
            .is_some_and(|status| status.leader.is_some())
    })
    .await;
    let refused = put(follower, "key", "value")
        .await
        .expect_err("a follower does not write");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let (why, outcome, address) = detail(&refused);
    assert_eq!(
        (why.as_str(), outcome.as_str()),
        (reason::NOT_LEADER, "FAILED")
    );
    assert_eq!(address, cluster.nodes[leader].client);
    let found = get(&cluster.nodes[leader], "key").await.expect("it reads");
    assert_eq!(found, None, "what failed was not applied");
}

#[tokio::test]
async fn failed_and_unknown_are_told_apart() {
    let stranger = Node::start("stranger", "");
    let refused = put(&stranger, "key", "value")
        .await
        .expect_err("it has no cluster");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let (why, outcome, _) = detail(&refused);
    assert_eq!(
        (why.as_str(), outcome.as_str()),
        (reason::NOT_A_MEMBER, "FAILED")
    );

    let cluster = Cluster::of_three().await;
    let leader = cluster.leader(&[]).await;
    let followers: Vec<&Node> = (0..3)
        .filter(|place| *place != leader)
        .map(|place| &cluster.nodes[place])
        .collect();
    for follower in &followers {
        follower.signal(Signal::STOP);
    }
    eventually("they stand still", async || {
        followers.iter().all(|follower| follower.is_stopped())
    })
    .await;
    // It leads still, and proposes; nobody answers.
    let unknown = put(&cluster.nodes[leader], "maybe", "1")
        .await
        .expect_err("no quorum");
    assert_eq!(unknown.code(), Code::Unknown, "{unknown:?}");
    let (why, outcome, _) = detail(&unknown);
    assert_eq!(
        (why.as_str(), outcome.as_str()),
        (reason::OUTCOME_UNKNOWN, "UNKNOWN")
    );
    // By now it knows that it has lost its quorum, and proposes nothing.
    eventually("the leader notices", async || {
        status(&cluster.nodes[leader])
            .await
            .is_some_and(|status| !status.serving)
    })
    .await;
    let failed = put(&cluster.nodes[leader], "never", "1")
        .await
        .expect_err("no quorum");
    assert_eq!(failed.code(), Code::Unavailable, "{failed:?}");
    assert_eq!(detail(&failed).1, "FAILED");
    for follower in &followers {
        follower.signal(Signal::CONT);
    }
    let leader = cluster.leader(&[]).await;
    let found = get(&cluster.nodes[leader], "never")
        .await
        .expect("it reads");
    assert_eq!(found, None, "what failed is never applied");
}

#[tokio::test]
async fn messages_of_another_cluster_are_dropped_and_counted() {
    let cluster = Cluster::of_three().await;
    let leader = cluster.leader(&[]).await;
    let node = &cluster.nodes[leader];
    let before = status(node).await.expect("it answers");
    let dropped = "kontiki_peer_messages_dropped_total{reason=\"wrong_cluster\"}";
    let counted = node
        .metric(dropped)
        .expect("the counter is there from the start");

    let to = u64::from_str_radix(&node.server_id, 16).expect("hexadecimal");
    let message = |body| PeerMessage {
        cluster: 0xbad,
        from: 0x5eed,
        to,
        body: Some(body),
        ..PeerMessage::default()
    };
    let hello = message(Body::Hello(Hello {
        node: "stranger".into(),
        peer_address: "127.0.0.1:1".into(),
        client_address: "127.0.0.1:1".into(),
    }));
    // It would depose the leader, were it taken.
    let heartbeat = message(Body::Heartbeat(Heartbeat {
        term: before.term + 1000,
        commit: 0,
        round: 1,
        beat: None,
    }));
    let stream = open_stream_of(vec![hello, heartbeat]);
    let mut peer = PeerClient::new(channel(&node.peer));
    let answers = peer
        .liveness(stream)
        .await
        .expect("strangers are let in, and counted");

    eventually("the message is counted", async || {
        node.metric(dropped).is_some_and(|now| now > counted)
    })
    .await;
    drop(answers);
    let after = status(node).await.expect("it answers");
    assert_eq!(after.term, before.term);
    assert!(after.serving);
    let mut admin = admin(node);
    let foreign = kontiki_proto::v1::ActivateRequest {
        cluster_id: "0000000000000bad".into(),
    };
    let refused = admin
        .activate(foreign)
        .await
        .expect_err("it names another cluster");
    assert_eq!(detail(&refused).0, reason::WRONG_CLUSTER);
}

/// These messages, and then silence: the stream stays open.
fn open_stream_of(
    messages: Vec<PeerMessage>,
) -> impl futures::Stream<Item = PeerMessage> + Send + 'static {
    use futures::StreamExt;
    futures::stream::iter(messages).chain(futures::stream::pending())
}
