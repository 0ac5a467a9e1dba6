//! Membership and roles change at the wrong moment, with drivers whose messages the test passes on.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::probe::{Probe, Strings};
use kontiki_node::driver::{
    Answer, CheckpointConfig, Driver, DriverConfig, Envelope, Input, Loss, Output, Refusal,
    SnapshotSettings, Until,
};
use kontiki_node::host::{Done, Job};
use kontiki_node::machine::counter::Counter;
use kontiki_node::machine::{Effects, StateMachine};
use kontiki_node::{ClusterId, Role, ServerId};
use kontiki_raft::{ChangeRequest, Message, Purpose, Time};

type Answers = Vec<(&'static str, Result<Answer, Refusal>)>;

/// Two voters in one thread, whose clock and network are the test's.
struct Pair {
    drivers: [Driver<&'static str>; 2],
    now: Time,
    answers: Answers,
    /// Roles that machines on threads are to be told, each with whose it is.
    told: Vec<(usize, Role)>,
    /// Whether appends arrive.
    appends: bool,
}

impl Pair {
    fn new() -> Self {
        Self::of(|| Box::new(Counter::default()))
    }

    fn of(machine: impl Fn() -> Box<dyn StateMachine>) -> Self {
        let now = Time(1);
        let driver = |id| {
            let config = DriverConfig {
                raft: kontiki_raft::Config::default(),
                activate: true,
                pending_writes_max: 16,
                change_wait_max: Duration::from_secs(60),
                unapplied_bytes_max: 1 << 20,
                state_bytes_max: None,
                command_bytes_max: 1 << 20,
                dirty_read: true,
                lease_reads: false,
                snapshots: SnapshotSettings::default(),
                sessions: kontiki_node::Config::default().sessions.bounds(),
                checkpoint: CheckpointConfig {
                    entries_max: 1000,
                    interval: Duration::from_secs(60),
                },
            };
            Driver::new(ServerId(id), config, machine(), now).0
        };
        let mut pair = Self {
            drivers: [driver(1), driver(2)],
            now,
            answers: Vec::new(),
            told: Vec::new(),
            appends: true,
        };
        for at in [0, 1] {
            let bootstrap = Input::Bootstrap {
                cluster: ClusterId(7),
                voters: vec![ServerId(1), ServerId(2)],
                reply: "bootstrap",
            };
            pair.turn(vec![
                (at, Input::Connected(ServerId(2 - at as u64))),
                (at, bootstrap),
            ]);
        }
        pair
    }

    /// Gives inputs, and passes on all that follows from them.
    fn turn(&mut self, inputs: Vec<(usize, Input<&'static str>)>) {
        let inputs = inputs.into_iter();
        let mut waiting: Vec<_> = inputs.map(|(at, input)| (at, vec![input])).collect();
        for _ in 0..1000 {
            let Some((at, mut inputs)) = (!waiting.is_empty()).then(|| waiting.remove(0)) else {
                return;
            };
            let mut outputs = Vec::new();
            let due = self.drivers[at].turn(self.now, &mut inputs, &mut outputs);
            if due <= self.now {
                waiting.push((at, Vec::new()));
            }
            for output in outputs {
                match output {
                    Output::Send(envelope) if self.passes(&envelope) => {
                        let to = envelope.to.0 as usize - 1;
                        if to < 2 {
                            waiting.push((to, vec![Input::Peer(envelope)]));
                        }
                    }
                    Output::Reply(who, result) => self.answers.push((who, result)),
                    Output::Job(Job::Role(role)) => self.told.push((at, role)),
                    _ => {}
                }
            }
        }
        panic!("they never come to rest");
    }

    fn passes(&self, envelope: &Envelope) -> bool {
        self.appends || !matches!(envelope.message, Message::Append(_))
    }

    /// Lets the first lead; its first entry arrives if appends do.
    fn elect(&mut self) {
        self.let_lead(0);
    }

    fn let_lead(&mut self, at: usize) {
        self.now = self.now + Duration::from_millis(10);
        let reply = "election";
        self.turn(vec![(at, Input::TriggerElection { reply })]);
        assert_eq!(self.drivers[at].standing().role, Role::Leader);
    }

    fn add(&mut self, who: &'static str, id: u64) {
        let change = ChangeRequest {
            add: vec![(ServerId(id), Purpose::Join)],
            ..ChangeRequest::default()
        };
        let until = Until::Committed;
        let reply = who;
        self.turn(vec![(
            0,
            Input::Change {
                change,
                until,
                reply,
            },
        )]);
    }

    fn answer(&self, who: &str) -> Option<&Result<Answer, Refusal>> {
        let mut answers = self.answers.iter();
        answers
            .find(|(asked, _)| *asked == who)
            .map(|(_, answer)| answer)
    }
}

#[test]
fn a_leader_that_has_committed_nothing_says_no_commit() {
    let mut pair = Pair::new();
    pair.appends = false;
    pair.elect();
    pair.add("early", 3);
    assert_eq!(pair.answer("early"), Some(&Err(Refusal::NoCommit)));
    // Once it has, the same is begun.
    let mut pair = Pair::new();
    pair.elect();
    pair.add("late", 3);
    assert!(
        matches!(pair.answer("late"), Some(Ok(Answer::Changed(_)))),
        "{:?}",
        pair.answers
    );
}

#[test]
fn while_a_change_is_in_flight_another_is_refused() {
    let mut pair = Pair::new();
    pair.elect();
    pair.appends = false;
    pair.add("first", 3);
    assert_eq!(pair.answer("first"), None, "it is in flight");
    pair.add("second", 4);
    assert_eq!(pair.answer("second"), Some(&Err(Refusal::UnstableConfig)));
    // The same again is no other.
    pair.add("again", 3);
    assert_eq!(pair.answer("again"), None, "it waits, too");
    pair.appends = true;
    let reconnected = [
        Input::Disconnected(ServerId(2), Loss::Broken),
        Input::Connected(ServerId(2)),
    ];
    pair.turn(reconnected.into_iter().map(|input| (0, input)).collect());
    for who in ["first", "again"] {
        assert!(
            matches!(pair.answer(who), Some(Ok(Answer::Changed(_)))),
            "{:?}",
            pair.answers
        );
    }
}

/// A machine inside the driver has no part in this.
#[test]
fn a_write_is_answered_once_it_is_on_both() {
    let mut pair = Pair::new();
    pair.elect();
    pair.appends = false;
    let command = Bytes::from_static(b"5");
    pair.turn(vec![(
        0,
        Input::Write {
            command,
            reply: "write",
        },
    )]);
    assert_eq!(pair.answer("write"), None);
    pair.appends = true;
    let reconnected = [
        Input::Disconnected(ServerId(2), Loss::Broken),
        Input::Connected(ServerId(2)),
    ];
    pair.turn(reconnected.into_iter().map(|input| (0, input)).collect());
    assert!(
        matches!(pair.answer("write"), Some(Ok(Answer::Written { .. }))),
        "{:?}",
        pair.answers
    );
}

#[test]
fn a_busy_machine_is_told_the_last_role_only() {
    let mut pair = Pair::of(|| Box::new(Probe::new(&Strings::default())));
    for _ in 0..100 {
        pair.let_lead(0);
        pair.let_lead(1);
    }
    // It has not done the first yet.
    let first = |told: &[(usize, Role)]| -> Vec<Role> {
        let mine = told.iter().filter(|(at, _)| *at == 0);
        mine.map(|(_, role)| *role).collect()
    };
    assert_eq!(first(&pair.told).len(), 1, "{:?}", pair.told);
    pair.let_lead(0);
    for expected in [2, 2] {
        let done = Input::Done(Done::Told(Effects::default()));
        pair.turn(vec![(0, done)]);
        assert_eq!(first(&pair.told).len(), expected, "{:?}", pair.told);
    }
    assert_eq!(first(&pair.told).last(), Some(&Role::Leader));
}
