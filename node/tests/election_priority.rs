//! Who leads, among servers that could.

mod common;

use common::embedded::{leading, probes, quick, start_with, write};
use common::eventually;
use kontiki_node::config::RaftSettings;
use kontiki_node::machine::counter::Counter;
use kontiki_node::{Server, ServerOptions};

#[tokio::test]
async fn leadership_ends_up_with_the_highest_priority_and_comes_back_to_it() {
    let priorities = [2, 10, 5];
    let mut servers = start_with(
        3,
        |_| Counter::default(),
        |at, options| {
            options.raft = RaftSettings {
                election_priority: priorities[at],
                ..quick(1)
            };
        },
    );
    for (server, priority) in servers.iter().zip(priorities) {
        let status = server.status().await.expect("a status");
        assert_eq!(status.election_priority, priority);
    }
    let highest = async || (leading(&servers).await == 1).then_some(());
    eventually("the highest priority leads", highest).await;
    // Against its will, for a while.
    let moved = servers[1].transfer_leadership(Some("raft1")).await;
    assert_eq!(moved.expect("handed over").name, "raft1");
    eventually("the highest priority leads again", highest).await;
    // It is gone: the next one.
    drop(servers.remove(1));
    let next = async || (leading(&servers).await == 1).then_some(());
    eventually("the next priority leads", next).await;
}

#[tokio::test]
async fn leadership_is_not_handed_to_a_quarantined_server() {
    let (servers, strings, leader) = probes(3).await;
    let broken = (leader + 1) % 3;
    strings[broken].let_panic();
    write(&servers, "panic").await;
    eventually("it is quarantined, and its leader knows", async || {
        let status = servers[broken].status().await.ok()?;
        status.quarantine.map(drop)
    })
    .await;
    // Whichever of the two is chosen by chance, it is the healthy one, every time.
    let mut from = leader;
    for _ in 0..8 {
        let to = 3 - broken - from;
        let moved = eventually("handed over", async || {
            servers[from].transfer_leadership(None).await.ok()
        })
        .await;
        assert_eq!(moved.id, servers[to].me().id);
        from = leading(&servers).await;
        assert_eq!(from, to);
    }
}

#[tokio::test]
async fn a_priority_that_is_none_is_refused() {
    let options = ServerOptions {
        raft: RaftSettings {
            election_priority: 11,
            ..quick(1)
        },
        ..ServerOptions::default()
    };
    let error = Server::start(Counter::default(), options).expect_err("refused");
    assert!(
        error
            .to_string()
            .contains("election_priority must be 0 to 10, not 11"),
        "{error}"
    );
}
