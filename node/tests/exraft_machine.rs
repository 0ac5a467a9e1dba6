//! ExRaft's callbacks of a state machine: `docs/exraft.md` names these tests.

mod common;

use common::embedded::{lonely, probes, refusal, write};
use common::probe::{Probe, Strings};
use common::{PATIENCE, eventually};
use kontiki_node::driver::Refusal;
use kontiki_node::machine::counter::Counter;

#[tokio::test]
async fn what_the_machine_refuses_is_not_replicated() {
    let (servers, _, leader) = probes(1).await;
    let leader = &servers[leader];
    let before = leader.status().await.expect("a status").last;
    let refused = Refusal::RefusedByMachine("it is no command".into());
    assert_eq!(refusal(leader.write("refuse").await), refused);
    let refused = Refusal::RefusedByMachine("it is no query".into());
    assert_eq!(refusal(leader.read("refuse").await), refused);
    assert_eq!(leader.status().await.expect("a status").last, before);
}

#[tokio::test]
async fn side_effects_are_the_leaders_alone() {
    let (servers, strings, leader) = probes(3).await;
    let (_, id) = servers[leader]
        .write_entry("effect")
        .await
        .expect("written");
    eventually("all have applied it", async || {
        for server in &servers {
            (server.status().await.ok()?.applied >= id.index).then_some(())?;
        }
        Some(())
    })
    .await;
    let effect = format!("effect of {}", id.index.0);
    eventually("it is run", async || {
        (strings[leader].count(&effect) == 1).then_some(())
    })
    .await;
    let elsewhere = (0..3).filter(|at| *at != leader);
    assert_eq!(
        elsewhere
            .map(|at| strings[at].count(&effect))
            .sum::<usize>(),
        0
    );
}

#[tokio::test]
async fn the_machine_hears_of_configurations() {
    let (servers, strings, leader) = probes(2).await;
    let third = lonely(Probe::new(&Strings::default()), "raft3", 2);
    let added = servers[leader].add_server(&third.me().peer_address).await;
    let index = added.expect("added").index;
    for (server, strings) in servers.iter().zip(&strings) {
        eventually("it has heard", async || {
            (server.status().await.ok()?.applied >= index).then_some(())
        })
        .await;
        assert!(
            strings.count("configuration of 3") >= 1,
            "{:?}",
            strings.events()
        );
    }
    let effect = "effect of configuration of 3";
    eventually("its effect", async || {
        (strings[leader].count(effect) >= 1).then_some(())
    })
    .await;
    assert_eq!(strings[1 - leader].count(effect), 0);
}

#[tokio::test]
async fn the_machine_hears_of_transitions() {
    let (servers, strings, leader) = probes(2).await;
    let next = 1 - leader;
    let target = servers[next].me().name.clone();
    servers[leader]
        .transfer_leadership(Some(&target))
        .await
        .expect("transferred");
    eventually("both were told", async || {
        let last = |at: usize| {
            let events: Vec<String> = strings[at].events();
            events.into_iter().rfind(|event| event.starts_with("role"))
        };
        (last(next)? == "role Leader" && last(leader)? == "role Follower").then_some(())
    })
    .await;
    let candidate = strings[next]
        .events()
        .iter()
        .any(|event| event == "role Candidate");
    assert!(candidate, "{:?}", strings[next].events());
}

#[tokio::test]
async fn the_machine_is_told_that_the_server_ends() {
    for (graceful, told) in [(false, "stop Told(\"why\")"), (true, "stop Graceful")] {
        for inline in [false, true] {
            let strings = Strings::default();
            let server = match inline {
                true => lonely(Probe::inline(&strings), "raft1", 1),
                false => lonely(Probe::new(&strings), "raft1", 1),
            };
            write(std::slice::from_ref(&server), "a").await;
            match graceful {
                true => server.stop_gracefully().await,
                false => server.stop("why").await,
            }
            assert_eq!(strings.events().last().map(String::as_str), Some(told));
        }
    }
}

#[tokio::test]
async fn stop_server_waits_for_the_machine_to_end() {
    let strings = Strings::default();
    let server = lonely(Probe::new(&strings), "raft1", 1);
    write(std::slice::from_ref(&server), "a").await;
    strings.hold();
    let stop = async {
        server.stop("why").await;
        assert_eq!(strings.count("stop Told"), 1);
    };
    let release = async {
        eventually("the machine is ending", async || {
            (strings.count("ending") == 1).then_some(())
        })
        .await;
        strings.release();
    };
    tokio::join!(stop, release);
}

/// Calls need no runtime of the caller's.
#[test]
fn calls_may_be_awaited_on_any_executor() {
    use futures::executor::block_on;
    let server = lonely(Counter::default(), "raft1", 1);
    block_on(server.await_leader(PATIENCE)).expect("itself");
    let third = lonely(Counter::default(), "raft3", 2);
    let start = std::time::Instant::now();
    while !block_on(server.status()).expect("a status").activated {
        assert!(start.elapsed() < PATIENCE);
    }
    block_on(server.add_server(&third.me().peer_address)).expect("added");
    assert_eq!(block_on(server.write("2")).expect("written"), b"2");
    assert_eq!(block_on(server.read("")).expect("read"), b"2");
    block_on(server.stop("done"));
}
