//! A few drivers on one thread, with a network that delivers everything at once: versions and digests.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kontiki_raft::{ChangeRequest, ClusterId, Purpose, Role, ServerId, Time};

use super::*;
use crate::machine::{
    BytesView, Command, Effects, Place, Refused, RestoreError, StateMachine, Version, View,
};

type Shared<T> = Arc<Mutex<T>>;

/// Counts commands, in a place where a test can change it; remembers what they were applied under.
struct Counting {
    versions: RangeInclusive<Version>,
    count: Shared<u64>,
    applied_under: Shared<BTreeMap<u64, Version>>,
}

impl StateMachine for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn versions(&self) -> RangeInclusive<Version> {
        self.versions.clone()
    }

    fn place(&self) -> Place {
        Place::Inline
    }

    fn apply(&mut self, version: Version, batch: &[Command<'_>], _: &mut Effects) -> Vec<Vec<u8>> {
        let mut applied_under = self.applied_under.lock().expect("unpoisoned");
        *self.count.lock().expect("unpoisoned") += batch.len() as u64;
        applied_under.extend(batch.iter().map(|command| (command.id.index.0, version)));
        batch.iter().map(|_| Vec::new()).collect()
    }

    fn read(&self, _: &[u8]) -> Result<Vec<u8>, Refused> {
        Ok(Vec::new())
    }

    fn snapshot(&self) -> Box<dyn View> {
        let count = *self.count.lock().expect("unpoisoned");
        Box::new(BytesView::new(count.to_le_bytes().to_vec()))
    }

    fn restore(&mut self, _: Version, _: &mut dyn Read) -> Result<(), RestoreError> {
        Ok(())
    }

    fn size(&self) -> usize {
        8
    }
}

struct One {
    driver: Driver<u64>,
    inbox: Vec<Input<u64>>,
    count: Shared<u64>,
    applied_under: Shared<BTreeMap<u64, Version>>,
}

/// Servers and what they answered.
#[derive(Default)]
struct World {
    servers: BTreeMap<ServerId, One>,
    now: Time,
    asked: u64,
    answers: BTreeMap<u64, Result<Answer, Refusal>>,
    /// Nothing reaches or leaves these.
    cut: Vec<ServerId>,
}

impl World {
    /// Servers 1, 2, ... with these versions, bootstrapped.
    fn of(versions: &[RangeInclusive<Version>]) -> Self {
        let mut world = Self::default();
        let ids: Vec<ServerId> = (1..=versions.len() as u64).map(ServerId).collect();
        for (id, versions) in ids.iter().zip(versions) {
            world.start(id.0, versions.clone());
        }
        for id in &ids {
            let (cluster, voters) = (ClusterId(7), ids.clone());
            world.ask(*id, |reply| Input::Bootstrap {
                cluster,
                voters,
                reply,
            });
        }
        world
    }

    fn start(&mut self, id: u64, versions: RangeInclusive<Version>) {
        let (count, applied_under) = (Shared::default(), Shared::default());
        let machine = Counting {
            versions,
            count: Shared::clone(&count),
            applied_under: Shared::clone(&applied_under),
        };
        let config = DriverConfig {
            raft: kontiki_raft::Config::default(),
            activate: false,
            pending_writes_max: 64,
            unapplied_bytes_max: 1 << 20,
            dirty_read: true,
            snapshots: SnapshotSettings::default(),
            checkpoint: CheckpointConfig {
                entries_max: 1000,
                interval: Duration::from_secs(1),
            },
        };
        let (driver, away) = Driver::new(ServerId(id), config, Box::new(machine), self.now);
        assert!(away.is_none());
        let one = One {
            driver,
            inbox: Vec::new(),
            count,
            applied_under,
        };
        self.servers.insert(ServerId(id), one);
    }

    fn ask(&mut self, of: ServerId, input: impl FnOnce(u64) -> Input<u64>) -> u64 {
        self.asked += 1;
        let input = input(self.asked);
        let one = self.servers.get_mut(&of).expect("it runs");
        one.inbox.push(input);
        self.asked
    }

