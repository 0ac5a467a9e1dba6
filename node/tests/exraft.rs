//! ExRaft's calls, options and callbacks, one after the other: `docs/exraft.md` names these tests.

mod common;

use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use common::embedded::{calm, leading, lonely, quick, start_with, write};
use common::probe::{Probe, Strings};
use common::{PATIENCE, eventually};
use kontiki_node::driver::Refusal;
use kontiki_node::handle::Failure;
use kontiki_node::machine::counter::Counter;
use kontiki_node::{Error, Index, Role, Server, ServerOptions};

/// A cluster of counters with a leader; which it is.
async fn counters(count: usize) -> (Vec<Server>, usize) {
    let servers = start_with(count, |_| Counter::default(), |_, _| {});
    let leader = leading(&servers).await;
    (servers, leader)
}

/// A cluster of probes; where the leader is.
async fn probes(count: usize) -> (Vec<Server>, Vec<Strings>, usize) {
    let strings: Vec<Strings> = (0..count).map(|_| Strings::default()).collect();
    let servers = start_with(count, |at| Probe::new(&strings[at]), |_, _| {});
    let leader = leading(&servers).await;
    (servers, strings, leader)
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> Refusal {
    match result {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn redirect<T: std::fmt::Debug>(result: Result<T, Error>) -> kontiki_node::ServerRef {
    match result {
        Err(Error::NotLeader { leader }) => leader,
        other => panic!("not a redirect: {other:?}"),
    }
}

// --- options ------------------------------------------------------------------------------------

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

// --- calls --------------------------------------------------------------------------------------

#[tokio::test]
async fn calls_that_wait_end_with_the_reason_of_stop_server() {
    let (servers, strings, leader) = probes(1).await;
    let server = &servers[leader];
    strings[0].hold();
    let stop = async {
        eventually("the machine is busy", async || {
            (strings[0].count("blocked") == 1).then_some(())
        })
        .await;
        // The machine is released while `stop` waits for it.
        let release = async {
            eventually("calls are refused", async || {
                matches!(server.write("late").await, Err(Error::Stopped { .. })).then_some(())
            })
            .await;
            strings[0].release();
        };
        tokio::join!(server.stop("maintenance"), release);
    };
    let (write, read, ()) = tokio::join!(server.write("block"), server.read(""), stop);
    // The write may have been applied; a read changes nothing.
    match write {
        Err(Error::Unknown(Failure::Ended(Some(reason)))) => assert_eq!(reason, "maintenance"),
        other => panic!("{other:?}"),
    }
    match (read, server.write("more").await) {
        (Err(Error::Stopped { reason: read }), Err(Error::Stopped { reason: write })) => {
            assert_eq!(
                (read.as_deref(), write.as_deref()),
                (Some("maintenance"), Some("maintenance"))
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(strings[0].count("stop Told(\"maintenance\")"), 1);
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
        assert!(page.entries.len() <= kontiki_node::driver::INSPECT_ENTRIES_MAX);
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

// --- callbacks ----------------------------------------------------------------------------------

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
