//! Machines that misbehave: what the trait documents of each, and that nothing is lost that another
//! server has.

mod common;

use std::sync::Arc;

use common::embedded::{leading, lonely, probes, start_with, write};
use common::probe::{Probe, Strings};
use common::{PATIENCE, eventually};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use kontiki_node::driver::{PeerStatus, Refusal, Status};
use kontiki_node::{Error, Index, Role, Server, ServerOptions};
use kontiki_proto::v1;
use kontiki_proto::v1::admin_client::AdminClient;

fn strings(count: usize) -> Vec<Strings> {
    (0..count).map(|_| Strings::default()).collect()
}

async fn status(server: &Server) -> Status {
    server.status().await.expect("it runs")
}

async fn quarantined(server: &Server) -> Status {
    eventually("it is quarantined", async || {
        let status = status(server).await;
        status.quarantine.is_some().then_some(status)
    })
    .await
}

async fn applied(server: &Server, index: Index) {
    eventually("it has applied", async || {
        (status(server).await.applied >= index).then_some(())
    })
    .await;
}

async fn busy(strings: &Strings) {
    eventually("it is busy", async || {
        (strings.count("blocked") == 1).then_some(())
    })
    .await;
}

fn is_quarantined<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Refused(Refusal::Quarantined(_))))
}

fn is_unknown<T>(result: &Result<T, Error>) -> bool {
    result.as_ref().is_err_and(Error::is_unknown)
}

#[tokio::test]
async fn a_leader_whose_machine_panics_gives_way_and_nothing_is_lost() {
    for inline in [false, true] {
        let strings = strings(3);
        let machine = |at: usize| match inline {
            true => Probe::inline(&strings[at]),
            false => Probe::new(&strings[at]),
        };
        let mut servers = start_with(3, machine, |_, _| {});
        let leader = leading(&servers).await;
        servers[leader].write("before").await.expect("written");
        strings[leader].let_panic();
        // It is committed, so it may be applied; and it is, where the machine does not panic.
        let result = servers[leader].write("panic").await;
        assert!(is_unknown(&result), "{result:?}");
        let sick = servers.remove(leader);
        assert_eq!(write(&servers, "after").await, "3");
        let seen = quarantined(&sick).await;
        let why = seen.quarantine.expect("quarantined");
        assert!(
            why.contains("panicked in apply") && why.contains("as asked"),
            "{why}"
        );
        assert!(!seen.ready && seen.standing.role != Role::Leader);
        // It goes on storing, and serves nothing.
        let healthy = status(&servers[leading(&servers).await]).await;
        let stored = eventually("it stores what is written after", async || {
            let status = status(&sick).await;
            (status.commit >= healthy.applied).then_some(status)
        })
        .await;
        assert_eq!(stored.applied, seen.applied);
        assert!(is_quarantined(&sick.read_dirty("").await));
        assert!(is_quarantined(&sick.trigger_election().await));
        let next = leading(&servers).await;
        assert_eq!(
            servers[next].read("").await.expect("read"),
            b"before,panic,after"
        );
    }
}

#[tokio::test]
async fn a_follower_whose_machine_panics_holds_nobody_up() {
    let (mut servers, strings, leader) = probes(3).await;
    let follower = (leader + 1) % 3;
    strings[follower].let_panic();
    assert_eq!(servers[leader].write("panic").await.expect("written"), b"1");
    let term = status(&servers[leader]).await.standing.term;
    let sick = servers.remove(follower);
    quarantined(&sick).await;
    assert_eq!(write(&servers, "after").await, "2");
    let leader = leading(&servers).await;
    let now = status(&servers[leader]).await.standing.term;
    assert_eq!(now, term, "nobody campaigned");
}

