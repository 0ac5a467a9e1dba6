//! `kontiki.kv.v1.Kv/Watch`: every change once and in order, and errors that say where to go on.

mod common;

use std::io::Write;

use common::{NodeProcess, PATIENCE, cluster, cluster_of_id, cluster_with, eventually};
use kontiki_proto::kv::event::Kind;
use kontiki_proto::kv::kv_client::KvClient;
use kontiki_proto::kv::{DeleteRequest, GetRequest, PutRequest, WatchRequest, WatchResponse};
use kontiki_proto::{metadata, reason, v1};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

async fn kv(node: &NodeProcess) -> KvClient<Channel> {
    KvClient::connect(format!("http://{}", node.client))
        .await
        .expect("it listens")
}

async fn put(node: &NodeProcess, key: &str, value: impl Into<Vec<u8>>) -> u64 {
    let request = PutRequest {
        key: key.to_owned().into(),
        value: value.into().into(),
        ..PutRequest::default()
    };
    let answer = kv(node).await.put(request).await.expect("put");
    answer.into_inner().revision
}

fn from(start_revision: u64) -> WatchRequest {
    WatchRequest {
        start_revision,
        ..WatchRequest::default()
    }
}

/// A watch with what it said first.
async fn watch(
    node: &NodeProcess,
    request: WatchRequest,
) -> Result<(Streaming<WatchResponse>, WatchResponse), Status> {
    let mut stream = kv(node).await.watch(request).await?.into_inner();
    let first = next(&mut stream).await?;
    Ok((stream, first))
}

async fn next(stream: &mut Streaming<WatchResponse>) -> Result<WatchResponse, Status> {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await;
    let message = message.expect("it says something")?;
    Ok(message.expect("a watch ends with an error only"))
}

/// What becomes of a stream from which nothing is to come but its end.
async fn end_of(stream: &mut Streaming<WatchResponse>) -> Status {
    loop {
        match next(stream).await {
            Ok(response) => assert_eq!(response.events, [], "nothing changes any more"),
            Err(status) => return status,
        }
    }
}

/// Code, reason and two revisions of an error that says that it failed.
fn told(status: &Status) -> (Code, String, Option<u64>, Option<u64>) {
    let details = status.get_error_details();
    let info = details.error_info().expect("a detail");
    assert_eq!(info.metadata[metadata::OUTCOME], "FAILED");
    let revision = |key| {
        let text = info.metadata.get(key)?;
        Some(text.parse().expect("a number"))
    };
    (
        status.code(),
        info.reason.clone(),
        revision(metadata::COMPLETE_REVISION),
        revision(metadata::OLDEST_REVISION),
    )
}

/// Reads on until the watch is complete through a revision: all events as text.
async fn through(
    revision: u64,
    stream: &mut Streaming<WatchResponse>,
    first: WatchResponse,
) -> Vec<String> {
    let (mut events, mut response) = (Vec::new(), first);
    loop {
        for event in &response.events {
            let kv = event.kv.as_ref().expect("a key");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (at, key, value) = (kv.mod_revision, text(&kv.key), text(&kv.value));
            events.push(match event.kind() {
                Kind::Put => format!("{at} {key}={value} since {}", kv.create_revision),
                _ => format!("{at} {key} gone"),
            });
        }
        if response.revision >= revision {
            assert_eq!(response.revision, revision);
            return events;
        }
        let before = response.revision;
        response = next(stream).await.expect("it goes on");
        assert!(response.revision > before, "every response says more");
    }
}

/// A configuration file with bounds of watches.
fn configured(watch: &str) -> (tempfile::NamedTempFile, String) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "{watch}").expect("written");
    let path = file.path().to_str().expect("a name").to_owned();
    (file, path)
}

