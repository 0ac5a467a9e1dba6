//! Servers under a memory limit are filled until writes are refused: nobody is killed, everything else
//! goes on, and a lost member is refilled at that size. Without the state limit the same load kills.
//!
//! The limit is the kernel's on the writable private memory of a process (`RLIMIT_DATA`), which needs no
//! root: an allocation past it fails, and the process aborts.

use std::time::Duration;

use kontiki_proto::kv::kv_client::KvClient;
use kontiki_proto::kv::{DeleteRequest, PutRequest};
use kontiki_proto::reason;
use kontiki_proto::v1::{ReplaceServerRequest, StateBytes, StatusResponse};
use rustix::process::Signal;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::cluster::{Cluster, DEADLINE, admin, channel, get, status};
use crate::eventually;
use crate::node::Node;

/// Memory of each server, in bytes.
const MEMORY: u64 = 160 << 20;
/// Its state limit: 40 %.
const LIMIT: u64 = MEMORY / 5 * 2;
/// What may be on its way to the two others, beyond what was there when a write was taken.
const IN_FLIGHT: u64 = 2 * LIMIT / 16;
/// Bytes of a value.
const VALUE: usize = 128 << 10;
/// More values than fit into the memory, let alone the limit.
const VALUES_MAX: usize = MEMORY as usize / VALUE;

/// Default timers would do on a quiet machine; on a busy one an election is not what is tested.
const CONFIG: &str = "\
raft: {heartbeatMilliseconds: 200, electionTimeoutMilliseconds: 4000}
limits: {writeTimeoutMilliseconds: 30000, adminTimeoutMilliseconds: 60000}
";

async fn put(kv: &mut KvClient<Channel>, key: usize) -> Result<(), Status> {
    let request = PutRequest {
        key: format!("key-{key:06}").into(),
        value: vec![b'x'; VALUE].into(),
        ..PutRequest::default()
    };
    kv.put(request).await.map(|_| ())
}

async fn delete(kv: &mut KvClient<Channel>, key: usize) -> Result<(), Status> {
    let request = DeleteRequest {
        key: format!("key-{key:06}").into(),
        ..DeleteRequest::default()
    };
    kv.delete(request).await.map(|_| ())
}

/// Puts one key after the other, from `first`; the key that was not taken, and why.
async fn fill(kv: &mut KvClient<Channel>, first: usize) -> (usize, Status) {
    for key in first..=VALUES_MAX {
        if let Err(status) = put(kv, key).await {
            return (key, status);
        }
    }
    panic!("{VALUES_MAX} values of {VALUE} bytes were taken");
}

fn total(held: &StateBytes) -> u64 {
    let StateBytes {
        machine,
        sessions,
        log,
        appends,
        sending,
        receiving,
    } = *held;
    machine + sessions + log + appends + sending + receiving
}

fn machine(status: &StatusResponse) -> u64 {
    status.state_bytes.expect("it says").machine
}