#[tokio::test]
async fn a_command_that_makes_every_machine_panic_stops_all_before_it() {
    let (servers, strings, leader) = probes(3).await;
    servers[leader].write("before").await.expect("written");
    for strings in &strings {
        strings.let_panic();
    }
    let result = servers[leader].write("panic").await;
    assert!(is_unknown(&result), "{result:?}");
    for server in &servers {
        quarantined(server).await;
    }
    for server in &servers {
        assert!(server.write("after").await.is_err());
        assert!(server.read("").await.is_err());
        server.ping(PATIENCE).await.expect("it runs");
        // The log is there to be looked at, and what is applied ends before the command.
        let log = server.inspect(Index(1)).await.expect("inspected");
        assert!(log.status.standing.role != Role::Leader && !log.status.serving);
        let at = |text: &[u8]| log.entries.iter().find(|entry| &entry.payload[..] == text);
        let fatal = at(b"panic").expect("it is in the log").id.index;
        assert!(log.status.applied < fatal && log.status.commit >= fatal);
        assert!(at(b"before").is_some() && at(b"after").is_none());
        // Over gRPC, too.
        let address = format!("http://{}", server.me().peer_address);
        let mut admin = AdminClient::connect(address).await.expect("it listens");
        let request = v1::InspectRequest::default();
        let seen = admin
            .inspect(request)
            .await
            .expect("inspected")
            .into_inner();
        let shown = seen.entries.iter().map(|entry| &entry.payload);
        assert!(shown.eq(log.entries.iter().map(|entry| &entry.payload)));
    }
}

#[tokio::test]
async fn a_machine_that_panics_in_read_is_not_asked_again() {
    let (mut servers, _, leader) = probes(3).await;
    servers[leader].write("before").await.expect("written");
    let read = servers[leader].read("panic").await;
    assert!(is_quarantined(&read), "{read:?}");
    let sick = servers.remove(leader);
    quarantined(&sick).await;
    assert_eq!(write(&servers, "after").await, "2");
    assert!(is_quarantined(&sick.read_dirty("").await));
}

#[tokio::test]
async fn a_validator_that_panics_refuses_the_command() {
    let (servers, _, leader) = probes(1).await;
    let before = status(&servers[leader]).await.last;
    let written = servers[leader].write("panic in validator").await;
    let refused = matches!(&written, Err(Error::Refused(Refusal::RefusedByMachine(_))));
    assert!(refused, "{written:?}");
    let now = status(&servers[leader]).await;
    assert_eq!((now.last, now.quarantine), (before, None));
    assert_eq!(servers[leader].write("a").await.expect("written"), b"1");
}

/// Value of a metric, named with its labels.
fn metric(server: &Server, name: &str) -> u64 {
    let text = server.metrics();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("{name} is not in:\n{text}"));
    value.trim().parse().expect("a whole number")
}

#[tokio::test]
async fn an_effect_that_fails_or_panics_is_counted_and_the_write_stands() {
    let (servers, strings, leader) = probes(3).await;
    let leads = &servers[leader];
    assert_eq!(leads.write("fail").await.expect("written"), b"1");
    assert_eq!(leads.write("boom").await.expect("written"), b"2");
    assert_eq!(leads.write("effect").await.expect("written"), b"3");
    let failed = "kontiki_effects_total{outcome=\"failed\"}";
    eventually("both are counted", async || {
        (metric(leads, failed) == 2).then_some(())
    })
    .await;
    eventually("the next is run", async || {
        (strings[leader].count("effect of") > 0).then_some(())
    })
    .await;
    assert_eq!(status(leads).await.quarantine, None);
    assert_eq!(leads.read("").await.expect("read"), b"fail,boom,effect");
    for (at, server) in servers.iter().enumerate() {
        assert!(at == leader || metric(server, failed) == 0);
    }
}