#[tokio::test]
async fn changes_come_in_order_from_any_revision_at_any_server() {
    let (nodes, leader) = cluster(3).await;
    let at = &nodes[leader];
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        put(at, key, value).await;
    }
    let delete = |key: &'static str| DeleteRequest {
        key: key.into(),
        ..DeleteRequest::default()
    };
    kv(at).await.delete(delete("b")).await.expect("deleted");
    kv(at)
        .await
        .delete(delete("b"))
        .await
        .expect("nothing there");
    let mismatch = PutRequest {
        key: "a".into(),
        if_mod_revision: Some(1),
        ..PutRequest::default()
    };
    kv(at).await.put(mismatch).await.expect("an answer");
    put(at, "b", "6").await;
    let all = [
        "1 a=1 since 1",
        "2 b=2 since 2",
        "3 a=3 since 1",
        "4 b gone",
        "6 b=6 since 6",
    ];
    for node in &nodes {
        let (mut stream, first) = watch(node, from(1)).await.expect("served");
        assert_eq!(through(6, &mut stream, first).await, all);
        let (mut stream, first) = watch(node, from(4)).await.expect("served");
        assert_eq!(through(6, &mut stream, first).await, all[3..]);
        let only_b = WatchRequest {
            start: "b".into(),
            end: "b\0".into(),
            ..from(2)
        };
        let (mut stream, first) = watch(node, only_b).await.expect("served");
        let expected = ["2 b=2 since 2", "4 b gone", "6 b=6 since 6"];
        assert_eq!(through(6, &mut stream, first).await, expected);
        // One that is to come: all before it are none of its business, and so complete.
        let (mut stream, first) = watch(node, from(8)).await.expect("served");
        assert_eq!((first.revision, first.events.len()), (7, 0));
        assert_eq!(first.cluster_id, "00000000000000c1");
        drop(stream.message());
    }
    // From now on, and from a revision to come.
    let (mut now, first_now) = watch(at, from(0)).await.expect("served");
    assert_eq!((first_now.revision, first_now.events.len()), (6, 0));
    let (mut later, first_later) = watch(at, from(8)).await.expect("served");
    put(at, "c", "7").await;
    put(at, "c", "8").await;
    let expected = ["7 c=7 since 7", "8 c=8 since 7"];
    assert_eq!(through(8, &mut now, first_now).await, expected);
    assert_eq!(through(8, &mut later, first_later).await, expected[1..]);
}

#[tokio::test]
async fn who_watches_other_keys_is_told_how_far_they_are() {
    let (_file, path) = configured("watch:\n  progressMilliseconds: 10");
    let (nodes, leader) = cluster_with(1, &["--config", &path]).await;
    let other = WatchRequest {
        start: "x".into(),
        ..from(1)
    };
    let (mut stream, mut response) = watch(&nodes[leader], other).await.expect("served");
    let last = put(&nodes[leader], "a", "1").await;
    while response.revision < last {
        response = next(&mut stream).await.expect("progress");
        assert_eq!(response.events, []);
    }
    assert_eq!(response.revision, last);
}

