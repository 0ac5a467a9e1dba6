//! Survivors of a cluster that has lost its quorum are quarantined: nothing goes on from what they have.

mod common;

use common::{NodeProcess, cluster, eventually};
use kontiki_proto::kv::kv_client::KvClient;
use kontiki_proto::kv::{GetRequest, PutRequest, WatchRequest};
use kontiki_proto::{reason, v1};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

async fn kv(node: &NodeProcess) -> KvClient<Channel> {
    KvClient::connect(format!("http://{}", node.client))
        .await
        .expect("it listens")
}

async fn quarantine(node: &NodeProcess, why: &str) -> Result<(), Status> {
    let request = v1::QuarantineRequest {
        cluster_id: "c1".into(),
        server_id: node.server_id.clone(),
        why: why.into(),
    };
    node.admin().await.quarantine(request).await.map(drop)
}

fn told(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    let info = details.error_info().expect("a detail");
    (status.code(), info.reason.clone())
}

#[tokio::test]
async fn a_survivor_keeps_what_it_has_and_serves_nothing() {
    let (mut nodes, leader) = cluster(3).await;
    let put = PutRequest {
        key: "k".into(),
        value: "kept".into(),
        ..PutRequest::default()
    };
    let put = kv(&nodes[leader]).await.put(put.clone()).await;
    let revision = put.expect("put").into_inner().revision;
    let mut applied = 0;
    for node in &nodes {
        let status = eventually("it has applied the write", async || {
            let status = node.status().await;
            let all = nodes[leader].status().await.last_index;
            (status.applied_index == all).then_some(status)
        })
        .await;
        applied = status.applied_index;
        // Whoever knows a leader refuses: the quorum is not lost.
        let refused = quarantine(node, "a mistake").await.expect_err("refused");
        let has_leader = reason::HAS_LEADER.to_owned();
        assert_eq!(told(&refused), (Code::FailedPrecondition, has_leader));
    }
    let watch = WatchRequest {
        start_revision: revision,
        ..WatchRequest::default()
    };
    let survivor = (leader + 1) % 3;
    let mut stream = kv(&nodes[survivor]).await.watch(watch).await;
    let stream = stream.as_mut().expect("served").get_mut();
    let first = stream.message().await.expect("served").expect("a message");
    assert_eq!(first.revision, revision);

    for at in [leader, (leader + 2) % 3] {
        let _ = nodes[at].child.kill();
    }
    let node = &nodes[survivor];
    let long = "x".repeat(1025);
    for (why, expected) in [("", reason::INVALID), (&long, reason::TOO_LARGE)] {
        let refused = quarantine(node, why).await.expect_err("refused");
        assert_eq!(told(&refused), (Code::InvalidArgument, expected.to_owned()));
    }
    let why = "quorum lost: 1 of 3 voters live";
    eventually("it notices that it has no leader", async || {
        quarantine(node, why).await.ok()
    })
    .await;
    // Once more is no error, and changes nothing.
    quarantine(node, "another reason")
        .await
        .expect("it is done");

    let status = node.status().await;
    assert_eq!(
        (status.quarantine.as_str(), status.applied_index),
        (why, applied)
    );
    let get = GetRequest {
        key: "k".into(),
        consistency: v1::Consistency::Stale.into(),
        ..GetRequest::default()
    };
    let refused = kv(node).await.get(get).await.expect_err("not served");
    let quarantined = (Code::Unavailable, reason::QUARANTINED.to_owned());
    assert_eq!(told(&refused), quarantined);
    assert!(refused.message().contains(why), "{refused}");
    let ended = loop {
        match stream.message().await {
            Ok(message) => assert_eq!(message.expect("an error ends it").events, []),
            Err(ended) => break ended,
        }
    };
    assert_eq!(told(&ended), quarantined);
    assert!(
        ended
            .message()
            .contains(&format!("from revision {}", revision + 1))
    );
    let trigger = v1::TriggerElectionRequest::default();
    let refused = node.admin().await.trigger_election(trigger).await;
    assert_eq!(told(&refused.expect_err("it never leads")), quarantined);
    // What it has is there, for people.
    let inspect = v1::InspectRequest {
        cluster_id: "c1".into(),
        first_index: applied,
        ..v1::InspectRequest::default()
    };
    let shown = node.admin().await.inspect(inspect).await.expect("shown");
    let entry = &shown.into_inner().entries[0];
    assert!(entry.payload.ends_with(b"kept"), "{entry:?}");
    eventually("its metrics say so", async || {
        (node.metric("kontiki_quarantined") == 1.0).then_some(())
    })
    .await;
    assert_eq!(node.metric("kontiki_machine_version"), 1.0);
    assert_eq!(node.metric("kontiki_diverged"), 0.0);

    let joiner = NodeProcess::start("joiner", &[]);
    let refused = quarantine(&joiner, why).await.expect_err("it is fresh");
    assert_eq!(refused.code(), Code::FailedPrecondition);
}
