//! A few drivers on one thread: versions, digests, limits.

mod bounds;
mod lies;
mod origin;
mod receiving;
mod sessions;
mod settings;
mod standstill;
mod state_limit;
mod world;

use bytes::Bytes;
use kontiki_raft::{ChangeRequest, Purpose, Role, ServerId};

use super::*;
use world::World;

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
    world.run(5);
    // A new connection has the log sent from where it is known to match.
    world.ask(ServerId(leader), |_| Input::Connected(ServerId(8)));
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
fn a_server_that_lacks_a_version_that_the_log_begins_with_is_not_added() {
    let mut world = World::of(&[1..=2, 1..=2, 1..=1]);
    world.activate().expect("activated");
    world.write().expect("written under version 1");
    world.leave(3);
    world.until("version 2", |world| world.status(1).version == 2);
    world.start(9, 2..=3);
    let leader = world.lead();
    world.ask(leader, |_| Input::Runs {
        server: ServerId(9),
        versions: 2..=3,
    });
    let id = world.add(9, Purpose::Join);
    let text = reason(world.answer(id));
    assert!(text.contains("needs versions 1 to 2"), "{text}");
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
fn a_leader_that_is_taken_out_raises_no_version_that_it_lacks() {
    let mut world = World::of(&[1..=2, 1..=3, 1..=3, 1..=1]);
    world.activate().expect("activated");
    world.write().expect("written under version 1");
    if world.lead() != ServerId(1) {
        world.ask(ServerId(1), |reply| Input::TriggerElection { reply });
        world.until("1 leads", |world| world.leader() == Some(ServerId(1)));
    }
    let change = ChangeRequest {
        remove: vec![ServerId(1), ServerId(4)],
        ..ChangeRequest::default()
    };
    let id = world.ask(ServerId(1), |reply| Input::Change {
        change,
        until: Until::Effective,
        reply,
    });
    // For as long as that is not committed it leads, and takes turns.
    world.until("it is out by its log", |world| {
        let known = world.status(1).configuration;
        !known.committed && !known.configuration.contains(ServerId(1))
    });
    world.cut = vec![ServerId(2), ServerId(3)];
    world.run(20);
    let command = Bytes::from_static(b"x");
    world.ask(ServerId(1), |reply| Input::Write { command, reply });
    world.run(1);
    world.cut.clear();
    world.answer(id).expect("taken out");
    world.until("version 3", |world| {
        [2, 3].iter().all(|id| world.status(*id).version == 3)
    });
    world.write().expect("written under version 3");
    assert_eq!(world.status(1).quarantine, None);
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
        // Said once, whoever leads: nothing more is appended while nothing changes.
        assert_eq!(world.verdicts(), 1);
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

/// With a large state digests are said seconds apart.
#[test]
fn h14_writes_go_on_until_the_last_voter_has_said_its_digest() {
    let mut world = World::of(&[1..=1, 1..=1, 1..=1]);
    world.activate().expect("activated");
    world.write().expect("written");
    let leader = world.lead();
    let mut followers = [1, 2, 3].map(ServerId).into_iter();
    let mut followers = followers.by_ref().filter(|id| *id != leader);
    let (wrong, last) = (
        followers.next().expect("one"),
        followers.next().expect("two"),
    );
    world.judge();
    *world.servers[&wrong].count.lock().expect("unpoisoned") += 1;
    world.reticent = vec![last];
    world.write().expect("written");
    world.judge();
    assert_eq!(world.status(leader.0).diverged, None);
    world
        .write()
        .expect("the last voter can still make a majority");
    world.cut = vec![last];
    world.judge();
    assert!(
        matches!(world.write(), Err(Refusal::Diverged(_))),
        "it is not expected any more"
    );
    world.cut.clear();
    world.judge();
    world.write().expect("it is back, and may still say it");
    world.reticent.clear();
    world.judge();
    world.write().expect("a majority agrees");
    let quarantined = (1..=3).filter(|id| world.status(*id).quarantine.is_some());
    assert_eq!(quarantined.collect::<Vec<_>>(), [wrong.0]);
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

#[test]
fn a_quarantined_learner_is_never_promoted() {
    let mut world = World::of(&[1..=1, 1..=1, 1..=1]);
    world.activate().expect("activated");
    world.write().expect("written");
    world.start(9, 1..=1);
    world.spoil(9);
    world.add(9, Purpose::Join);
    world.until("it is quarantined", |world| {
        world.status(9).quarantine.is_some()
    });
    world.run(30_000);
    let leader = world.lead().0;
    let configuration = world.status(leader).configuration.configuration;
    assert!(configuration.learners.contains_key(&ServerId(9)));
    // The others do without it.
    world.write().expect("written");
}

#[test]
fn a_quarantined_server_stores_no_more_than_it_may() {
    let raft = kontiki_raft::Config {
        log_tail_bytes: 4 << 10,
        log_kept_bytes_max: 8 << 10,
        ..kontiki_raft::Config::default()
    };
    let mut world = World::with(raft, &[1..=1, 1..=1, 1..=1]);
    world.activate().expect("activated");
    let leader = world.lead().0;
    let follower = if leader == 3 { 2 } else { 3 };
    world.spoil(follower);
    for _ in 0..100 {
        world.write_bytes(1 << 10).expect("written without it");
    }
    let status = world.status(follower);
    assert!(status.quarantine.is_some());
    // The bound, and the append that reached it.
    assert!(status.log_bytes <= 12 << 10, "{} bytes", status.log_bytes);
    let one = &world.servers[&ServerId(follower)].driver;
    assert!(one.counters().dropped_quarantined > 0);
    // Those that apply compact: they do not keep the log for it.
    let bytes = world.status(leader).log_bytes;
    assert!(bytes <= 24 << 10, "{bytes} bytes");
}
