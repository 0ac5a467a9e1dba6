//! Machines on threads of their own, some of which hang.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use kontiki_raft::{ClusterId, Config, Index, Role, ServerId, Time};

use crate::driver::*;
use crate::host::{Host, Job};
use crate::machine::{
    BytesView, Command, Effects, Place, Refused, RestoreError, StateMachine, Version, View,
};

/// It does nothing, elsewhere.
struct Elsewhere;

impl StateMachine for Elsewhere {
    fn name(&self) -> &'static str {
        "elsewhere"
    }

    fn place(&self) -> Place {
        Place::Thread
    }

    fn apply(&mut self, _: Version, batch: &[Command<'_>], _: &mut Effects) -> Vec<Vec<u8>> {
        batch.iter().map(|_| Vec::new()).collect()
    }

    fn read(&self, _: &[u8]) -> Result<Vec<u8>, Refused> {
        Ok(Vec::new())
    }

    fn snapshot(&self) -> Box<dyn View> {
        Box::new(BytesView::new(Vec::new()))
    }

    fn restore(&mut self, _: Version, _: &mut dyn Read) -> Result<(), RestoreError> {
        Ok(())
    }

    fn size(&self) -> usize {
        0
    }
}

struct One {
    driver: Driver<u64>,
    host: Host,
    jobs: VecDeque<Job<u64>>,
    inbox: Vec<Input<u64>>,
}

#[derive(Default)]
struct World {
    servers: BTreeMap<ServerId, One>,
    /// The machines of these hang.
    hung: BTreeSet<ServerId>,
    now: Time,
    /// Who led, and when that was first seen.
    led: Vec<(u64, Time)>,
}

impl World {
    /// Three servers with these election priorities, of which one leads and takes writes.
    fn of(priorities: [u8; 3]) -> Self {
        let mut world = Self::default();
        let voters: Vec<ServerId> = (1..=3).map(ServerId).collect();
        for (id, election_priority) in voters.iter().zip(priorities) {
            let raft = Config {
                election_priority,
                ..Config::default()
            };
            let config = DriverConfig {
                raft,
                ..crate::Config::default().driver(true)
            };
            let (driver, host) = Driver::new(*id, config, Box::new(Elsewhere), world.now);
            let bootstrap = Input::Bootstrap {
                cluster: ClusterId(7),
                voters: voters.clone(),
                reply: 0,
            };
            let one = One {
                driver,
                host: host.expect("it lives on a thread"),
                jobs: VecDeque::new(),
                inbox: vec![bootstrap],
            };
            world.servers.insert(*id, one);
        }
        world.run(10_000);
        assert!(world.status(world.leader()).activated);
        world
    }

    fn run(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds / 5 {
            self.now = self.now + Duration::from_millis(5);
            let mut sent = Vec::new();
            for (id, one) in &mut self.servers {
                let mut outputs = Vec::new();
                one.driver.turn(self.now, &mut one.inbox, &mut outputs);
                for output in outputs {
                    match output {
                        Output::Send(envelope) => sent.push(envelope),
                        Output::Job(job) => one.jobs.push_back(job),
                        _ => {}
                    }
                }
                while !self.hung.contains(id)
                    && let Some(job) = one.jobs.pop_front()
                {
                    let done = one.host.run(job);
                    one.inbox.push(Input::Done(done));
                }
                let leads = one.driver.status().standing.role == Role::Leader;
                if leads && self.led.last().is_none_or(|(last, _)| *last != id.0) {
                    self.led.push((id.0, self.now));
                }
            }
            for envelope in sent {
                let one = self.servers.get_mut(&envelope.to).expect("it runs");
                one.inbox.push(Input::Peer(envelope));
            }
        }
    }

    fn leader(&self) -> u64 {
        self.led.last().expect("somebody leads").0
    }

    fn status(&self, id: u64) -> Status {
        self.servers[&ServerId(id)].driver.status()
    }

    fn write(&mut self) {
        let leader = ServerId(self.leader());
        let command = Bytes::from_static(b"x");
        let one = self.servers.get_mut(&leader).expect("it runs");
        one.inbox.push(Input::Write { command, reply: 1 });
    }

    fn hang(&mut self, id: u64) {
        self.hung.insert(ServerId(id));
    }

    /// So many seconds pass, with a write in each.
    fn seconds(&mut self, count: u64) {
        for _ in 0..count {
            self.write();
            self.run(1000);
        }
    }
}

#[test]
fn h12_a_leader_whose_machine_hangs_hands_over_and_is_not_ready() {
    let mut world = World::of([10, 5, 5]);
    assert_eq!(world.leader(), 1);
    world.hang(1);
    world.seconds(9);
    assert_eq!(world.leader(), 1, "it may yet go on");
    assert!(world.status(1).ready);
    world.seconds(4);
    let next = world.leader();
    assert_ne!(next, 1);
    // Its priority is the highest, and yet it is not handed back to for as long as its machine hangs.
    let changes = world.led.len();
    world.seconds(120);
    assert_eq!((world.led.len(), world.leader()), (changes, next));
    let status = world.status(1);
    let why = status.standstill.expect("it stands still");
    assert!(
        why.starts_with("the machine has applied nothing after entry"),
        "{why}"
    );
    assert!(!status.ready);
    assert!(world.status(next).ready);
    assert_eq!(world.status(next).standstill, None);
    // Once it moves it is ready, and leads again.
    world.hung.clear();
    world.seconds(10);
    let status = world.status(1);
    assert!(status.ready && status.standstill.is_none());
    assert_eq!(world.leader(), 1);
    assert!(status.applied > Index(130));
}

#[test]
fn h12_where_all_machines_hang_nobody_hands_over() {
    let mut world = World::of([10, 10, 10]);
    let leader = world.leader();
    (1..=3).for_each(|id| world.hang(id));
    world.seconds(120);
    assert_eq!(world.leader(), leader);
    assert_eq!(world.led.len(), 1);
    assert!((1..=3).all(|id| world.status(id).ready));
}

#[test]
fn h12_a_leader_with_nothing_to_apply_keeps_its_office() {
    let mut world = World::of([10, 10, 10]);
    let leader = world.leader();
    world.seconds(3);
    world.hang(leader);
    // Before the next checkpoint, which would be something.
    world.run(30_000);
    assert_eq!((world.leader(), world.led.len()), (leader, 1));
}

/// Two of three hang, one after the other.
#[test]
fn h12_machines_that_hang_one_after_the_other_make_no_ping_pong() {
    let mut world = World::of([10, 5, 5]);
    world.hang(1);
    world.seconds(20);
    let second = world.leader();
    assert_ne!(second, 1);
    world.hang(second);
    world.seconds(120);
    // That of the third alone goes on, which is no majority of the others.
    assert_eq!((world.led.len(), world.leader()), (2, second));
}
