//! The `kontiki` command in the place of ExRaft's calls, against servers inside the test:
//! `docs/exraft.md` names these tests.

use std::net::TcpListener;
use std::process::Output;
use std::time::{Duration, Instant};

use kontiki_node::machine::counter::Counter;
use kontiki_node::{Server, ServerOptions};
use serde_json::Value;
use tokio::process::Command;

/// Long enough for a busy machine; tests end as soon as their condition holds.
const PATIENCE: Duration = Duration::from_secs(30);

fn start(names: &[&str]) -> Vec<Server> {
    let listeners: Vec<_> = names
        .iter()
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let listed = names.iter().zip(&listeners);
    let initial_config: Vec<_> = listed
        .map(|(name, listener)| {
            let address = listener.local_addr().unwrap();
            ((*name).to_owned(), address.to_string())
        })
        .collect();
    let servers = names.iter().zip(listeners).map(|(name, listener)| {
        let options = ServerOptions {
            name: (*name).to_owned(),
            peer_listener: Some(listener),
            initial_config: initial_config.clone(),
            ..ServerOptions::default()
        };
        Server::start(Counter::default(), options).unwrap()
    });
    servers.collect()
}

/// One that can be added.
fn joiner() -> Server {
    let mut options = ServerOptions {
        name: "raft9".to_owned(),
        ..ServerOptions::default()
    };
    options.raft.min_majority = 2;
    Server::start(Counter::default(), options).unwrap()
}

/// Runs the command against these servers.
async fn run(servers: &[&Server], arguments: &[&str]) -> Output {
    let all = |address: fn(&Server) -> &str| {
        let addresses: Vec<_> = servers.iter().map(|server| address(server)).collect();
        addresses.join(",")
    };
    Command::new(env!("CARGO_BIN_EXE_kontiki"))
        .args(["--endpoints", &all(|server| &server.me().client_address)])
        .args([
            "--admin-endpoints",
            &all(|server| &server.me().peer_address),
        ])
        .args(["--timeout", "30s"])
        .args(arguments)
        .env_remove("KONTIKI_OUTPUT")
        .env_remove("KONTIKI_TIMEOUT")
        .output()
        .await
        .unwrap()
}

async fn ok(servers: &[&Server], arguments: &[&str]) -> String {
    let output = run(servers, arguments).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

async fn json(servers: &[&Server], arguments: &[&str]) -> Value {
    let text = ok(servers, &[arguments, &["-o", "json"]].concat()).await;
    serde_json::from_str(&text).unwrap()
}

/// Where the leader is that serves.
async fn leading(servers: &[Server]) -> usize {
    let start = Instant::now();
    loop {
        for (at, server) in servers.iter().enumerate() {
            let status = server.status().await.unwrap();
            if status.serving && status.activated {
                return at;
            }
        }
        assert!(start.elapsed() < PATIENCE, "nobody leads");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn write_and_read_go_to_the_leader_and_stale_reads_anywhere() {
    let servers = start(&["raft1", "raft2"]);
    let leader = leading(&servers).await;
    // Asked of the follower, which redirects.
    let follower = [&servers[1 - leader]];
    assert_eq!(
        ok(&follower, &["write", "5"]).await.lines().next(),
        Some("5")
    );
    assert_eq!(ok(&follower, &["read", ""]).await.lines().next(), Some("5"));
    let stale = json(&follower, &["read", "--stale", ""]).await;
    assert!(
        ["0", "5"].iter().any(|value| stale["reply"] == *value),
        "{stale}"
    );
}

#[tokio::test]
async fn servers_are_pinged_and_the_leader_is_awaited() {
    let servers = start(&["raft1", "raft2"]);
    let all = [&servers[0], &servers[1]];
    let pongs = ok(&all, &["ping"]).await;
    assert_eq!(pongs.matches("pong").count(), 2, "{pongs}");
    let leader = json(&all, &["await-leader"]).await;
    let known = &servers[leading(&servers).await].me().id;
    assert_eq!(leader["leader"]["server_id"], known.to_string());
    let status = json(&all, &["status"]).await;
    let roles = status["servers"].as_array().unwrap().iter();
    assert_eq!(roles.filter(|server| server["role"] == "leader").count(), 1);
}

#[tokio::test]
async fn context_and_log_of_a_server_are_inspected() {
    let servers = start(&["raft1", "raft2"]);
    let leader = leading(&servers).await;
    servers[leader].write("5").await.unwrap();
    let id = servers[leader].me().id.to_string();
    let all = [&servers[0], &servers[1]];
    let seen = json(&all, &["inspect", &id]).await;
    assert_eq!(
        (&seen["role"], &seen["voted_for"]),
        (&"leader".into(), &id.into())
    );
    let entries = seen["entries"].as_array().unwrap();
    assert_eq!(entries.len() as u64, seen["last_index"].as_u64().unwrap());
    let kinds: Vec<_> = entries
        .iter()
        .map(|entry| entry["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds[..2], ["configuration", "noop"]);
    // Between them is what the servers decide for themselves: that writes are accepted, and versions.
    let commands = entries.iter().filter(|entry| entry["kind"] == "command");
    let commands: Vec<_> = commands.map(|entry| &entry["payload"]).collect();
    assert_eq!(commands, ["5"]);
    assert!(kinds.contains(&"control"));
    let page = json(
        &[&servers[leader]],
        &["inspect", "--from", "2", "--limit", "2"],
    )
    .await;
    assert_eq!(
        (&page["entries"][0]["index"], &page["next_index"]),
        (&2.into(), &4.into())
    );
    // Which of the two is not said.
    assert_eq!(run(&all, &["inspect"]).await.status.code(), Some(2));
}

#[tokio::test]
async fn a_server_is_added_removed_and_made_to_campaign() {
    let servers = start(&["raft1", "raft2"]);
    let follower = &servers[1 - leading(&servers).await];
    let all = [&servers[0], &servers[1]];
    let third = joiner();
    let me = third.me();
    let id = me.id.to_string();
    let add = [
        "add-server",
        "--server-id",
        &id,
        "--peer-address",
        &me.peer_address,
    ];
    let add = [&add[..], &["--client-address", &me.client_address]].concat();
    let added = json(&all, &add).await;
    let voters = |change: &Value| change["configuration"]["voters"].as_array().unwrap().len();
    assert_eq!(voters(&added), 3);
    let all = [&servers[0], &servers[1], &third];
    let removed = json(&all, &["remove-server", &follower.me().id.to_string()]).await;
    assert_eq!(voters(&removed), 2);
    let triggered = json(&[&third], &["trigger-election"]).await;
    assert!(triggered["term"].as_u64().unwrap() > 2, "{triggered}");
}

#[tokio::test]
async fn a_server_is_stopped_with_a_reason() {
    for graceful in [false, true] {
        let servers = start(&["raft1", "raft2", "raft3"]);
        let leader = leading(&servers).await;
        let mut line = vec!["stop-server", "--reason", "maintenance"];
        if graceful {
            line.push("--graceful");
        }
        ok(&[&servers[leader]], &line).await;
        let ended = tokio::time::timeout(PATIENCE, servers[leader].ended());
        let reason = ended.await.expect("it does not stop");
        assert_eq!(reason.as_deref(), Some("maintenance"));
        // The others go on.
        let left = [&servers[(leader + 1) % 3], &servers[(leader + 2) % 3]];
        ok(&left, &["write", "5"]).await;
        assert_eq!(
            run(&[&servers[leader]], &["ping", "--timeout", "1s"])
                .await
                .status
                .code(),
            Some(1)
        );
    }
}