    /// Some milliseconds pass, in steps of one, and everyone takes turns.
    fn run(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.now = self.now + Duration::from_millis(1);
            let mut sent = Vec::new();
            for one in self.servers.values_mut() {
                let mut outputs = Vec::new();
                one.driver.turn(self.now, &mut one.inbox, &mut outputs);
                for output in outputs {
                    match output {
                        Output::Send(envelope) => sent.push(envelope),
                        Output::Reply(id, result) => drop(self.answers.insert(id, result)),
                        _ => {}
                    }
                }
            }
            for envelope in sent {
                let is_cut = self.cut.contains(&envelope.from) || self.cut.contains(&envelope.to);
                if let Some(one) = self.servers.get_mut(&envelope.to)
                    && !is_cut
                {
                    one.inbox.push(Input::Peer(envelope));
                }
            }
        }
    }

    fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        for _ in 0..60_000 {
            if holds(self) {
                return;
            }
            self.run(1);
        }
        panic!("still not: {what}");
    }

    fn leader(&self) -> Option<ServerId> {
        let serves = |one: &One| one.driver.status().serving && one.driver.status().term_committed;
        let mut all = self.servers.iter();
        all.find(|(_, one)| serves(one)).map(|(id, _)| *id)
    }

    fn lead(&mut self) -> ServerId {
        self.until("a leader", |world| world.leader().is_some());
        self.leader().expect("just seen")
    }

    fn answer(&mut self, id: u64) -> Result<Answer, Refusal> {
        self.until("an answer", |world| world.answers.contains_key(&id));
        self.answers[&id].clone()
    }

    fn activate(&mut self) -> Result<Answer, Refusal> {
        let leader = self.lead();
        let id = self.ask(leader, |reply| Input::Activate { reply });
        self.answer(id)
    }

    fn write(&mut self) -> Result<Answer, Refusal> {
        let leader = self.lead();
        let command = Bytes::from_static(b"one");
        let id = self.ask(leader, |reply| Input::Write { command, reply });
        self.answer(id)
    }

    fn add(&mut self, server: u64, purpose: Purpose) -> u64 {
        let leader = self.lead();
        let change = ChangeRequest {
            add: vec![(ServerId(server), purpose)],
            ..ChangeRequest::default()
        };
        let until = Until::Effective;
        self.ask(leader, |reply| Input::Change {
            change,
            until,
            reply,
        })
    }

    fn status(&self, server: u64) -> Status {
        self.servers[&ServerId(server)].driver.status()
    }

    fn leave(&mut self, server: u64) {
        let leader = self.lead();
        let change = ChangeRequest {
            remove: vec![ServerId(server)],
            ..ChangeRequest::default()
        };
        let until = Until::Effective;
        let id = self.ask(leader, |reply| Input::Change {
            change,
            until,
            reply,
        });
        self.answer(id).expect("removed");
        self.servers.remove(&ServerId(server));
    }

    /// Checkpoints come and are judged.
    fn judge(&mut self) {
        self.run(3000);
    }
}

fn reason(result: Result<Answer, Refusal>) -> String {
    result.expect_err("refused").to_string()
}

#[test]
fn the_first_version_is_one_that_all_run_and_precedes_every_command() {
    for (versions, expected) in [
        ([1..=1, 1..=1, 1..=1], 1),
        ([1..=1, 1..=2, 1..=2], 1),
        ([1..=3, 2..=4, 2..=5], 3),
        ([2..=3, 2..=3, 2..=3], 3),
    ] {
        let mut world = World::of(&versions);
        assert_eq!(world.write(), Err(Refusal::NotActivated));
        world.activate().expect("activated");
        world.write().expect("written");
        world.run(500);
        for one in world.servers.values() {
            let under = one.applied_under.lock().expect("unpoisoned");
            assert_eq!(
                under.values().collect::<Vec<_>>(),
                [&expected],
                "{versions:?}"
            );
        }
    }
    let mut world = World::of(&[1..=1, 1..=1, 2..=2]);
    world.lead();
    world.run(500); // until the last one has been heard from
    let text = reason(world.activate());
    assert!(
        text.contains("no version") && text.contains("counting"),
        "{text}"
    );
}

