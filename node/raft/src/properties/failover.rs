//! How long three servers go without a leader when its process dies.
//!
//! Both survivors learn that it is gone soon after each other, so both campaign within half a
//! heartbeat: the outage ends with the first, unless they stand in each other's way.

use std::time::Duration;

use crate::config::Config;
use crate::configuration::Configuration;
use crate::message::Message;
use crate::output::Output;
use crate::raft::Raft;
use crate::types::{ServerId, Time};
use crate::view::Role;

/// Time moves in such steps.
const STEP: Duration = Duration::from_micros(100);
/// What a server is told, at the earliest.
type News = (Time, ServerId, Told);

enum Told {
    Message(ServerId, Message),
    LeaderIsGone,
}

struct World {
    rafts: Vec<Raft>,
    now: Time,
    news: Vec<News>,
    /// From server to server.
    delay: Duration,
    dead: Option<ServerId>,
}

impl World {
    fn new(seed: u64, delay: Duration) -> Self {
        let config = Config {
            seed,
            ..Config::default()
        };
        Self::with(&config, delay)
    }

    fn with(config: &Config, delay: Duration) -> Self {
        let ids = [1, 2, 3].map(ServerId);
        let raft = |id| {
            let mut raft = Raft::new(id, config.clone(), Time(0));
            raft.bootstrap(Time(0), Configuration::of(ids));
            raft
        };
        Self {
            rafts: ids.map(raft).into(),
            now: Time(0),
            news: Vec::new(),
            delay,
            dead: None,
        }
    }

    fn step(&mut self) {
        self.now = self.now + STEP;
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.news)
            .into_iter()
            .partition::<Vec<News>, _>(|(at, ..)| *at <= now);
        self.news = later;
        let mut due = due;
        for raft in &mut self.rafts {
            let id = raft.id;
            if self.dead == Some(id) {
                continue;
            }
            raft.tick(now);
            for (_, _, told) in due.extract_if(.., |(_, to, _)| *to == id) {
                match told {
                    // Nothing but the no-op is ever appended, so entries are told by their range.
                    Told::Message(from, message) => {
                        let entries = match &message {
                            Message::Append(append) if append.last > append.prev.index => {
                                vec![crate::log::EntryMeta {
                                    term: append.term,
                                    kind: crate::log::EntryKind::Noop,
                                    size: 0,
                                }]
                            }
                            _ => Vec::new(),
                        };
                        raft.receive(now, from, message, &entries);
                    }
                    Told::LeaderIsGone => {
                        let leader = self.dead.expect("it died");
                        raft.disconnected(now, leader, true);
                    }
                }
            }
            raft.take_log_changes();
            raft.persisted(now, raft.last(), raft.generation());
            let mut outputs = Vec::new();
            raft.finish(now, &mut outputs);
            for output in outputs {
                if let Output::Send { to, message } = output {
                    let told = Told::Message(id, message);
                    self.news.push((now + self.delay, to, told));
                }
            }
        }
    }

    /// The server that leads and has committed an entry of its term.
    fn leader(&self) -> Option<ServerId> {
        let leads = |raft: &&Raft| raft.role() == Role::Leader && raft.is_term_committed();
        let mut alive = self.rafts.iter().filter(|raft| self.dead != Some(raft.id));
        alive.find(leads).map(|raft| raft.id)
    }

    fn lead(&mut self) -> ServerId {
        for _ in 0..600_000 {
            if let Some(leader) = self.leader() {
                return leader;
            }
            self.step();
        }
        panic!("nobody leads for a minute");
    }

    /// The leader dies; the survivors are told so after these delays. How long nobody leads.
    fn outage(&mut self, noticed: [Duration; 2]) -> Duration {
        let dead = self.lead();
        for _ in 0..1500 {
            self.step(); // all hear the leader
        }
        self.dead = Some(dead);
        let survivors = (1..=3).map(ServerId).filter(|id| *id != dead);
        for (survivor, after) in survivors.zip(noticed) {
            let told = (self.now + after, survivor, Told::LeaderIsGone);
            self.news.push(told);
        }
        let since = self.now;
        self.lead();
        self.now.since(since)
    }
}

#[test]
fn survivors_who_know_that_the_leader_is_gone_do_not_stand_in_each_others_way() {
    let heartbeat = Config::default().heartbeat;
    // Microseconds from server to server, and until each notices.
    for (delay, noticed) in [
        (100, [0, 0]),
        (500, [300, 0]),
        (1000, [0, 2000]),
        (500, [0, 20_000]),
        (500, [20_000, 0]),
    ] {
        // The pause of each is at most half a heartbeat; two round trips and a commit come on top.
        let noticed = noticed.map(Duration::from_micros);
        let max = noticed[0].max(noticed[1]) + heartbeat * 3 / 5;
        for seed in 0..200 {
            let mut world = World::new(seed, Duration::from_micros(delay));
            let outage = world.outage(noticed);
            assert!(
                outage <= max,
                "{outage:?}, seed {seed}, {delay}, {noticed:?}"
            );
        }
    }
}

/// A heartbeat of 20 ms and a round trip of nearly half an election timeout: answers come long after a few
/// heartbeats.
#[test]
fn h13_servers_whose_round_trip_is_many_heartbeats_elect_a_leader() {
    for round_trip in [100, 200, 400, 490] {
        for seed in 0..10 {
            let config = Config {
                seed,
                heartbeat: Duration::from_millis(20),
                ..Config::default()
            };
            let mut world = World::with(&config, Duration::from_millis(round_trip / 2));
            world.lead(); // within a minute, or it panics
            let outage = world.outage([Duration::ZERO; 2]);
            assert!(
                outage < Duration::from_secs(20),
                "{outage:?}, seed {seed}, {round_trip} ms"
            );
        }
    }
}
