//! The state limit: what is refused at it, what goes on, and what it bounds besides.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kontiki_raft::{ChangeRequest, ClusterId, Message, Purpose, ServerId, Time};

use crate::driver::*;
use crate::host::{SessionId, Stamp};
use crate::machine::kv::{Kv, KvCommand, KvQuery};

const VALUE: usize = 4096;

/// Drivers of `kv` on one thread, with a network that loses nothing.
#[derive(Default)]
struct World {
    drivers: BTreeMap<ServerId, (Driver<u64>, Vec<Input<u64>>)>,
    now: Time,
    asked: u64,
    answers: BTreeMap<u64, Result<Answer, Refusal>>,
    /// Appends to this server are lost.
    stuck: Option<ServerId>,
}

impl World {
    /// Server 1, which leads, with this limit.
    fn of_one(limit: u64) -> Self {
        let mut world = Self::default();
        world.start(1, Some(limit));
        let (cluster, voters) = (ClusterId(7), vec![ServerId(1)]);
        let told = world.ask(|reply| Input::Bootstrap {
            cluster,
            voters,
            reply,
        });
        told.expect("bootstrapped");
        world.until("it is activated", |world| world.status(1).activated);
        world
    }

    /// Servers 1 to 3, of which 1 leads, with this limit.
    fn of_three(limit: u64) -> Self {
        let mut world = Self::default();
        for id in 1..=3 {
            world.start(id, Some(limit));
        }
        for id in 1..=3 {
            world.asked += 1;
            let (_, inbox) = world.drivers.get_mut(&ServerId(id)).expect("it runs");
            inbox.push(Input::Bootstrap {
                cluster: ClusterId(7),
                voters: (1..=3).map(ServerId).collect(),
                reply: world.asked,
            });
        }
        world.run(1);
        world
            .ask(|reply| Input::TriggerElection { reply })
            .expect("it campaigns");
        world.until("1 leads and is activated", |world| {
            let status = world.status(1);
            status.standing.leader == Some(ServerId(1)) && status.activated
        });
        world
    }

    fn start(&mut self, id: u64, state_bytes_max: Option<u64>) {
        let raft = kontiki_raft::Config {
            log_tail_bytes: 64 << 10,
            log_kept_bytes_max: 256 << 10,
            inflight_bytes_max: 16 << 10,
            ..kontiki_raft::Config::default()
        };
        let config = DriverConfig {
            raft,
            activate: true,
            pending_writes_max: 64,
            change_wait_max: Duration::from_secs(10),
            unapplied_bytes_max: 1 << 20,
            state_bytes_max,
            command_bytes_max: 1 << 20,
            dirty_read: true,
            lease_reads: false,
            snapshots: SnapshotSettings {
                piece_bytes: 4 << 10,
                ..SnapshotSettings::default()
            },
            sessions: crate::config::SessionSettings::default().bounds(),
            checkpoint: CheckpointConfig {
                entries_max: 1000,
                interval: Duration::from_secs(1),
            },
        };
        let machine = Box::<Kv>::default();
        let (driver, away) = Driver::new(ServerId(id), config, machine, self.now);
        assert!(away.is_none());
        self.drivers.insert(ServerId(id), (driver, Vec::new()));
    }

    fn run(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.now = self.now + Duration::from_millis(1);
            let mut sent = Vec::new();
            for (driver, inbox) in self.drivers.values_mut() {
                let mut outputs = Vec::new();
                driver.turn(self.now, inbox, &mut outputs);
                for output in outputs {
                    match output {
                        Output::Send(envelope) => sent.push(envelope),
                        Output::Reply(id, result) => drop(self.answers.insert(id, result)),
                        Output::Away(mut host, job) => {
                            let done = host.run(job);
                            inbox.push(Input::Back(host, done));
                        }
                        _ => {}
                    }
                }
            }
            for envelope in sent {
                let is_append = matches!(envelope.message, Message::Append(_));
                if is_append && self.stuck == Some(envelope.to) {
                    continue;
                }
                if let Some((_, inbox)) = self.drivers.get_mut(&envelope.to) {
                    inbox.push(Input::Peer(envelope));
                }
            }
        }
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..60_000 {
            if holds(self) {
                return;
            }
            self.run(1);
        }
        panic!("still not: {what}");
    }

    /// Asks server 1, and waits for its answer.
    fn ask(&mut self, input: impl FnOnce(u64) -> Input<u64>) -> Result<Answer, Refusal> {
        self.asked += 1;
        let asked = self.asked;
        let (_, inbox) = self.drivers.get_mut(&ServerId(1)).expect("it runs");
        inbox.push(input(asked));
        self.until("an answer", |world| world.answers.contains_key(&asked));
        self.answers[&asked].clone()
    }

    fn put(&mut self, key: u64, bytes: usize) -> Result<Answer, Refusal> {
        let command = put(key, bytes);
        self.ask(|reply| Input::Write { command, reply })
    }

    fn delete(&mut self, key: u64) -> Result<Answer, Refusal> {
        let command = KvCommand::Delete {
            key: &key.to_be_bytes(),
            if_mod_revision: None,
        };
        let command = command.encode();
        self.ask(|reply| Input::Write { command, reply })
    }

    /// Puts one key after the other until one is refused; how many it took.
    fn fill(&mut self) -> u64 {
        let mut key = 0;
        loop {
            match self.put(key, VALUE) {
                Ok(_) => key += 1,
                Err(Refusal::StateLimit { .. }) => return key,
                Err(other) => panic!("{other:?}"),
            }
            assert!(key < 10_000, "never refused");
        }
    }

    fn status(&self, server: u64) -> Status {
        self.drivers[&ServerId(server)].0.status()
    }

    fn add(&mut self, server: u64) {
        let change = ChangeRequest {
            add: vec![(ServerId(server), Purpose::Stay)],
            ..ChangeRequest::default()
        };
        let until = Until::Committed;
        let added = self.ask(|reply| Input::Change {
            change,
            until,
            reply,
        });
        added.expect("added");
    }
}

