//! Initial voters that were told different lists.

use kontiki_raft::{ClusterId, Purpose, ServerId};

use super::world::World;
use crate::driver::*;

const CLUSTER: ClusterId = ClusterId(7);

fn bootstrap(world: &mut World, server: u64, voters: &[u64]) -> Result<Answer, Refusal> {
    let voters = voters.iter().copied().map(ServerId).collect();
    let id = world.ask(ServerId(server), |reply| Input::Bootstrap {
        cluster: CLUSTER,
        voters,
        reply,
    });
    world.answer(id)
}

#[test]
fn h14_servers_that_were_told_different_initial_voters_take_nothing_from_each_other() {
    let mut world = World::default();
    for server in 1..=3 {
        world.start(server, 1..=1);
    }
    bootstrap(&mut world, 1, &[1, 2, 3]).expect("told");
    bootstrap(&mut world, 3, &[4, 3, 2, 1]).expect("told otherwise");
    bootstrap(&mut world, 2, &[3, 2, 1]).expect("told, in another order");
    world.activate().expect("activated");
    world.write().expect("written");
    world.run(5_000);

    // Two of three go on; the third can neither lead nor follow, and all of them say why.
    let leader = world.lead();
    assert!(leader.0 < 3, "{leader} leads");
    let third = world.status(3);
    assert!(!third.activated, "it has nothing of the others' log");
    assert_eq!(third.last.index.0, 1);
    assert_eq!(world.status(leader.0).bootstrap_conflict, Some(ServerId(3)));
    assert!(third.bootstrap_conflict.is_some_and(|other| other.0 < 3));
    for server in [leader, ServerId(3)] {
        let counters = world.servers[&server].driver.counters();
        assert!(counters.dropped_wrong_origin > 0, "{server}: {counters:?}");
    }
}

#[test]
fn h14_a_server_that_was_added_knows_how_its_cluster_began() {
    let mut world = World::of(&[1..=1]);
    world.activate().expect("activated");
    world.start(2, 1..=1);
    let id = world.add(2, Purpose::Join);
    world.answer(id).expect("added");
    for (server, voters, is_right) in [(1, &[1, 2][..], false), (2, &[2], false), (1, &[1], true)] {
        let told = bootstrap(&mut world, server, voters);
        let expected = match is_right {
            true => Ok(Answer::Done),
            false => Err(Refusal::AlreadyBootstrapped(CLUSTER)),
        };
        assert_eq!(told, expected, "{server}: {voters:?}");
    }
    for server in [1, 2] {
        assert_eq!(world.status(server).bootstrap_conflict, None);
    }
}