#[tokio::test]
async fn nothing_is_missing_or_twice_across_a_transfer_and_the_death_of_the_server() {
    let (mut nodes, leader) = cluster(3).await;
    let (watched, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let (mut stream, mut response) = watch(&nodes[watched], from(1)).await.expect("served");
    let mut seen = Vec::new();
    for _ in 0..20 {
        put(&nodes[leader], "k", "v").await;
    }
    // Leadership goes to the watched server, and the stream goes on.
    let transfer = v1::TransferLeadershipRequest {
        target: nodes[watched].server_id.clone(),
        ..v1::TransferLeadershipRequest::default()
    };
    let mut admin = nodes[leader].admin().await;
    admin
        .transfer_leadership(transfer)
        .await
        .expect("handed over");
    for _ in 0..20 {
        put(&nodes[watched], "k", "v").await;
    }
    let revisions = |response: &WatchResponse| -> Vec<u64> {
        let kvs = response.events.iter().filter_map(|event| event.kv.as_ref());
        kvs.map(|kv| kv.mod_revision).collect()
    };
    // Somewhere in the middle its server, the leader by now, is killed.
    while response.revision < 30 {
        seen.extend(revisions(&response));
        response = next(&mut stream).await.expect("it goes on");
    }
    seen.extend(revisions(&response));
    let complete = response.revision;
    let _ = nodes[watched].child.kill();
    let resumed = WatchRequest {
        cluster_id: response.cluster_id.clone(),
        ..from(complete + 1)
    };
    let (mut stream, mut response) = watch(&nodes[other], resumed).await.expect("served");
    let new_leader = eventually("another leader that accepts a write", async || {
        for at in [leader, other] {
            let mut kv = kv(&nodes[at]).await;
            let request = PutRequest {
                key: "k".into(),
                ..PutRequest::default()
            };
            if kv.put(request).await.is_ok() {
                return Some(at);
            }
        }
        None
    })
    .await;
    let last = put(&nodes[new_leader], "k", "last").await;
    loop {
        seen.extend(revisions(&response));
        if response.revision >= last {
            break;
        }
        response = next(&mut stream).await.expect("it goes on");
    }
    assert_eq!(seen, (1..=last).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_not_kept_any_more_is_said_with_the_oldest_that_is() {
    let (_file, path) = configured("watch:\n  historyEventsMax: 4");
    let (nodes, leader) = cluster_with(1, &["--config", &path]).await;
    for at in 0..10 {
        put(&nodes[leader], "k", at.to_string()).await;
    }
    let status = watch(&nodes[leader], from(6)).await.expect_err("gone");
    let compacted = reason::COMPACTED.to_owned();
    assert_eq!(
        told(&status),
        (Code::OutOfRange, compacted, Some(5), Some(7))
    );
    let text = status.message();
    for part in ["revision 6", "is 7", "another server"] {
        assert!(text.contains(part), "{text}");
    }
    let (mut stream, first) = watch(&nodes[leader], from(7)).await.expect("kept");
    assert_eq!(through(10, &mut stream, first).await.len(), 4);
}

#[tokio::test]
async fn who_reads_too_slowly_is_sent_away_with_the_last_revision_they_got() {
    let (_file, path) = configured("watch:\n  historyBytesMax: 1048576");
    let (nodes, leader) = cluster_with(1, &["--config", &path]).await;
    let (mut slow, first) = watch(&nodes[leader], from(1)).await.expect("served");
    // More than the connection and the history hold together.
    let before = nodes[leader].resident();
    let value = vec![7; 256 << 10];
    for _ in 0..200 {
        put(&nodes[leader], "k", value.clone()).await;
    }
    let grown = nodes[leader].resident().saturating_sub(before) >> 10;
    assert!(
        grown < 45,
        "{grown} MiB kept of 50 written: 8 are the log, 1 the history"
    );
    let (mut complete, mut count) = (first.revision, first.events.len() as u64);
    let status = loop {
        match next(&mut slow).await {
            Ok(response) => {
                count += response.events.len() as u64;
                complete = response.revision;
            }
            Err(status) => break status,
        }
    };
    assert_eq!(count, complete, "what it got has no gap");
    assert!(complete < 200);
    let (code, reason, told_complete, oldest) = told(&status);
    let compacted = (Code::OutOfRange, reason::COMPACTED.to_owned());
    assert_eq!(((code, reason), told_complete), (compacted, Some(complete)));
    assert!(
        oldest > Some(complete + 1) && oldest <= Some(200),
        "{oldest:?}"
    );
    // The room is free again.
    eventually("nobody watches", async || {
        (nodes[leader].metric("kontiki_watchers") == 0.0).then_some(())
    })
    .await;
    assert!(nodes[leader].metric("kontiki_watch_history_bytes") <= 1048576.0);
}

#[tokio::test]
async fn a_watch_that_cannot_be_served_is_refused() {
    let (_file, path) = configured("watch:\n  watchersMax: 1");
    let (nodes, leader) = cluster_with(1, &["--config", &path]).await;
    let (_others, _) = cluster_of_id("c2", 1, &[]).await;
    let node = &nodes[leader];
    let long = vec![b'k'; 4097];
    let bad = |request: WatchRequest| request;
    for (request, code, why) in [
        (
            bad(WatchRequest {
                start: long.clone().into(),
                ..from(1)
            }),
            Code::InvalidArgument,
            reason::TOO_LARGE,
        ),
        (
            bad(WatchRequest {
                end: long.into(),
                ..from(1)
            }),
            Code::InvalidArgument,
            reason::TOO_LARGE,
        ),
        (
            bad(WatchRequest {
                start: "b".into(),
                end: "b".into(),
                ..from(1)
            }),
            Code::InvalidArgument,
            reason::INVALID,
        ),
        (from(u64::MAX), Code::InvalidArgument, reason::INVALID),
        (
            bad(WatchRequest {
                cluster_id: "xyz".into(),
                ..from(1)
            }),
            Code::InvalidArgument,
            reason::INVALID,
        ),
        (
            bad(WatchRequest {
                cluster_id: "c2".into(),
                ..from(1)
            }),
            Code::FailedPrecondition,
            reason::WRONG_CLUSTER,
        ),
    ] {
        let status = watch(node, request.clone()).await.expect_err("refused");
        let (got, reason, _, _) = told(&status);
        assert_eq!((got, reason.as_str()), (code, why), "{request:?}");
    }
    let one = watch(node, from(1)).await.expect("served");
    let status = watch(node, from(1)).await.expect_err("one too many");
    let (code, reason, _, _) = told(&status);
    assert_eq!(
        (code, reason.as_str()),
        (Code::ResourceExhausted, reason::QUEUE_FULL)
    );
    assert!(
        status.message().contains("watchers is full (1)"),
        "{status}"
    );
    drop(one);
    eventually("room again", async || watch(node, from(1)).await.ok()).await;

    let joiner = NodeProcess::start("joiner", &[]);
    let status = watch(&joiner, from(1)).await.expect_err("a joiner");
    assert_eq!(told(&status).1, reason::NOT_A_MEMBER);
    let (counters, counter) = cluster_with(1, &["--machine", "counter"]).await;
    let status = watch(&counters[counter], from(1)).await.expect_err("no kv");
    assert_eq!(told(&status).1, reason::WRONG_MACHINE);
}

#[tokio::test]
async fn a_server_that_stops_or_has_no_leader_sends_its_watchers_on() {
    let (_file, path) = configured("watch:\n  leaderlessMillisecondsMax: 300");
    let (mut nodes, leader) = cluster_with(3, &["--config", &path]).await;
    let last = put(&nodes[leader], "k", "v").await;
    let follower = (leader + 1) % 3;
    let (mut stopping, first) = watch(&nodes[follower], from(1)).await.expect("served");
    through(last, &mut stopping, first).await;
    let (mut leaderless, first) = watch(&nodes[leader], from(1)).await.expect("served");
    through(last, &mut leaderless, first).await;
    assert!(nodes[follower].terminate().success());
    let status = end_of(&mut stopping).await;
    let stopped = (
        Code::Unavailable,
        reason::STOPPING.to_owned(),
        Some(last),
        None,
    );
    assert_eq!(told(&status), stopped);
    assert!(
        status
            .message()
            .contains(&format!("from revision {}", last + 1))
    );
    // The leader has one other left; without it, it leads nobody.
    let _ = nodes[(leader + 2) % 3].child.kill();
    let status = end_of(&mut leaderless).await;
    let alone = (
        Code::Unavailable,
        reason::NO_LEADER.to_owned(),
        Some(last),
        None,
    );
    assert_eq!(told(&status), alone);
}

#[tokio::test]
async fn a_server_that_a_snapshot_refills_says_what_its_watchers_have_missed() {
    let (_file, path) = configured("limits:\n  logTailBytes: 4096\n  logKeptBytesMax: 4096");
    let (nodes, leader) = cluster_with(3, &["--config", &path]).await;
    let last = put(&nodes[leader], "k", "v").await;
    let late = &nodes[(leader + 1) % 3];
    let (mut stream, first) = watch(late, from(1)).await.expect("served");
    through(last, &mut stream, first).await;
    late.freeze();
    let mut end = 0;
    for _ in 0..100 {
        end = put(&nodes[leader], "k", vec![0; 4096]).await;
    }
    late.thaw();
    let status = end_of_refill(&mut stream).await;
    let (code, reason, complete, oldest) = told(&status);
    assert_eq!(
        (code, reason.as_str()),
        (Code::OutOfRange, reason::COMPACTED)
    );
    assert!(complete >= Some(last) && oldest > complete.map(|complete| complete + 1));
    // From where it can be watched, it can be; and the state is the newest.
    let (_stream, first) = watch(late, from(end + 1)).await.expect("served");
    assert_eq!(first.revision, end);
    let get = GetRequest {
        key: "k".into(),
        consistency: v1::Consistency::Stale.into(),
        ..GetRequest::default()
    };
    eventually("it is refilled", async || {
        let got = kv(late).await.get(get.clone()).await.ok()?.into_inner();
        (got.revision == end).then_some(())
    })
    .await;
}

/// As [`end_of`], of a server that may still apply some of what came before its refill.
async fn end_of_refill(stream: &mut Streaming<WatchResponse>) -> Status {
    loop {
        if let Err(status) = next(stream).await {
            return status;
        }
    }
}