#[tokio::test]
async fn effects_are_of_the_leader_of_their_term_and_never_repeated() {
    let (mut servers, mut strings, leader) = probes(3).await;
    let (_, id) = servers[leader]
        .write_entry("effect")
        .await
        .expect("written");
    let effect = format!("effect of {}", id.index.0);
    eventually("it is run", async || {
        (strings[leader].count(&effect) == 1).then_some(())
    })
    .await;
    // One that joins applies the entry anew, and leads then.
    let replayed = Strings::default();
    let joiner = lonely(Probe::new(&replayed), "raft4", 2);
    let added = servers[leader].add_server(&joiner.me().peer_address).await;
    added.expect("added");
    servers.push(joiner);
    strings.push(replayed);
    applied(&servers[3], id.index).await;
    let transferred = servers[leader].transfer_leadership(Some("raft4")).await;
    transferred.expect("transferred");
    let (_, second) = eventually("the joiner leads", async || {
        servers[3].write_entry("effect").await.ok()
    })
    .await;
    let next = format!("effect of {}", second.index.0);
    eventually("its effect", async || {
        (strings[3].count(&next) == 1).then_some(())
    })
    .await;
    for server in &servers {
        applied(server, second.index).await;
    }
    for (at, strings) in strings.iter().enumerate() {
        assert_eq!(strings.count(&effect), usize::from(at == leader), "{at}");
        assert_eq!(strings.count(&next), usize::from(at == 3), "{at}");
    }
}

#[tokio::test]
async fn a_later_leader_does_not_run_the_effects_of_an_earlier_one() {
    let (servers, strings, leader) = probes(3).await;
    let next = (leader + 1) % 3;
    // It stores all, and applies nothing before it leads.
    strings[next].hold();
    servers[leader].write("block").await.expect("written");
    let (_, id) = servers[leader]
        .write_entry("effect")
        .await
        .expect("written");
    busy(&strings[next]).await;
    let name = servers[next].me().name.clone();
    let transferred = servers[leader].transfer_leadership(Some(&name)).await;
    assert_eq!(transferred.expect("transferred").name, name);
    strings[next].release();
    let (reply, second) = eventually("it serves", async || {
        servers[next].write_entry("effect").await.ok()
    })
    .await;
    assert_eq!(reply, b"3");
    let own = format!("effect of {}", second.index.0);
    eventually("its own effect", async || {
        (strings[next].count(&own) == 1).then_some(())
    })
    .await;
    let earlier = format!("effect of {}", id.index.0);
    assert_eq!(strings[next].count(&earlier), 0);
    assert_eq!(strings[leader].count(&earlier), 1);
}

#[tokio::test]
async fn a_leader_with_a_slow_machine_keeps_its_office() {
    let (servers, strings, leader) = probes(3).await;
    let (leads, follows) = (&servers[leader], &servers[(leader + 1) % 3]);
    let before = status(leads).await;
    strings[leader].hold();
    let writes = async {
        let commands = (0..10).map(|at| if at == 0 { "block" } else { "more" });
        futures::future::join_all(commands.map(|command| leads.write(command))).await
    };
    let meanwhile = async {
        busy(&strings[leader]).await;
        // What is written is committed, and applied by the others.
        let first = eventually("the commit index moves", async || {
            let now = status(leads).await;
            (now.commit == now.last.index && now.commit.0 >= before.commit.0 + 10).then_some(now)
        })
        .await;
        applied(follows, first.commit).await;
        assert!(first.applied < first.commit);
        let heard = |status: &Status| -> Vec<_> {
            let peers = status.progress.iter();
            peers
                .map(|peer: &PeerStatus| (peer.server, peer.heard))
                .collect()
        };
        // Signs of life go on, though no entry does.
        eventually("both followers are heard again", async || {
            let (then, now) = (heard(&first), heard(&status(leads).await));
            let later = then.iter().zip(&now).all(|(then, now)| now.1 > then.1);
            later.then_some(())
        })
        .await;
        let now = status(leads).await;
        assert_eq!((now.standing, now.serving), (before.standing, true));
        assert!(now.applied < now.commit);
        strings[leader].release();
    };
    let (replies, ()) = tokio::join!(writes, meanwhile);
    for (at, reply) in replies.into_iter().enumerate() {
        assert_eq!(reply.expect("written"), (at + 1).to_string().into_bytes());
    }
    assert_eq!(status(leads).await.standing, before.standing);
}

