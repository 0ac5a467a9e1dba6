//! Members that are configured differently, and a network that is too slow for the timers.

use std::time::Duration;

use kontiki_raft::{Config, Purpose, ServerId};

use super::world::World;
use crate::driver::{Refusal, WarningReason};

fn reasons(world: &World, server: u64) -> Vec<WarningReason> {
    let warnings = world.status(server).warnings;
    warnings.iter().map(|warning| warning.reason).collect()
}

#[test]
fn h9_the_leader_names_members_whose_bounds_differ_for_as_long_as_they_are_members() {
    let mut world = World::of(&[1..=1, 1..=1]);
    world.activate().expect("activated");
    let leader = world.lead().0;
    let usual = Config::default();
    let other = Config {
        uncommitted_bytes_max: usual.uncommitted_bytes_max / 4,
        heartbeat: usual.heartbeat * 4,
        ..usual
    };
    world.start_with(3, 1..=1, other);
    world.run(2000);
    assert_eq!(reasons(&world, leader), []);
    let added = world.add(3, Purpose::Join);
    world.answer(added).expect("added");
    world.run(500);
    assert_eq!(
        reasons(&world, leader),
        [
            WarningReason::SlowHeartbeat,
            WarningReason::UncommittedBytes
        ]
    );
    for warning in world.status(leader).warnings {
        assert!(
            warning.servers().any(|server| server == ServerId(3)),
            "{warning:?}"
        );
    }
    // Who does not lead speaks for itself alone.
    assert_eq!(reasons(&world, 3 - leader), []);
    world.leave(3);
    world.run(500);
    assert_eq!(reasons(&world, leader), []);
}

#[test]
fn h13_a_round_trip_too_long_for_the_election_timeout_is_warned_of_with_both_numbers() {
    let mut world = World::of(&[1..=1, 1..=1, 1..=1]);
    world.activate().expect("activated");
    let leader = world.lead().0;
    world.run(2000);
    let round_trip = world.status(leader).round_trip.expect("measured");
    assert!(round_trip <= Duration::from_millis(2), "{round_trip:?}");
    assert_eq!(reasons(&world, leader), []);
    let follower = if leader == 3 { 2 } else { 3 };
    world.late.insert(ServerId(follower), 300);
    world.run(2000);
    assert_eq!(
        world.leader(),
        Some(ServerId(leader)),
        "nothing else is wrong"
    );
    let said: Vec<String> = (world.status(leader).warnings.iter())
        .map(|warning| warning.describe(|server| format!("server {}", server.0)))
        .collect();
    let right = format!(
        "a round trip from the leader to server {follower} takes 302 ms, and server 1 campaigns after \
         1000 ms (raft.electionTimeoutMilliseconds): that must be 1208 ms at least, 4 round trips"
    );
    assert_eq!(said, [right]);
    // A single answer that is late says nothing of the network.
    world.late.clear();
    world.run(2000);
    assert_eq!(reasons(&world, leader), []);
    world.late.insert(ServerId(follower), 300);
    world.run(400);
    world.late.clear();
    world.run(2000);
    assert_eq!(reasons(&world, leader), []);
}

#[test]
fn h9_a_command_that_a_member_does_not_take_is_refused_before_it_is_in_the_log() {
    let large = 3 << 20;
    let mut world = World::of(&[1..=1, 1..=1]);
    world.reticent = vec![ServerId(1), ServerId(2)];
    world.activate().expect("activated");
    assert_eq!(
        world.write_bytes(large),
        Err(Refusal::NoCommit),
        "nobody has said what it takes"
    );
    world.reticent.clear();
    world.run(500);
    world.write_bytes(large).expect("both take it");
    world.command_bytes_max.insert(3, 2 << 20);
    world.start(3, 1..=1);
    let added = world.add(3, Purpose::Join);
    world.answer(added).expect("added");
    world.run(500);
    let refusal = world.write_bytes(large).expect_err("one does not take it");
    assert_eq!(
        refusal.to_string(),
        "the command has 3145728 bytes, and server 0000000000000003 takes at most 2097152 \
         (limits.commandBytesMax)"
    );
    world.write_bytes(2 << 20).expect("all take it");
    world.leave(3);
    world.run(500);
    world.write_bytes(large).expect("both take it");
}
