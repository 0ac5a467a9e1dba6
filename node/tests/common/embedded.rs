//! Servers inside the test.

use std::net::TcpListener;

use kontiki_node::config::RaftSettings;
use kontiki_node::driver::Refusal;
use kontiki_node::machine::StateMachine;
use kontiki_node::machine::counter::Counter;
use kontiki_node::{Error, Server, ServerOptions, ServerRef};

use super::eventually;
use super::probe::{Probe, Strings};

/// Short timeouts, for tests in which leaders come and go.
pub fn quick(min_majority: usize) -> RaftSettings {
    RaftSettings {
        heartbeat_milliseconds: 20,
        election_timeout_milliseconds: 200,
        min_majority,
        ..RaftSettings::default()
    }
}

/// Long ones, for tests in which a busy machine must not cost a leader its office.
pub fn calm(min_majority: usize) -> RaftSettings {
    RaftSettings {
        heartbeat_milliseconds: 50,
        election_timeout_milliseconds: 3000,
        min_majority,
        ..RaftSettings::default()
    }
}

/// Servers raft1, raft2... that bootstrap themselves from one list.
pub fn start<M: StateMachine + 'static>(
    count: usize,
    machine: impl FnMut(usize) -> M,
) -> Vec<Server> {
    start_with(count, machine, |_, options| options.raft = quick(1))
}

/// The same, with options changed for each.
pub fn start_with<M: StateMachine + 'static>(
    count: usize,
    mut machine: impl FnMut(usize) -> M,
    change: impl Fn(usize, &mut ServerOptions),
) -> Vec<Server> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
        .collect();
    let address = |listener: &TcpListener| listener.local_addr().expect("bound").to_string();
    let listed = listeners.iter().enumerate();
    let initial_config: Vec<_> = listed
        .map(|(at, listener)| (format!("raft{}", at + 1), address(listener)))
        .collect();
    let servers = listeners.into_iter().enumerate().map(|(at, listener)| {
        let mut options = ServerOptions {
            name: format!("raft{}", at + 1),
            peer_listener: Some(listener),
            initial_config: initial_config.clone(),
            raft: calm(1),
            ..ServerOptions::default()
        };
        change(at, &mut options);
        Server::start(machine(at), options).expect("started")
    });
    servers.collect()
}

/// A server that is listed nowhere; with a `min_majority` above 1 it can never lead by itself.
pub fn lonely(machine: impl StateMachine + 'static, name: &str, min_majority: usize) -> Server {
    let options = ServerOptions {
        name: name.into(),
        raft: quick(min_majority),
        ..ServerOptions::default()
    };
    Server::start(machine, options).expect("started")
}

/// Where the leader is that serves and accepts writes.
pub async fn leading(servers: &[Server]) -> usize {
    eventually("a leader that serves", async || {
        for (at, server) in servers.iter().enumerate() {
            let Ok(status) = server.status().await else {
                continue;
            };
            if status.serving && status.term_committed && status.activated {
                return Some(at);
            }
        }
        None
    })
    .await
}

/// Writes to whoever leads by now; what is refused was never proposed, so it is safe to try again.
pub async fn write(servers: &[Server], command: &str) -> String {
    eventually("a leader that accepts a write", async || {
        for server in servers {
            match server.write(command).await {
                Ok(reply) => return Some(String::from_utf8(reply).expect("text")),
                Err(error) => assert!(!error.is_unknown(), "{error}"),
            }
        }
        None
    })
    .await
}

/// A cluster of counters with a leader; which it is.
pub async fn counters(count: usize) -> (Vec<Server>, usize) {
    let servers = start_with(count, |_| Counter::default(), |_, _| {});
    let leader = leading(&servers).await;
    (servers, leader)
}

/// A cluster of probes; where the leader is.
pub async fn probes(count: usize) -> (Vec<Server>, Vec<Strings>, usize) {
    let strings: Vec<Strings> = (0..count).map(|_| Strings::default()).collect();
    let servers = start_with(count, |at| Probe::new(&strings[at]), |_, _| {});
    let leader = leading(&servers).await;
    (servers, strings, leader)
}

pub fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> Refusal {
    match result {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

pub fn redirect<T: std::fmt::Debug>(result: Result<T, Error>) -> ServerRef {
    match result {
        Err(Error::NotLeader { leader }) => leader,
        other => panic!("not a redirect: {other:?}"),
    }
}
