//! What waits in a driver is bounded in count, and what is one too many is refused at once.

use std::io::Read;

use bytes::Bytes;
use kontiki_raft::{ChangeRequest, ClusterId, Config, Purpose, ServerId, Time};

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

/// 64 changes that never take effect, because the server that they add never starts.
fn ask_for_a_dead_joiner(world: &mut World) -> Vec<u64> {
    let asked = (0..64).map(|_| world.add(9, Purpose::Join)).collect();
    world.run(1000);
    asked
}

fn pending_changes(world: &World, leader: ServerId) -> u64 {
    let queues = world.servers[&leader].driver.queues();
    let changes = queues.iter().find(|queue| queue.what == "pending changes");
    changes.expect("it is a queue").held
}

fn transfer(world: &mut World, leader: ServerId) -> Result<Answer, Refusal> {
    let other = world.servers.keys().find(|id| **id != leader).copied();
    let asked = world.ask(leader, |reply| Input::Transfer {
        target: other,
        reply,
    });
    world.answer(asked)
}

#[test]
fn h10_changes_that_wait_keep_no_leader_from_handing_over() {
    let (mut world, leader) = led(Config::default());
    ask_for_a_dead_joiner(&mut world);
    let answer = transfer(&mut world, leader);
    assert!(matches!(answer, Ok(Answer::Transferred(_))), "{answer:?}");
}

#[test]
fn h10_a_change_that_does_not_take_effect_is_given_up_as_unknown() {
    let (mut world, leader) = led(Config::default());
    let asked = ask_for_a_dead_joiner(&mut world);
    // As long as a change may be waited for in these tests.
    world.run(10_000);
    for id in asked {
        let answer = world.answer(id);
        assert!(
            matches!(answer, Err(Refusal::ChangeUnfinished(_))),
            "{answer:?}"
        );
    }
    assert_eq!(world.lead(), leader, "nothing else ended the wait");
    let again = world.add(9, Purpose::Join);
    world.run(1000);
    let waiting = pending_changes(&world, leader);
    assert_eq!(waiting, 1, "there is room for request {again}");
}

#[test]
fn h10_a_waiter_that_is_gone_takes_no_place() {
    let (mut world, leader) = led(Config::default());
    // Whoever asked with an even number is gone.
    for one in world.servers.values_mut() {
        one.driver.notice_abandoned(|reply| reply % 2 == 0);
    }
    let asked = ask_for_a_dead_joiner(&mut world);
    assert_eq!(pending_changes(&world, leader), asked.len() as u64 / 2);
}

/// Lives on a thread of its own, and never gets anything done.
pub(super) struct Stuck;

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

/// Entries that the engine makes count at the leader as they do at its followers: the log of a cluster
/// that only changes its members is compacted.
#[test]
fn h14_the_entries_of_changes_alone_are_compacted() {
    let (mut world, leader) = led(Config {
        log_tail_bytes: 4 << 10,
        log_kept_bytes_max: 4 << 10,
        ..Config::default()
    });
    for at in 0..200 {
        let mut change = ChangeRequest::default();
        match at % 2 {
            0 => change.add.push((ServerId(9), Purpose::Stay)),
            _ => change.remove.push(ServerId(9)),
        }
        let until = Until::Committed;
        let id = world.ask(leader, |reply| Input::Change {
            change,
            until,
            reply,
        });
        world.answer(id).expect("changed");
    }
    world.run(200);
    for id in 1..=3 {
        let bytes = world.status(id).log_bytes;
        assert!(bytes <= 8 << 10, "{id} holds {bytes} bytes of log");
    }
}
