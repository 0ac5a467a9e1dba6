//! ExRaft's options of `start_server`: `docs/exraft.md` names these tests.

mod common;

use std::sync::{Arc, Mutex, Once};

use common::embedded::{counters, leading, lonely, refusal, start_with, write};
use common::{PATIENCE, eventually};
use kontiki_node::driver::Refusal;
use kontiki_node::machine::counter::Counter;
use kontiki_node::{Error, Role, Server, ServerOptions};

#[tokio::test]
async fn start_server_starts_a_server_that_leads_itself() {
    let server = lonely(Counter::default(), "raft1", 1);
    let leader = server.await_leader(PATIENCE).await.expect("itself");
    assert_eq!(leader.id, server.me().id);
    assert_eq!(write(std::slice::from_ref(&server), "3").await, "3");
}

#[tokio::test]
async fn name_is_what_others_know_a_server_by() {
    let (servers, leader) = counters(3).await;
    let follower = &servers[(leader + 1) % 3];
    let named = follower.await_leader(PATIENCE).await.expect("a leader");
    assert_eq!(named.name, format!("raft{}", leader + 1));
}

#[tokio::test]
async fn initial_config_makes_one_cluster_of_those_listed() {
    let (servers, leader) = counters(3).await;
    let status = servers[leader].status().await.expect("a status");
    let voters = status.configuration.configuration.voters;
    let all = servers.iter().map(|server| server.me().id).collect();
    assert_eq!(voters, all);
}

#[tokio::test]
async fn min_majority_keeps_a_server_from_leading_alone() {
    let third = lonely(Counter::default(), "raft3", 2);
    assert_eq!(
        refusal(third.trigger_election().await),
        Refusal::NotAVoter(third.me().id)
    );
    assert_eq!(third.role(), Role::Joiner);
    // The same without it leads.
    let control = lonely(Counter::default(), "control", 1);
    control.await_leader(PATIENCE).await.expect("itself");
    assert_eq!(third.leader(), None);
}

#[tokio::test]
async fn entries_arrive_whatever_the_batch_size() {
    let one = |_, options: &mut ServerOptions| options.raft.batch_entries_max = 1;
    let servers = start_with(3, |_| Counter::default(), one);
    let leader = leading(&servers).await;
    let writes = (0..50).map(|_| servers[leader].write("1"));
    for written in futures::future::join_all(writes).await {
        written.expect("written");
    }
    eventually("all have applied all", async || {
        for server in &servers {
            (server.read_dirty("").await.ok()? == b"50").then_some(())?;
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn read_dirty_is_refused_where_it_is_disabled() {
    let enabled_on_first = |at, options: &mut ServerOptions| options.dirty_read = at == 0;
    let servers = start_with(3, |_| Counter::default(), enabled_on_first);
    let leader = leading(&servers).await;
    servers[leader].write("1").await.expect("written");
    // On followers and on the leader.
    for server in &servers[1..] {
        assert_eq!(
            refusal(server.read_dirty("").await),
            Refusal::DirtyReadDisabled
        );
    }
    servers[0].read_dirty("").await.expect("enabled here");
    // Other reads are not touched.
    assert_eq!(servers[leader].read("").await.expect("read"), b"1");
}

/// Collects what is logged in this process.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn debug_describes_this_server_and_no_other() {
    static INSTALLED: Once = Once::new();
    let lines = Lines::default();
    let writer = lines.clone();
    INSTALLED.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).expect("the first of this process");
    });
    let start = |name: &str, debug| {
        let options = ServerOptions {
            name: name.into(),
            debug,
            ..ServerOptions::default()
        };
        Server::start(Counter::default(), options).expect("started")
    };
    let servers = [start("talker", true), start("quiet", false)];
    for server in &servers {
        write(std::slice::from_ref(server), "1").await;
    }
    let described = |name: &str| {
        let text = String::from_utf8_lossy(&lines.0.lock().expect("no panic")).into_owned();
        let of = |line: &&str| line.contains(&format!("node=\"{name}\" status=Status"));
        text.lines().filter(of).count()
    };
    eventually("it describes itself", async || {
        (described("talker") > 0).then_some(())
    })
    .await;
    assert_eq!(described("quiet"), 0);
}

#[test]
fn options_that_contradict_themselves_are_refused() {
    let changes: [fn(&mut ServerOptions); 4] = [
        |options| options.initial_config = vec![("b".into(), "h:1".into())],
        |options| options.raft.heartbeat_milliseconds = 1000,
        |options| options.raft.election_timeout_max_milliseconds = Some(999),
        |options| options.raft.batch_entries_max = 0,
    ];
    for change in changes {
        let mut options = ServerOptions::default();
        change(&mut options);
        let result = Server::start(Counter::default(), options);
        assert!(matches!(result, Err(Error::Options(_))), "{result:?}");
    }
}
