//! A few drivers on one thread, with a network that delivers everything at once.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kontiki_raft::{ChangeRequest, ClusterId, Purpose, ServerId, Time};

use crate::driver::*;
use crate::host::Control;
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
        let mut count = self.count.lock().expect("unpoisoned");
        *count = count
            .checked_add(batch.len() as u64)
            .expect("room to count");
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

pub(super) struct One {
    pub(super) driver: Driver<u64>,
    inbox: Vec<Input<u64>>,
    pub(super) count: Shared<u64>,
    pub(super) applied_under: Shared<BTreeMap<u64, Version>>,
}

/// Servers and what they answered.
#[derive(Default)]
pub(super) struct World {
    pub(super) servers: BTreeMap<ServerId, One>,
    now: Time,
    asked: u64,
    answers: BTreeMap<u64, Result<Answer, Refusal>>,
    /// Nothing reaches or leaves these.
    pub(super) cut: Vec<ServerId>,
    /// What these send arrives so many milliseconds later.
    pub(super) late: BTreeMap<ServerId, u64>,
    under_way: Vec<(Time, Envelope)>,
    /// These say neither their digests nor their settings.
    pub(super) reticent: Vec<ServerId>,
    /// Bytes of the largest command, unless that is 8 MiB.
    pub(super) command_bytes_max: BTreeMap<u64, usize>,
}

impl World {
    /// Servers 1, 2, ... with these versions, bootstrapped.
    pub(super) fn of(versions: &[RangeInclusive<Version>]) -> Self {
        Self::with(kontiki_raft::Config::default(), versions)
    }

    pub(super) fn with(raft: kontiki_raft::Config, versions: &[RangeInclusive<Version>]) -> Self {
        let mut world = Self::default();
        let ids: Vec<ServerId> = (1..=versions.len() as u64).map(ServerId).collect();
        for (id, versions) in ids.iter().zip(versions) {
            world.start_with(id.0, versions.clone(), raft.clone());
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

    pub(super) fn start(&mut self, id: u64, versions: RangeInclusive<Version>) {
        self.start_with(id, versions, kontiki_raft::Config::default());
    }

    pub(super) fn start_with(
        &mut self,
        id: u64,
        versions: RangeInclusive<Version>,
        raft: kontiki_raft::Config,
    ) {
        let (count, applied_under) = (Shared::default(), Shared::default());
        let machine = Counting {
            versions,
            count: Shared::clone(&count),
            applied_under: Shared::clone(&applied_under),
        };
        let config = DriverConfig {
            raft,
            activate: false,
            pending_writes_max: 64,
            change_wait_max: Duration::from_secs(10),
            unapplied_bytes_max: 1 << 20,
            state_bytes_max: None,
            command_bytes_max: *self.command_bytes_max.get(&id).unwrap_or(&(8 << 20)),
            dirty_read: true,
            lease_reads: false,
            snapshots: SnapshotSettings::default(),
            sessions: crate::config::SessionSettings::default().bounds(),
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

    pub(super) fn ask(&mut self, of: ServerId, input: impl FnOnce(u64) -> Input<u64>) -> u64 {
        self.asked += 1;
        let input = input(self.asked);
        let one = self.servers.get_mut(&of).expect("it runs");
        one.inbox.push(input);
        self.asked
    }

    /// The machine of a server panics at its next command.
    pub(super) fn spoil(&mut self, server: u64) {
        let one = &self.servers[&ServerId(server)];
        *one.count.lock().expect("unpoisoned") = u64::MAX;
    }

    /// Some milliseconds pass, in steps of one, and everyone takes turns.
    pub(super) fn run(&mut self, milliseconds: u64) {
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
                let late = self.late.get(&envelope.from).copied().unwrap_or(0);
                let due = self.now + Duration::from_millis(late);
                self.under_way.push((due, envelope));
            }
            let under_way = std::mem::take(&mut self.under_way).into_iter();
            let (due, later) = under_way.partition(|(due, _)| *due <= self.now);
            self.under_way = later;
            for (_, mut envelope) in due {
                if self.reticent.contains(&envelope.from) {
                    (envelope.host.digest, envelope.host.settings) = (None, None);
                }
                let is_cut = self.cut.contains(&envelope.from) || self.cut.contains(&envelope.to);
                if let Some(one) = self.servers.get_mut(&envelope.to)
                    && !is_cut
                {
                    one.inbox.push(Input::Peer(envelope));
                }
            }
        }
    }

    pub(super) fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        for _ in 0..60_000 {
            if holds(self) {
                return;
            }
            self.run(1);
        }
        panic!("still not: {what}");
    }

    pub(super) fn leader(&self) -> Option<ServerId> {
        let serves = |one: &One| one.driver.status().serving && one.driver.status().term_committed;
        let mut all = self.servers.iter();
        all.find(|(_, one)| serves(one)).map(|(id, _)| *id)
    }

    pub(super) fn lead(&mut self) -> ServerId {
        self.until("a leader", |world| world.leader().is_some());
        self.leader().expect("just seen")
    }

    pub(super) fn answer(&mut self, id: u64) -> Result<Answer, Refusal> {
        self.until("an answer", |world| world.answers.contains_key(&id));
        self.answers[&id].clone()
    }

    pub(super) fn activate(&mut self) -> Result<Answer, Refusal> {
        let leader = self.lead();
        let id = self.ask(leader, |reply| Input::Activate { reply });
        self.answer(id)
    }

    pub(super) fn write(&mut self) -> Result<Answer, Refusal> {
        self.write_bytes(3)
    }

    pub(super) fn write_bytes(&mut self, bytes: usize) -> Result<Answer, Refusal> {
        let leader = self.lead();
        let command = Bytes::from(vec![b'x'; bytes]);
        let id = self.ask(leader, |reply| Input::Write { command, reply });
        self.answer(id)
    }

    pub(super) fn add(&mut self, server: u64, purpose: Purpose) -> u64 {
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

    pub(super) fn status(&self, server: u64) -> Status {
        self.servers[&ServerId(server)].driver.status()
    }

    pub(super) fn leave(&mut self, server: u64) {
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

    /// Verdicts in the leader's log.
    pub(super) fn verdicts(&self) -> usize {
        let leader = &self.servers[&self.leader().expect("one")].driver;
        let entries = (1..=leader.raft().last().index.0).map(kontiki_raft::Index);
        let payloads = entries.filter_map(|index| leader.entry(index));
        let controls = payloads.filter_map(|(_, payload)| Control::decode(payload));
        controls
            .filter(|control| matches!(control, Control::Verdict(_)))
            .count()
    }

    /// Checkpoints come and are judged.
    pub(super) fn judge(&mut self) {
        self.run(3000);
    }
}
