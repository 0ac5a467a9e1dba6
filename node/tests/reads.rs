//! The modes of reading, asked of real nodes over gRPC.

mod common;

use common::{NodeProcess, cluster_with, eventually};
use kontiki_proto::kv::kv_client::KvClient;
use kontiki_proto::kv::{GetRequest, GetResponse, PutRequest};
use kontiki_proto::v1::Consistency;
use kontiki_proto::{metadata, reason};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

async fn kv(node: &NodeProcess) -> KvClient<Channel> {
    KvClient::connect(format!("http://{}", node.client))
        .await
        .expect("it listens")
}

async fn put(leader: &NodeProcess, value: &str) {
    let request = PutRequest {
        key: "k".into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    };
    kv(leader).await.put(request).await.expect("written");
}

fn get(consistency: Consistency, staleness_milliseconds: u32, forward: bool) -> GetRequest {
    GetRequest {
        key: "k".into(),
        consistency: consistency.into(),
        staleness_milliseconds,
        forward,
    }
}

async fn ask(node: &NodeProcess, request: GetRequest) -> Result<GetResponse, Status> {
    let answer = kv(node).await.get(request).await?;
    Ok(answer.into_inner())
}

fn value(answer: &GetResponse) -> &[u8] {
    answer.kv.as_ref().map_or(b"", |kv| &kv.value)
}

fn detail(status: &Status, key: &str) -> Option<String> {
    let details = status.get_error_details();
    let info = details.error_info().expect("a detail");
    info.metadata.get(key).cloned()
}

fn reason_of(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().expect("a detail").reason.clone()
}

#[tokio::test]
async fn a_follower_redirects_and_answers_by_itself_if_it_is_asked_to() {
    let (nodes, leader) = cluster_with(3, &[]).await;
    let follower = &nodes[(leader + 1) % 3];
    for consistency in [Consistency::Linearizable, Consistency::Lease] {
        let status = ask(follower, get(consistency, 0, false)).await;
        let status = status.expect_err("redirected");
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(reason_of(&status), reason::NOT_LEADER);
        let named = detail(&status, metadata::LEADER_ADDRESS);
        assert_eq!(named.as_ref(), Some(&nodes[leader].client));
    }
    for round in 0..20 {
        put(&nodes[leader], &format!("v{round}")).await;
        for consistency in [Consistency::Linearizable, Consistency::Lease] {
            let answer = ask(follower, get(consistency, 0, true)).await;
            let answer = answer.expect("the leader said how far it must be");
            assert_eq!(value(&answer), format!("v{round}").as_bytes());
        }
    }
}

#[tokio::test]
async fn a_leader_with_leases_answers_without_asking_anybody() {
    let (nodes, leader) = cluster_with(3, &["--lease-reads", "true"]).await;
    put(&nodes[leader], "v").await;
    let leased = || nodes[leader].metric("kontiki_leased_reads_total");
    eventually("a lease", async || {
        let answer = ask(&nodes[leader], get(Consistency::Lease, 0, false)).await;
        assert_eq!(value(&answer.expect("with or without one")), b"v");
        (leased() > 0.0).then_some(())
    })
    .await;
    // Nobody else knows what is read: with all others standing still the answer is as good, for as
    // long as they have promised, and is none after that.
    let others = (0..3).filter(|at| *at != leader);
    others.for_each(|at| nodes[at].freeze());
    eventually("the lease is over", async || {
        match ask(&nodes[leader], get(Consistency::Lease, 0, false)).await {
            Ok(answer) => {
                assert_eq!(value(&answer), b"v");
                None
            }
            Err(status) => {
                let why = reason_of(&status);
                let reasons = [reason::QUORUM_LOST, reason::NO_LEADER, reason::TIMED_OUT];
                assert!(reasons.contains(&why.as_str()), "{why}");
                Some(())
            }
        }
    })
    .await;
}

#[tokio::test]
async fn without_leases_a_lease_read_is_confirmed_by_the_others() {
    let (nodes, leader) = cluster_with(3, &[]).await;
    put(&nodes[leader], "v").await;
    for _ in 0..5 {
        let answer = ask(&nodes[leader], get(Consistency::Lease, 0, false)).await;
        assert_eq!(value(&answer.expect("a round")), b"v");
    }
    assert!(nodes[leader].metric("kontiki_leased_reads_total") < 0.5);
}

#[tokio::test]
async fn a_bounded_read_is_answered_by_who_is_fresh_enough_and_refused_with_both_numbers() {
    // A follower cut off from a leader that stands still grows old without electing another soon.
    let timers = ["--heartbeat-ms", "50", "--election-timeout-ms", "60000"];
    let (nodes, leader) = cluster_with(3, &timers).await;
    put(&nodes[leader], "v").await;
    for node in &nodes {
        let answer = eventually("fresh enough for a minute, with the value", async || {
            let answer = ask(node, get(Consistency::Bounded, 60_000, false)).await;
            answer.ok().filter(|answer| value(answer) == b"v")
        })
        .await;
        assert!(answer.revision <= 1);
    }
    let follower = &nodes[(leader + 1) % 3];
    nodes[leader].freeze();
    let status = eventually("too old for half a second", async || {
        let answer = ask(follower, get(Consistency::Bounded, 500, false)).await;
        answer.err()
    })
    .await;
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(reason_of(&status), reason::TOO_STALE);
    assert_eq!(detail(&status, metadata::OUTCOME), Some("FAILED".into()));
    let limit = detail(&status, metadata::STALENESS_MILLISECONDS);
    assert_eq!(limit, Some("500".into()));
    let age = detail(&status, metadata::AGE_MILLISECONDS).expect("it knows");
    assert!(age.parse::<u64>().expect("a number") >= 500, "{age}");
    assert!(status.message().contains("500ms"), "{status}");
    // A longer limit, and any: the state is still there.
    let answer = ask(follower, get(Consistency::Bounded, 3_600_000, false)).await;
    assert_eq!(value(&answer.expect("not an hour old")), b"v");
    let answer = ask(follower, get(Consistency::Stale, 0, false)).await;
    assert_eq!(value(&answer.expect("any age")), b"v");
}

#[tokio::test]
async fn a_follower_that_is_too_old_asks_the_leader_if_it_may() {
    let (nodes, leader) = cluster_with(3, &[]).await;
    put(&nodes[leader], "v").await;
    // A millisecond is less than a follower can know of.
    let follower = &nodes[(leader + 1) % 3];
    let status = ask(follower, get(Consistency::Bounded, 1, false)).await;
    assert_eq!(reason_of(&status.expect_err("too old")), reason::TOO_STALE);
    let answer = ask(follower, get(Consistency::Bounded, 1, true)).await;
    assert_eq!(value(&answer.expect("asked")), b"v");
}

#[tokio::test]
async fn fields_that_do_not_fit_each_other_are_named() {
    let (nodes, leader) = cluster_with(1, &[]).await;
    for (request, problem) in [
        (get(Consistency::Bounded, 0, false), "at least 1"),
        (get(Consistency::Stale, 5, false), "not BOUNDED"),
        (get(Consistency::Lease, 5, true), "not BOUNDED"),
    ] {
        let status = ask(&nodes[leader], request).await.expect_err(problem);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("staleness_milliseconds"));
        assert!(status.message().contains(problem), "{status}");
    }
}