#[tokio::test]
async fn at_the_limit_writes_are_refused_nobody_is_killed_and_a_member_is_replaced() {
    let start = |name: &str| {
        let memory = format!("limits: {{memoryBytes: {MEMORY}, ");
        let node = Node::start(name, &CONFIG.replace("limits: {", &memory));
        node.limit_memory(MEMORY);
        node
    };
    let nodes = ["a", "b", "c"].map(start).into();
    let mut cluster = Cluster::of(nodes).await;
    let leader = cluster.leader(&[]).await;
    let mut kv = KvClient::new(channel(&cluster.nodes[leader].client));

    // Full.
    let (keys, refused) = fill(&mut kv, 0).await;
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let info = refused.get_details_error_info().expect("it says more");
    assert_eq!(info.reason, reason::STATE_LIMIT);
    let said = |key: &str| info.metadata[key].clone();
    assert_eq!(said(kontiki_proto::metadata::OUTCOME), "FAILED");
    assert_eq!(
        said(kontiki_proto::metadata::STATE_BYTES_MAX),
        LIMIT.to_string()
    );
    let held = said(kontiki_proto::metadata::STATE_BYTES);
    let held: u64 = held.parse().expect("a number");
    assert!(
        held <= LIMIT + IN_FLIGHT && held + 3 * VALUE as u64 > LIMIT,
        "{held}"
    );
    let full = status(&cluster.nodes[leader]).await.expect("it answers");
    println!(
        "full after {keys} values: {:?} of {LIMIT}",
        full.state_bytes
    );
    assert!(total(&full.state_bytes.expect("it says")) <= LIMIT + IN_FLIGHT);
    eventually("the refusal is counted", async || {
        let node = &cluster.nodes[leader];
        node.metric("kontiki_state_limit_refusals_total") >= Some(1.0)
            && node.metric("kontiki_state_bytes{part=\"machine\"}") == Some(machine(&full) as f64)
            && node.metric("kontiki_state_limit_bytes") == Some(LIMIT as f64)
    })
    .await;

    // A member dies; another takes its place, which it can only fill by a snapshot of all that.
    let lost = cluster.other_than(leader);
    cluster.nodes[lost].signal(Signal::KILL);
    let fresh = start("d");
    let request = ReplaceServerRequest {
        cluster_id: cluster.id.clone(),
        lost: cluster.nodes[lost].server_id.clone(),
        server: Some(fresh.as_server()),
        ..ReplaceServerRequest::default()
    };
    let replaced = admin(&cluster.nodes[leader]).replace_server(request).await;
    replaced.expect("the fresh one votes");
    eventually("it holds as much as the others", async || {
        let now = status(&fresh).await.expect("it answers");
        now.ready && machine(&now) == machine(&full)
    })
    .await;
    eventually("it says that it was by a snapshot", async || {
        fresh.metric("kontiki_snapshots_restored_total") >= Some(1.0)
    })
    .await;
    cluster.nodes[lost] = fresh;

    // Still full, and alive; what does not grow the state goes on.
    // Compaction may have made room for a few meanwhile.
    let filled = keys;
    let (keys, refused) = fill(&mut kv, filled).await;
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(keys < filled + filled / 10, "{filled}, then {keys}");
    let found = get(&cluster.nodes[leader], "key-000000").await;
    assert_eq!(found.expect("it reads").map(|it| it.len()), Some(VALUE));
    for key in 0..keys / 4 {
        delete(&mut kv, key).await.expect("a delete is taken");
    }
    // Another stands still meanwhile, for longer than the log is kept for it: it is refilled beside the
    // state that it has.
    let behind = (0..3).find(|place| ![leader, lost].contains(place));
    let behind = &cluster.nodes[behind.expect("one of three")];
    behind.signal(Signal::STOP);
    let (more, refused) = fill(&mut kv, keys).await;
    assert!(more > keys, "there was room again");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    eventually("the log is not kept for it any more", async || {
        let now = status(&cluster.nodes[leader]).await.expect("it answers");
        let mut all = now.progress.iter();
        all.any(|peer| peer.server_id == behind.server_id && peer.needs_snapshot)
    })
    .await;
    behind.signal(Signal::CONT);
    eventually("it is refilled", async || {
        let leader = status(&cluster.nodes[leader]).await.expect("it answers");
        let now = status(behind).await;
        now.is_some_and(|now| {
            now.last_index == leader.last_index && machine(&now) == machine(&leader)
        }) && behind.metric("kontiki_snapshots_restored_total") >= Some(1.0)
    })
    .await;
    for node in &cluster.nodes {
        let status = status(node).await.expect("it lives");
        assert_eq!(
            status.server.map(|server| server.server_id).as_ref(),
            Some(&node.server_id),
            "the same incarnation"
        );
        let peak = node.peak_memory();
        println!(
            "{}: at most {} MiB of {}",
            node.name,
            peak >> 20,
            MEMORY >> 20
        );
    }
}

/// That the memory limit is one: it ends a server that has no state limit.
#[tokio::test]
async fn without_the_state_limit_the_same_load_kills() {
    let node = Node::start("alone", CONFIG);
    node.limit_memory(MEMORY);
    let mut cluster = Cluster::of(vec![node]).await;
    let mut kv = KvClient::new(channel(&cluster.nodes[0].client));
    let (keys, error) = fill(&mut kv, 0).await;
    assert!(keys * VALUE > LIMIT as usize, "{keys} values");
    assert_ne!(error.code(), Code::ResourceExhausted, "{error:?}");
    assert!(
        !cluster.nodes[0].ends_well(DEADLINE + Duration::from_secs(60)),
        "it was killed"
    );
}
