//! The binary: exit statuses, memory, metrics, and going down.

mod common;

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{NodeProcess, cluster, cluster_with, eventually, run};
use kontiki_proto::kv::kv_client::KvClient;
use kontiki_proto::kv::{GetRequest, PutRequest};
use kontiki_proto::v1;

#[test]
fn a_port_that_is_taken_is_named_and_has_a_status_of_its_own() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let any = "127.0.0.1:0";
    let output = run(&[
        "--listen-client",
        any,
        "--listen-peer",
        &address,
        "--listen-http",
        any,
    ]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{message}");
    assert!(
        message.contains(&address) && message.contains("listen.peer"),
        "{message}"
    );
}

#[test]
fn an_address_that_does_not_resolve_is_named_and_has_a_status_of_its_own() {
    let output = run(&["--listen-client", "no-such-host.invalid:0"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(68), "{message}");
    assert!(message.contains("no-such-host.invalid"), "{message}");
}

#[test]
fn a_typo_in_the_file_is_named_and_has_a_status_of_its_own() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "nodeName: a\nlisten:\n  cleint: 0.0.0.0:1").expect("written");
    let path = file.path().to_str().expect("a name");
    let output = run(&["--config", path]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{message}");
    for part in [&format!("{path}:3"), "cleint", "client"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    assert_eq!(run(&["--no-such-flag"]).status.code(), Some(2));
}

#[test]
fn the_configuration_in_force_can_be_printed() {
    let output = run(&["--node-name", "x", "--heartbeat-ms", "5", "--print-config"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("nodeName: x") && text.contains("heartbeatMilliseconds: 5"),
        "{text}"
    );
    let help = run(&["--help"]);
    assert!(String::from_utf8_lossy(&help.stdout).contains("Exit status"));
}

#[tokio::test]
async fn an_idle_node_is_small_and_its_metrics_are_well_formed() {
    let node = NodeProcess::start("idle", &[]);
    assert!(node.get("/livez").0.contains("200"));
    assert!(node.get("/readyz").0.contains("503"));
    assert_eq!(node.status().await.role(), v1::Role::Joiner);
    let (_, metrics) = node.get("/metrics");
    for name in [
        "kontiki_term",
        "kontiki_build_info",
        "process_resident_memory_bytes",
    ] {
        assert!(metrics.contains(name), "{name} is not in:\n{metrics}");
    }
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed (Debian: prometheus)");
    let mut stdin = check.stdin.take().expect("piped");
    stdin.write_all(metrics.as_bytes()).expect("taken");
    drop(stdin);
    let output = check.wait_with_output().expect("it ends");
    let complaints = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && complaints.is_empty(),
        "{complaints:?}"
    );
    assert!(node.resident() < 20 << 10, "{} KiB", node.resident());
}

/// ExRaft's `stop_server`, of a daemon: it ends as if by a signal, and the others go on.
#[tokio::test]
async fn a_daemon_is_stopped_over_admin() {
    for graceful in [false, true] {
        let (mut nodes, leader) = cluster(3).await;
        let mut admin = nodes[leader].admin().await;
        let mut request = v1::StopServerRequest {
            server_id: nodes[(leader + 1) % 3].server_id.clone(),
            reason: "maintenance".into(),
            graceful,
            ..v1::StopServerRequest::default()
        };
        let refused = admin.stop_server(request.clone()).await;
        refused.expect_err("another server is named");
        request.server_id = nodes[leader].server_id.clone();
        admin.stop_server(request).await.expect("answered first");
        let mut stopped = nodes.remove(leader);
        let status = eventually("it ends", async || {
            stopped.child.try_wait().expect("a child")
        });
        assert_eq!(status.await.code(), Some(0));
        eventually("another leads", async || {
            let statuses = [nodes[0].status().await, nodes[1].status().await];
            statuses.iter().any(|status| status.serving).then_some(())
        })
        .await;
    }
}

/// So long that no election in these tests begins by itself.
const FOR_EVER: [&str; 2] = ["--election-timeout-ms", "600000"];

/// Values that a node holds must not pin the buffers that they were received in.
#[tokio::test]
async fn memory_is_bounded_by_what_is_stored() {
    const VALUES: usize = 50_000;
    const VALUE: usize = 256;
    // Every value stays in the log; the map holds the last of each key.
    const KEYS: usize = 5_000;
    const CONNECTIONS: usize = 8;
    // However slow the machine is, the leader that is written to remains it.
    let (nodes, leader) = cluster_with(3, &FOR_EVER).await;
    let mut writers = tokio::task::JoinSet::new();
    for connection in 0..CONNECTIONS {
        let address = format!("http://{}", nodes[leader].client);
        let client = KvClient::connect(address).await.expect("it listens");
        for lane in 0..8 {
            let mut client = client.clone();
            let first = connection * 8 + lane;
            writers.spawn(async move {
                for number in (first..VALUES).step_by(CONNECTIONS * 8) {
                    let request = PutRequest {
                        key: format!("key-{:08}", number % KEYS).into(),
                        value: vec![number as u8; VALUE].into(),
                        ..PutRequest::default()
                    };
                    client.put(request).await.expect("written");
                }
            });
        }
    }
    while let Some(writer) = writers.join_next().await {
        writer.expect("no writer failed");
    }
    let mut client = KvClient::connect(format!("http://{}", nodes[leader].client))
        .await
        .expect("up");
    let request = GetRequest {
        key: "key-00000007".into(),
        consistency: v1::Consistency::Linearizable.into(),
        ..GetRequest::default()
    };
    let got = client.get(request).await.expect("read").into_inner();
    assert_eq!(got.revision, VALUES as u64);
    let payload = VALUES * (12 + VALUE);
    let bound = payload * 3 / 2 + (20 << 20);
    let resident = nodes[leader].resident() as usize * 1024;
    assert!(
        resident <= bound,
        "{resident} bytes resident, at most {bound}"
    );
}

/// Waits until one of the nodes serves as leader; its status.
async fn successor(nodes: &[NodeProcess]) -> v1::StatusResponse {
    eventually("another leader", async || {
        for node in nodes {
            let status = node.status().await;
            if status.serving {
                return Some(status);
            }
        }
        None
    })
    .await
}

#[tokio::test]
async fn a_node_that_is_told_to_stop_hands_leadership_over() {
    let (mut nodes, leader) = cluster_with(3, &FOR_EVER).await;
    let before = nodes[leader].status().await;
    let mut stopped = nodes.remove(leader);
    assert_eq!(stopped.terminate().code(), Some(0));
    let after = successor(&nodes).await;
    assert_eq!(after.term, before.term + 1);
}

#[tokio::test]
async fn a_leader_that_is_killed_is_noticed_by_its_closed_connections() {
    // Much longer than it takes to notice; short enough for a second try if the votes are split.
    const ELECTION: Duration = Duration::from_secs(5);
    let (mut nodes, leader) = cluster_with(3, &["--election-timeout-ms", "5000"]).await;
    let before = nodes[leader].status().await;
    for node in &nodes {
        eventually("it knows the leader", async || node.status().await.leader).await;
    }
    let mut killed = nodes.remove(leader);
    killed.child.kill().expect("it ran");
    killed.child.wait().expect("it ended");
    let start = Instant::now();
    eventually("a follower campaigns", async || {
        for node in &nodes {
            if node.status().await.role() != v1::Role::Follower {
                return Some(());
            }
        }
        None
    })
    .await;
    let noticed = start.elapsed();
    assert!(noticed < ELECTION / 2, "only after {noticed:?}");
    assert!(successor(&nodes).await.term > before.term);
}