fn put(key: u64, bytes: usize) -> Bytes {
    let command = KvCommand::Put {
        key: &key.to_be_bytes(),
        value: &vec![7; bytes],
        if_mod_revision: None,
    };
    command.encode()
}

#[test]
fn past_the_limit_what_grows_the_state_is_refused_and_all_else_goes_on() {
    let limit = 1 << 20;
    let mut world = World::of_one(limit);
    let keys = world.fill();
    let status = world.status(1);
    let held = status.state_bytes;
    assert!(held.total() <= limit, "{held:?}");
    assert!(
        held.total() + 3 * VALUE as u64 > limit,
        "too early: {held:?}"
    );
    assert!(held.machine >= keys * VALUE as u64, "{held:?}");
    assert!(held.log >= 64 << 10, "the tail counts: {held:?}");
    assert_eq!(world.put(keys, VALUE), world.put(keys, VALUE));
    let counters = world.drivers[&ServerId(1)].0.counters();
    assert_eq!(counters.refused_by_state_limit, 3);

    // Reads, sessions, membership, and commands that are known not to grow the state.
    let query = KvQuery::Get {
        key: &0_u64.to_be_bytes(),
    };
    let query = query.encode();
    let read = world.ask(|reply| Input::Read {
        query,
        mode: crate::driver::ReadMode::Linearizable,
        forward: false,
        reply,
    });
    assert!(matches!(read, Ok(Answer::Read { .. })), "{read:?}");
    let opened = world.ask(|reply| Input::OpenSession { reply });
    let Ok(Answer::SessionOpened { session, .. }) = opened else {
        panic!("{opened:?}");
    };
    let stamped = |world: &mut World, session: SessionId, command: Bytes| {
        let stamp = Stamp {
            session,
            sequence: 1,
            acknowledged: 0,
        };
        world.ask(|reply| Input::WriteInSession {
            command,
            cluster: ClusterId(7),
            stamp,
            reply,
        })
    };
    let refused = stamped(&mut world, session, put(keys, VALUE));
    assert!(
        matches!(refused, Err(Refusal::StateLimit { .. })),
        "{refused:?}"
    );
    world
        .ask(|reply| Input::CloseSession {
            cluster: ClusterId(7),
            session,
            reply,
        })
        .expect("closed");
    world.start(2, Some(limit));
    world.add(2);
    world.until("the learner has caught up, by a snapshot", |world| {
        let (one, two) = (world.status(1), world.status(2));
        two.applied == one.applied && two.state_bytes.machine == one.state_bytes.machine
    });

    // What deletes make room for is written again.
    for key in 0..keys / 2 {
        world.delete(key).expect("a delete is taken");
    }
    world.put(keys, VALUE).expect("there is room again");
}

#[test]
fn one_command_that_is_too_much_is_refused_before_it_is_taken() {
    let mut world = World::of_one(1 << 20);
    let refused = world.put(1, 1 << 20);
    assert!(
        matches!(refused, Err(Refusal::StateLimit { max, .. }) if max == 1 << 20),
        "{refused:?}"
    );
    world.put(1, VALUE).expect("a small one is taken");
}

#[test]
fn a_snapshot_beside_which_there_is_no_room_is_refused_and_freed() {
    let mut world = World::of_one(4 << 20);
    world.fill();
    // It has room for 2 MiB, and cannot know before that this is more.
    world.start(2, Some(1 << 20));
    world.add(2);
    world.until("it refuses", |world| {
        world.status(2).snapshot_refusal.is_some()
    });
    let status = world.status(2);
    let why = status.snapshot_refusal.expect("just seen");
    assert!(
        why.contains("more than 2097152, twice this server's state limit"),
        "{why}"
    );
    assert_eq!(status.state_bytes.receiving, 0, "it is freed");
    let most = world.drivers[&ServerId(2)]
        .0
        .counters()
        .snapshot_bytes_received;
    assert!(most <= 2 << 20, "{most} bytes were taken in");
    // One that has room is filled all the same.
    world.start(3, Some(4 << 20));
    world.add(3);
    world.until("the other has caught up", |world| {
        world.status(3).applied == world.status(1).applied
    });
}

/// Its lane for entries is stuck: the log that is kept for it would take all the room that there is.
#[test]
fn h5_a_server_that_is_heard_and_stores_nothing_stops_no_writes() {
    let limit = 1 << 20;
    let mut world = World::of_three(limit);
    let keys = world.fill();
    for key in 0..24 {
        world.delete(key).expect("deleted");
    }
    world.run(1000);
    let overwrite = |world: &mut World| world.put(keys - 1, VALUE);
    for _ in 0..100 {
        overwrite(&mut world).expect("all are well");
    }
    world.stuck = Some(ServerId(3));
    // While a snapshot travels, and until lost appends are given up, a write may have to wait.
    let mut refused = 0;
    for _ in 0..300 {
        if overwrite(&mut world).is_err() {
            refused += 1;
            world.run(2000);
            overwrite(&mut world).expect("two of three store it");
        }
    }
    assert!(refused < 60, "{refused} of 300 writes were refused");
    let held = world.status(1).state_bytes;
    assert!(held.total() <= limit, "{held:?}");
    assert!(world.status(3).applied < world.status(1).applied);
    // It is refilled as often as it takes, and follows once it stores again.
    world.stuck = None;
    world.until("it has caught up", |world| {
        world.status(3).applied == world.status(1).applied
    });
}
