//! Servers inside a program: ExRaft's story, over real connections.

mod common;
#[path = "../examples/exraft.rs"]
#[allow(dead_code)] // its `main`
mod example;

use common::embedded::{lonely, quick, start, write};
use common::{PATIENCE, eventually};
use kontiki_node::machine::counter::Counter;
use kontiki_node::{Error, Role, Server, ServerOptions};

#[tokio::test]
async fn the_example_tells_its_story() {
    example::story().await.expect("it holds");
}

#[tokio::test]
async fn exrafts_readme_story() {
    let mut servers = start(2, |_| Counter::default());
    let third = lonely(Counter::default(), "raft3", 2);
    let leader = servers[0].await_leader(PATIENCE).await.expect("a leader");
    assert_eq!(write(&servers, "5").await, "5");

    // A write to a follower is answered with the leader.
    let follower = servers
        .iter()
        .position(|server| server.me().id != leader.id)
        .expect("one");
    servers[follower]
        .await_leader(PATIENCE)
        .await
        .expect("a leader");
    match servers[follower].write("1").await {
        Err(Error::NotLeader { leader: named }) => assert_eq!(named, leader),
        other => panic!("not a redirect: {other:?}"),
    }

    // The third never led, and is added.
    assert_eq!(third.leader(), None);
    assert_eq!(
        third.status().await.expect("a status").standing.role,
        Role::Joiner
    );
    let added = servers[1 - follower]
        .add_server(&third.me().peer_address)
        .await
        .expect("added");
    assert!(added.configuration.voters.contains(&third.me().id));

    // The leader is stopped; an election is triggered; what was written is still there.
    servers.remove(1 - follower).stop("told to").await;
    servers.push(third);
    servers[1].trigger_election().await.expect("a voter");
    let successor = eventually("another leader", async || {
        let named = servers[1].leader()?;
        (named.id != leader.id).then_some(named)
    })
    .await;
    assert!(servers.iter().any(|server| server.me().id == successor.id));
    assert_eq!(write(&servers, "0").await, "5");
    eventually("everyone has applied it", async || {
        for server in &servers {
            if server.read_dirty("").await.expect("a value") != b"5" {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn three_elect_a_leader_and_outlive_it() {
    let mut servers = start(3, |_| Counter::default());
    let leader = servers[0].await_leader(PATIENCE).await.expect("a leader");
    assert_eq!(write(&servers, "7").await, "7");
    let at = servers
        .iter()
        .position(|server| server.me().id == leader.id)
        .expect("one of them");
    servers.remove(at).stop("told to").await;
    assert_eq!(write(&servers, "1").await, "8");
}

#[tokio::test]
async fn leadership_is_handed_over_by_a_graceful_stop_and_on_demand() {
    let mut servers = start(3, |_| Counter::default());
    write(&servers, "1").await;
    let leader = servers[0].await_leader(PATIENCE).await.expect("a leader");
    let leads = |servers: &[Server], id| servers.iter().position(|one| one.me().id == id);
    let at = leads(&servers, leader.id).expect("one of them");
    let target = servers[(at + 1) % 3].me().clone();
    let next = servers[at]
        .transfer_leadership(Some(&target.name))
        .await
        .expect("transferred");
    assert_eq!(next, target);
    eventually("it serves", async || {
        let at = leads(&servers, target.id)?;
        servers[at]
            .status()
            .await
            .expect("a status")
            .serving
            .then_some(())
    })
    .await;
    let at = leads(&servers, target.id).expect("one of them");
    servers.remove(at).stop_gracefully().await;
    assert_eq!(write(&servers, "1").await, "2");
}

#[tokio::test]
async fn alone_a_server_leads_unless_one_is_not_enough() {
    let control = lonely(Counter::default(), "control", 1);
    let third = lonely(Counter::default(), "raft3", 2);
    let leader = control.await_leader(PATIENCE).await.expect("itself");
    assert_eq!(leader.id, control.me().id);
    assert_eq!(write(std::slice::from_ref(&control), "3").await, "3");
    assert!(third.trigger_election().await.is_err());
    assert_eq!(third.leader(), None);
    match third.write("1").await {
        Err(Error::Refused(_)) => {}
        other => panic!("a joiner accepted a write: {other:?}"),
    }
}

#[tokio::test]
async fn a_member_is_removed_by_its_name() {
    let servers = start(3, |_| Counter::default());
    write(&servers, "1").await;
    let leader = servers[0].await_leader(PATIENCE).await.expect("a leader");
    let at = servers
        .iter()
        .position(|server| server.me().id == leader.id)
        .expect("one of them");
    let victim = servers[(at + 1) % 3].me().clone();
    let after = servers[at]
        .remove_server(&victim.name)
        .await
        .expect("removed");
    assert_eq!(after.configuration.voters.len(), 2);
    assert!(!after.configuration.contains(victim.id));
    assert!(matches!(
        servers[at].remove_server("nobody").await,
        Err(Error::NoSuchServer(_))
    ));
}

#[test]
fn options_that_contradict_themselves_are_refused() {
    let listed = ServerOptions {
        name: "a".into(),
        initial_config: vec![("b".into(), "127.0.0.1:1".into())],
        ..ServerOptions::default()
    };
    let error = Server::start(Counter::default(), listed).expect_err("not listed");
    assert!(error.to_string().contains("\"a\""), "{error}");
    let mut raft = quick(1);
    raft.election_timeout_milliseconds = raft.heartbeat_milliseconds;
    let options = ServerOptions {
        raft,
        ..ServerOptions::default()
    };
    assert!(matches!(
        Server::start(Counter::default(), options),
        Err(Error::Options(_))
    ));
}