#[tokio::test]
async fn the_backlog_of_a_slow_machine_is_bounded() {
    const MAX: usize = 1 << 20;
    let strings = strings(1);
    let bounded = |_, options: &mut ServerOptions| options.limits.unapplied_bytes_max = MAX;
    let servers = start_with(1, |at| Probe::new(&strings[at]), bounded);
    let server = &servers[leading(&servers).await];
    strings[0].hold();
    let command = vec![b'x'; 64 << 10];
    let mut waiting = FuturesUnordered::new();
    waiting.push(server.write(b"block".to_vec()));
    let refused = loop {
        if let Some(Some(result)) = waiting.next().now_or_never() {
            break result;
        }
        assert!(
            waiting.len() * command.len() < 2 * MAX,
            "it is never refused"
        );
        waiting.push(server.write(command.clone()));
        // Once this is answered, the write before it was looked at.
        status(server).await;
    };
    match refused {
        Err(Error::Refused(Refusal::QueueFull { max, .. })) => assert_eq!(max, MAX),
        other => panic!("{other:?}"),
    }
    assert!(waiting.len() * command.len() >= MAX, "{}", waiting.len());
    strings[0].release();
    // All that was accepted is answered, and more is accepted again.
    let mut answered = 0;
    while let Some(result) = waiting.next().await {
        answered += usize::from(result.is_ok());
    }
    assert!(answered * command.len() >= MAX, "{answered}");
    server.write("more").await.expect("accepted again");
}

#[tokio::test]
async fn a_follower_whose_machine_is_slow_stores_no_more_than_its_bound_and_catches_up() {
    const MAX: usize = 1 << 20;
    /// What may arrive in one turn beside it: the appends in flight.
    const SLACK: usize = 5 << 20;
    let strings = strings(3);
    let bounded = |_, options: &mut ServerOptions| {
        options.limits.unapplied_bytes_max = MAX;
        options.limits.log_tail_bytes = 64 << 10;
    };
    let servers = start_with(3, |at| Probe::new(&strings[at]), bounded);
    let leads = leading(&servers).await;
    let slow = (leads + 1) % 3;
    strings[slow].hold();
    let leader = &servers[leads];
    leader.write("block").await.expect("the others apply it");
    busy(&strings[slow]).await;
    let command = vec![b'x'; 64 << 10];
    let written = 4 * (MAX + SLACK) / command.len();
    for _ in 0..written {
        leader.write(command.clone()).await.expect("written");
    }
    let status_of_slow = status(&servers[slow]).await;
    let held = status_of_slow.log_bytes;
    assert!((MAX..=MAX + SLACK).contains(&held), "{held} bytes");
    assert!(status_of_slow.applied < status(leader).await.applied);
    strings[slow].release();
    eventually("it catches up", async || {
        let (slow, leader) = (status(&servers[slow]).await, status(leader).await);
        (slow.applied == leader.applied).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_with_a_busy_machine_ends_all_the_same() {
    for reason in [Some("told to"), None] {
        let strings = strings(1);
        let impatient = |_, options: &mut ServerOptions| {
            options.limits.stop_timeout_milliseconds = 50;
        };
        let mut servers = start_with(1, |at| Probe::new(&strings[at]), impatient);
        leading(&servers).await;
        let server = Arc::new(servers.remove(0));
        strings[0].hold();
        let (writer, reader) = (server.clone(), server.clone());
        let write = tokio::spawn(async move { writer.write("block").await });
        busy(&strings[0]).await;
        let read = tokio::spawn(async move { reader.read_dirty("").await });
        server.ping(PATIENCE).await.expect("it runs");
        match reason {
            Some(reason) => server.stop(reason).await,
            None => {
                write.abort();
                read.abort();
                assert!(write.await.is_err() && read.await.is_err());
                drop(Arc::into_inner(server).expect("the last"));
                strings[0].release();
                assert_eq!(strings[0].count("stop"), 0, "as in a crash");
                return;
            }
        }
        let write = write.await.expect("no panic");
        assert!(is_unknown(&write), "{write:?}");
        // It is with the machine, and does not wait for that.
        let read = read.await.expect("no panic");
        assert!(matches!(read, Err(Error::Stopped { .. })), "{read:?}");
        let late = server.ping(PATIENCE).await;
        assert!(matches!(late, Err(Error::Stopped { .. })), "{late:?}");
        strings[0].release();
        eventually("the machine is told in the end", async || {
            (strings[0].count("stop Told(\"told to\")") == 1).then_some(())
        })
        .await;
    }
}
