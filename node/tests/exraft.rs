//! ExRaft's calls and errors: `docs/exraft.md` names these tests.

mod common;

use std::time::Duration;

use common::embedded::{
    calm, counters, leading, lonely, probes, quick, redirect, refusal, start_with,
};
use common::probe::{Probe, Strings};
use common::{PATIENCE, eventually};
use kontiki_node::driver::{INSPECT_ENTRIES_MAX, Refusal};
use kontiki_node::handle::Failure;
use kontiki_node::machine::counter::Counter;
use kontiki_node::{Error, Index, Role, Server, ServerOptions};

#[tokio::test]
async fn calls_that_wait_end_with_the_reason_of_stop_server() {
    let strings = Strings::default();
    let patient = |_, options: &mut ServerOptions| {
        options.limits.stop_timeout_milliseconds = PATIENCE.as_millis() as u64;
    };
    let servers = start_with(1, |_| Probe::new(&strings), patient);
    let server = &servers[leading(&servers).await];
    strings.hold();
    let stop = async {
        eventually("the machine is busy", async || {
            (strings.count("blocked") == 1).then_some(())
        })
        .await;
        server.stop("maintenance").await;
    };
    let calls = async {
        let calls = tokio::join!(server.write("block"), server.read(""));
        // They do not wait for the machine, and it is told when it has done what it does.
        assert_eq!(strings.count("stop"), 0);
        strings.release();
        calls
    };
    let ((write, read), ()) = tokio::join!(calls, stop);
    // The write may have been applied; a read changes nothing.
    match write {
        Err(Error::Unknown(Failure::Ended(Some(reason)))) => assert_eq!(reason, "maintenance"),
        other => panic!("{other:?}"),
    }
    for late in [read, server.write("more").await] {
        match late {
            Err(Error::Stopped { reason }) => assert_eq!(reason.as_deref(), Some("maintenance")),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        strings.events().last().map(String::as_str),
        Some("stop Told(\"maintenance\")")
    );
}

#[tokio::test]
async fn every_server_can_await_the_leader() {
    let (servers, leader) = counters(3).await;
    for server in &servers {
        let found = server.await_leader(PATIENCE).await.expect("a leader");
        assert_eq!(&found, servers[leader].me());
    }
}

#[tokio::test]
async fn await_leader_gives_up_after_its_timeout() {
    let third = lonely(Counter::default(), "raft3", 2);
    let timeout = Duration::from_millis(50);
    let result = third.await_leader(timeout).await;
    assert!(
        matches!(result, Err(Error::NoLeader(after)) if after == timeout),
        "{result:?}"
    );
}

#[tokio::test]
async fn leader_and_state_are_told_at_once() {
    let (servers, leader) = counters(3).await;
    for (at, server) in servers.iter().enumerate() {
        server.await_leader(PATIENCE).await.expect("a leader");
        assert_eq!(server.leader().as_ref(), Some(servers[leader].me()));
        let role = if at == leader {
            Role::Leader
        } else {
            Role::Follower
        };
        assert_eq!(server.role(), role);
    }
    let third = lonely(Counter::default(), "raft3", 2);
    assert_eq!((third.leader(), third.role()), (None, Role::Joiner));
}

#[tokio::test]
async fn inspect_shows_the_context() {
    let (servers, leader) = counters(3).await;
    let seen = servers[leader].inspect(Index(1)).await.expect("inspected");
    let status = &seen.status;
    assert_eq!(status.standing.role, Role::Leader);
    assert!(status.standing.term.0 >= 2 && status.commit >= status.applied);
    assert_eq!(seen.vote, Some(servers[leader].me().id));
    assert_eq!(status.configuration.configuration.voters.len(), 3);
}

#[tokio::test]
async fn inspect_shows_the_log_page_by_page() {
    let (servers, leader) = counters(1).await;
    let server = &servers[leader];
    for written in futures::future::join_all((0..600).map(|_| server.write("1"))).await {
        written.expect("written");
    }
    let (mut first, mut entries, mut pages) = (Some(Index(0)), Vec::new(), 0);
    while let Some(from) = first {
        let page = server.inspect(from).await.expect("inspected");
        assert!(page.entries.len() <= INSPECT_ENTRIES_MAX);
        (first, pages) = (page.next, pages + 1);
        entries.extend(page.entries);
    }
    assert_eq!(pages, 3);
    let last = server.status().await.expect("a status").last;
    let indexes: Vec<u64> = entries.iter().map(|entry| entry.id.index.0).collect();
    assert_eq!(indexes, (1..=last.index.0).collect::<Vec<_>>());
    let commands = entries.iter().filter(|entry| &entry.payload[..] == b"1");
    assert_eq!(commands.count(), 600);
}

#[tokio::test]
async fn ping_answers_while_the_server_runs() {
    let server = lonely(Counter::default(), "raft3", 2);
    server.ping(PATIENCE).await.expect("it runs");
    server.stop("done").await;
    match server.ping(PATIENCE).await {
        Err(Error::Stopped {
            reason: Some(reason),
        }) => assert_eq!(reason, "done"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn add_server_makes_a_voter_and_is_done_at_once_for_a_member() {
    let (servers, leader) = counters(2).await;
    let third = lonely(Counter::default(), "raft3", 2);
    let leader = &servers[leader];
    let added = leader
        .add_server(&third.me().peer_address)
        .await
        .expect("added");
    assert!(added.configuration.voters.contains(&third.me().id));
    let before = leader.status().await.expect("a status").last;
    // Whether it runs or not.
    let again = leader
        .add_server(&third.me().peer_address)
        .await
        .expect("a member");
    assert_eq!(again.index, added.index);
    let address = third.me().peer_address.clone();
    third.stop("done").await;
    leader.add_server(&address).await.expect("a member");
    assert_eq!(leader.status().await.expect("a status").last, before);
}

#[tokio::test]
async fn remove_server_takes_a_voter_out_and_is_done_at_once_for_a_stranger() {
    let (servers, leader) = counters(3).await;
    let victim = servers[(leader + 1) % 3].me();
    let leader = &servers[leader];
    let removed = leader.remove_server(&victim.name).await.expect("removed");
    assert!(!removed.configuration.contains(victim.id));
    let before = leader.status().await.expect("a status").last;
    leader
        .remove_server(&victim.name)
        .await
        .expect("gone already");
    leader
        .remove_server(&victim.id.to_string())
        .await
        .expect("gone already");
    assert_eq!(leader.status().await.expect("a status").last, before);
    let nobody = leader.remove_server("nobody").await;
    assert!(matches!(nobody, Err(Error::NoSuchServer(_))), "{nobody:?}");
}

#[tokio::test]
async fn the_last_server_is_not_removed() {
    let (servers, _) = counters(1).await;
    let name = servers[0].me().name.clone();
    assert_eq!(
        refusal(servers[0].remove_server(&name).await),
        Refusal::LastServer
    );
}

#[tokio::test]
async fn a_follower_redirects_to_the_leader() {
    let (servers, leader) = counters(3).await;
    let follower = &servers[(leader + 1) % 3];
    follower.await_leader(PATIENCE).await.expect("a leader");
    let (third, me) = (
        lonely(Counter::default(), "raft3", 2),
        follower.me().name.clone(),
    );
    let leader = servers[leader].me();
    assert_eq!(&redirect(follower.write("1").await), leader);
    assert_eq!(&redirect(follower.read("").await), leader);
    assert_eq!(
        &redirect(follower.add_server(&third.me().peer_address).await),
        leader
    );
    assert_eq!(&redirect(follower.remove_server(&me).await), leader);
}

#[tokio::test]
async fn without_a_leader_a_server_says_so() {
    let servers = start_with(
        2,
        |_| Counter::default(),
        |_, options| options.raft = quick(1),
    );
    let leader = leading(&servers).await;
    let [left, stopped] = match <[Server; 2]>::try_from(servers).expect("two") {
        [first, second] if leader == 0 => [second, first],
        both => both,
    };
    stopped.stop("gone").await;
    let name = left.me().name.clone();
    eventually("the follower gives its leader up", async || {
        left.leader().is_none().then_some(())
    })
    .await;
    assert_eq!(refusal(left.write("1").await), Refusal::NoLeader);
    assert_eq!(refusal(left.read("").await), Refusal::NoLeader);
    assert_eq!(
        refusal(left.add_server("127.0.0.1:1").await),
        Refusal::NoLeader
    );
    assert_eq!(refusal(left.remove_server(&name).await), Refusal::NoLeader);
}

#[tokio::test]
async fn write_and_read_answer_with_what_the_machine_says() {
    let (servers, _, leader) = probes(3).await;
    let leader = &servers[leader];
    assert_eq!(leader.write("a").await.expect("written"), b"1");
    assert_eq!(leader.write("b").await.expect("written"), b"2");
    assert_eq!(leader.read("").await.expect("read"), b"a,b");
}

#[tokio::test]
async fn read_dirty_answers_on_a_follower() {
    let (servers, leader) = counters(3).await;
    servers[leader].write("4").await.expect("written");
    let follower = &servers[(leader + 1) % 3];
    eventually("the follower has it", async || {
        (follower.read_dirty("").await.ok()? == b"4").then_some(())
    })
    .await;
}

#[tokio::test]
async fn trigger_election_begins_a_term_at_once() {
    let (servers, leader) = counters(3).await;
    let follower = &servers[(leader + 1) % 3];
    let before = follower.status().await.expect("a status").standing.term;
    let term = follower.trigger_election().await.expect("a voter");
    assert_eq!(term.0, before.0 + 1);
    eventually("it leads, or somebody else in a later term", async || {
        let standing = follower.status().await.ok()?.standing;
        (standing.term >= term && standing.leader.is_some()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn trigger_election_leaves_a_candidate_as_it_is() {
    let slow = |_, options: &mut ServerOptions| {
        options.raft = calm(1);
        options.raft.election_timeout_milliseconds = 60_000;
    };
    let servers = start_with(2, |_| Counter::default(), slow);
    leading(&servers).await;
    let [left, stopped] = <[Server; 2]>::try_from(servers).expect("two");
    stopped.stop("gone").await;
    // Nobody votes for it, and it tries again in a minute.
    let term = left.trigger_election().await.expect("a voter");
    assert_eq!(
        left.status().await.expect("a status").standing.role,
        Role::Candidate
    );
    assert_eq!(left.trigger_election().await.expect("no change"), term);
    assert_eq!(left.status().await.expect("a status").standing.term, term);
}