#[test]
fn a_server_that_is_not_heard_from_does_not_hold_up_the_first_version() {
    let mut world = World::of(&[1..=2, 1..=2, 1..=1]);
    world.cut = vec![ServerId(3)];
    world.activate().expect("activated");
    world.write().expect("written");
    let leader = world.leader().expect("one").0;
    // The lowest: the highest that the others run may be too high for it.
    assert_eq!(world.status(leader).version, 1);
    world.cut.clear();
    world.run(5000);
    assert_eq!(world.status(3).quarantine, None);
    assert_eq!(world.status(3).applied, world.status(1).applied);
}

#[test]
fn the_version_is_raised_once_the_last_server_runs_it() {
    let mut world = World::of(&[1..=1, 1..=1, 1..=1]);
    world.activate().expect("activated");
    for (lost, fresh) in [(1, 4), (2, 5), (3, 6)] {
        world.write().expect("written");
        let leader = world.lead();
        assert_eq!(world.status(leader.0).version, 1);
        world.servers.remove(&ServerId(lost));
        world.start(fresh, 1..=2);
        let id = world.add(fresh, Purpose::Replace(ServerId(lost)));
        world.answer(id).expect("replaced");
    }
    world.until("version 2", |world| {
        (4..=6).all(|id| world.status(id).version == 2)
    });
    world.write().expect("written");
    world.run(500);
    // Everyone has applied the same entries under the same versions.
    let under = |id| {
        world.servers[&ServerId(id)]
            .applied_under
            .lock()
            .expect("unpoisoned")
            .clone()
    };
    assert_eq!(under(4).values().collect::<Vec<_>>(), [&1, &1, &1, &2]);
    assert_eq!((under(5), under(6)), (under(4), under(4)));
}

