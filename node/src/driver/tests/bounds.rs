//! What waits in a driver is bounded in count, and what is one too many is refused at once.

use std::io::Read;

use bytes::Bytes;
use kontiki_raft::{ClusterId, Config, Purpose, ServerId, Time};

use super::world::World;
use crate::driver::*;
use crate::host::JOBS_MAX;
use crate::machine::{Command, Effects, Refused, RestoreError, StateMachine, Version, View};

/// Three servers of which one leads, and takes writes.
fn led(config: Config) -> (World, ServerId) {
    let mut world = World::with(config, &[1..=1, 1..=1, 1..=1]);
    world.activate().expect("activated");
    world.write().expect("written");
    let leader = world.lead();
    (world, leader)
}

#[track_caller]
fn assert_full(result: Result<Answer, Refusal>, expected: &str, bound: usize) {
    match result {
        Err(Refusal::QueueFull { what, max }) => assert_eq!((what, max), (expected, bound)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn writes_without_an_outcome_are_bounded() {
    let (mut world, leader) = led(Config::default());
    let write = |world: &mut World| {
        let command = Bytes::from_static(b"x");
        world.ask(leader, |reply| Input::Write { command, reply })
    };
    let asked: Vec<u64> = (0..65).map(|_| write(&mut world)).collect();
    assert_full(world.answer(asked[64]), "queue of pending writes", 64);
    for id in &asked[..64] {
        world.answer(*id).expect("written");
    }
    let again = write(&mut world);
    world.answer(again).expect("there is room again");
}

#[test]
fn reads_that_wait_for_a_round_are_bounded() {
    let (mut world, leader) = led(Config {
        reads_max: 8,
        ..Config::default()
    });
    let read = |world: &mut World| {
        world.ask(leader, |reply| Input::Read {
            query: Bytes::new(),
            mode: ReadMode::Linearizable,
            forward: false,
            reply,
        })
    };
    let asked: Vec<u64> = (0..9).map(|_| read(&mut world)).collect();
    assert_full(world.answer(asked[8]), "queue of reads", 8);
    for id in &asked[..8] {
        world.answer(*id).expect("read");
    }
    let again = read(&mut world);
    world.answer(again).expect("there is room again");
}

#[test]
fn changes_that_wait_are_bounded() {
    let (mut world, _) = led(Config::default());
    // It is not there, so it never votes, and whoever asks for that waits.
    let asked: Vec<u64> = (0..65).map(|_| world.add(9, Purpose::Join)).collect();
    assert_full(world.answer(asked[64]), "queue of pending changes", 64);
}

/// Lives on a thread of its own, and never gets anything done.
struct Stuck;

impl StateMachine for Stuck {
    fn name(&self) -> &'static str {
        "stuck"
    }

    fn apply(&mut self, _: Version, _: &[Command<'_>], _: &mut Effects) -> Vec<Vec<u8>> {
        unreachable!("nobody runs its jobs")
    }

    fn read(&self, _: &[u8]) -> Result<Vec<u8>, Refused> {
        unreachable!("nobody runs its jobs")
    }

    fn snapshot(&self) -> Box<dyn View> {
        unreachable!("nobody runs its jobs")
    }

    fn restore(&mut self, _: Version, _: &mut dyn Read) -> Result<(), RestoreError> {
        unreachable!("nobody runs its jobs")
    }

    fn size(&self) -> usize {
        0
    }
}

#[test]
fn jobs_of_a_machine_on_its_thread_are_bounded() {
    let now = Time(1);
    let config = crate::Config::default().driver(true);
    let (mut driver, host) = Driver::new(ServerId(1), config, Box::new(Stuck), now);
    assert!(host.is_some(), "it lives elsewhere");
    let mut inputs = vec![Input::Bootstrap {
        cluster: ClusterId(7),
        voters: vec![ServerId(1)],
        reply: 0,
    }];
    inputs.extend((1..=2 * JOBS_MAX).map(|reply| Input::Read {
        query: Bytes::new(),
        mode: ReadMode::Stale,
        forward: false,
        reply,
    }));
    let mut outputs = Vec::new();
    driver.turn(now, &mut inputs, &mut outputs);
    let jobs = outputs
        .iter()
        .filter(|output| matches!(output, Output::Job(_)));
    assert!(
        jobs.count() <= JOBS_MAX,
        "a channel of that length is never full"
    );
    let refused = outputs.iter().filter(|output| {
        let full = |what: &str| what == "queue of reads for the machine";
        matches!(output, Output::Reply(_, Err(Refusal::QueueFull { what, .. })) if full(what))
    });
    assert!(refused.count() >= JOBS_MAX, "as many as are too many");
}