#[test]
fn a_server_that_lacks_the_version_in_force_is_not_added() {
    let mut world = World::of(&[1..=2, 1..=2, 1..=2]);
    world.activate().expect("activated");
    world.write().expect("written");
    let leader = world.lead();
    for purpose in [Purpose::Join, Purpose::Stay, Purpose::Replace(ServerId(1))] {
        world.start(9, 1..=1);
        world.ask(leader, |_| Input::Runs {
            server: ServerId(9),
            versions: 1..=1,
        });
        let id = world.add(9, purpose);
        match world.answer(id) {
            Err(Refusal::UnsupportedVersion(text)) => {
                assert!(
                    text.contains("version 1 of") && text.contains("needs version 2"),
                    "{text}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(
        !world
            .status(leader.0)
            .configuration
            .configuration
            .contains(ServerId(9))
    );
}

#[test]
fn a_learner_that_turns_out_to_lack_the_version_is_not_sent_the_log_nor_promoted() {
    let mut world = World::of(&[1..=2, 1..=2, 1..=2]);
    world.activate().expect("activated");
    world.write().expect("written");
    let leader = world.lead().0;
    // The leader is not told what it runs, and learns it from its first answer.
    world.start(8, 1..=1);
    world.start(9, 1..=3);
    world.add(8, Purpose::Join);
    world.run(100);
    world.add(9, Purpose::Join);
    let votes = |world: &World, id| {
        let status = world.status(leader);
        status
            .configuration
            .configuration
            .voters
            .contains(&ServerId(id))
    };
    // The other one, though, is: once the first has stalled.
    world.until("another change is possible", |world| {
        world.status(leader).configuration.committed
    });
    let id = world.add(9, Purpose::Join);
    world.answer(id).expect("added");
    assert!(votes(&world, 9));
    world.run(30_000);
    assert!(!votes(&world, 8));
    assert_eq!(world.status(8).last.index.0, 0);
    assert_eq!(world.status(8).quarantine, None);
    // And as long as it is a member, nothing is raised.
    assert_eq!(world.status(leader).version, 2);
    world.until("it is shown as stalled", |world| {
        let peers = world.status(leader).progress;
        let mut stalled = peers.iter().filter(|peer| peer.stalled);
        stalled.any(|peer| peer.server == ServerId(8))
    });
}

#[test]
fn a_version_is_not_raised_while_a_member_lacks_it() {
    let mut world = World::of(&[1..=2, 1..=2, 1..=1]);
    world.activate().expect("activated");
    for _ in 0..3 {
        world.write().expect("written");
        world.run(1000);
    }
    assert!((1..=3).all(|id| world.status(id).version == 1));
    world.leave(3);
    world.until("version 2", |world| world.status(1).version == 2);
}

#[test]
fn the_one_whose_state_differs_is_quarantined_the_leader_as_well() {
    for is_leader in [false, true] {
        let mut world = World::of(&[1..=1, 1..=1, 1..=1]);
        world.activate().expect("activated");
        world.write().expect("written");
        world.judge();
        let leader = world.lead();
        let mut all = world.servers.keys();
        let wrong = *all.find(|id| (**id == leader) == is_leader).expect("one");
        assert!(
            world
                .servers
                .keys()
                .all(|id| world.status(id.0).quarantine.is_none())
        );
        *world.servers[&wrong].count.lock().expect("unpoisoned") += 1;
        world.write().expect("written");
        world.judge();
        for id in 1..=3 {
            let status = world.status(id);
            assert_eq!(
                status.quarantine.is_some(),
                id == wrong.0,
                "{:?}",
                status.quarantine
            );
            assert_eq!(status.diverged, None);
        }
        assert_ne!(world.lead(), wrong);
        world.write().expect("the others go on");
        // Said once: nothing more is appended while nothing changes.
        world.judge();
        let last = world.status(world.leader().expect("one").0).last;
        world.judge();
        assert_eq!(world.status(world.leader().expect("one").0).last, last);
    }
}

#[test]
fn without_a_majority_writes_stop_until_there_is_one_and_nobody_is_quarantined() {
    let mut world = World::of(&[1..=1, 1..=1]);
    world.activate().expect("activated");
    world.write().expect("written");
    world.judge();
    *world.servers[&ServerId(2)]
        .count
        .lock()
        .expect("unpoisoned") += 1;
    world.write().expect("nobody has noticed");
    world.judge();
    assert!(matches!(world.write(), Err(Refusal::Diverged(_))));
    let leader = world.lead().0;
    let text = world.status(leader).diverged.expect("shown");
    assert!(
        text.contains("no majority") && text.contains("0000000000000002 has"),
        "{text}"
    );
    assert!((1..=2).all(|id| world.status(id).quarantine.is_none()));
    // A third replays the log, and agrees with the one that is right.
    world.start(3, 1..=1);
    let id = world.add(3, Purpose::Join);
    world.answer(id).expect("added");
    world.judge();
    world.write().expect("written");
    assert!(world.status(2).quarantine.is_some());
    assert!(
        [1, 3]
            .iter()
            .all(|id| world.status(*id).quarantine.is_none())
    );
}

#[test]
fn a_server_that_says_nothing_is_not_judged() {
    let mut world = World::of(&[1..=1, 1..=1, 1..=1]);
    world.activate().expect("activated");
    world.write().expect("written");
    let leader = world.lead();
    let silent = *world.servers.keys().find(|id| **id != leader).expect("one");
    world.cut = vec![silent];
    for _ in 0..3 {
        world.write().expect("written");
        world.judge();
    }
    assert_eq!(world.servers[&silent].driver.status().digest, None);
    world.cut.clear();
    world.judge();
    assert!((1..=3).all(|id| world.status(id).quarantine.is_none()));
    let digests: Vec<_> = (1..=3).map(|id| world.status(id).digest).collect();
    assert!(digests[0].is_some() && digests.iter().all(|digest| *digest == digests[0]));
    assert_eq!(world.status(leader.0).standing.role, Role::Leader);
}
