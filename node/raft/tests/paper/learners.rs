//! Catching up new servers: thesis 4.2.1.

use std::time::Duration;

use kontiki_raft::{Config, Purpose, ServerId};

use crate::harness::*;
use crate::membership::{add, change, established, in_force};

fn is_joint(leader: &Subject) -> bool {
    in_force(leader).1.is_joint()
}

/// 4.2.1: a new server is promoted once a round of replication took less than an election timeout.
#[test]
fn thesis_4_2_1_a_learner_votes_once_a_round_was_short() {
    let mut leader = established(3);
    change(&mut leader, &add(&[4], Purpose::Join)).expect("begun");
    leader.hear(2, accepted(2, 3));
    leader.hear(3, accepted(2, 3));
    // A round that takes longer: what has come meanwhile makes another one.
    for _ in 0..3 {
        leader.pass(400);
        leader.hear(2, heard(2, 1));
        leader.hear(3, heard(2, 1));
    }
    leader.propose(1);
    leader.hear(4, accepted(2, 3));
    assert!(!is_joint(&leader));
    leader.pass(300);
    leader.hear(4, accepted(2, 4));
    assert_eq!(
        in_force(&leader),
        (5, voters(&[1, 2, 3, 4], Some(&[1, 2, 3])))
    );
}

/// 4.2.1: if it does not get there in its rounds the change is given up. Departure: it stays a
/// learner, is reported as stalled, and is tried again after a pause.
#[test]
fn thesis_4_2_1_a_learner_that_does_not_catch_up_is_reported() {
    let config = Config {
        catch_up_rounds_max: 3,
        catch_up_pause: Duration::from_secs(60),
        ..Config::default()
    };
    let mut leader = Subject::of_with(3, config);
    leader.elect(3);
    leader.hear(2, accepted(2, 2));
    change(&mut leader, &add(&[4], Purpose::Join)).expect("begun");
    leader.hear(2, accepted(2, 3));
    let is_stalled = |leader: &Subject| {
        leader
            .raft
            .progress()
            .any(|it| it.server == ServerId(4) && it.is_stalled)
    };
    for round in 3..6 {
        assert!(!is_stalled(&leader), "before the end of round {round}");
        leader.propose(1);
        leader.hear(2, accepted(2, round + 1));
        for _ in 0..3 {
            leader.pass(400);
            leader.hear(2, heard(2, 1));
        }
        leader.hear(4, accepted(2, round));
    }
    assert!(is_stalled(&leader));
    assert!(!is_joint(&leader));
    leader.hear(4, accepted(2, 6));
    assert!(!is_joint(&leader), "not before the pause is over");
}

/// 4.2.1: a server that cannot be reached does not hold up anything but its own promotion.
#[test]
fn thesis_4_2_1_a_silent_learner_delays_no_commit() {
    let mut leader = established(3);
    change(&mut leader, &add(&[4], Purpose::Join)).expect("begun");
    leader.hear(2, accepted(2, 3));
    leader.propose(1);
    leader.hear(3, accepted(2, 4));
    assert_eq!(leader.commit(), 4);
    assert!(!is_joint(&leader));
}

/// 4.2.1: the entry that makes it a learner is committed first; one change at a time.
#[test]
fn thesis_4_2_1_a_learner_votes_only_once_its_own_entry_is_committed() {
    let mut leader = established(3);
    change(&mut leader, &add(&[4], Purpose::Join)).expect("begun");
    leader.hear(4, accepted(2, 3));
    assert!(
        !is_joint(&leader),
        "it has caught up, and its entry is on 1 of 3"
    );
    leader.hear(2, accepted(2, 3));
    assert!(is_joint(&leader));
}

/// 4.2.1: one that has caught up and was not heard for an election timeout is not promoted.
#[test]
fn thesis_4_2_1_a_learner_that_fell_silent_is_not_promoted() {
    for (silent, is_promoted) in [(999, true), (1000, false)] {
        let mut leader = established(3);
        change(&mut leader, &add(&[4], Purpose::Join)).expect("begun");
        leader.hear(4, accepted(2, 3));
        leader.pass(silent / 2);
        leader.hear(2, heard(2, 1));
        leader.pass(silent - silent / 2);
        leader.hear(2, accepted(2, 3));
        assert_eq!(leader.commit(), 3);
        assert_eq!(is_joint(&leader), is_promoted, "silent for {silent} ms");
    }
}

/// A new leader goes on with a learner, but not before an entry of its term is committed.
#[test]
fn thesis_4_2_1_a_new_leader_promotes_only_after_a_commit_of_its_term() {
    let mut leader = established(3);
    change(&mut leader, &add(&[4], Purpose::Join)).expect("begun");
    leader.hear(2, accepted(2, 3));
    assert_eq!(leader.commit(), 3);
    leader.elect(3);
    leader.hear(4, accepted(3, 4));
    assert!(!is_joint(&leader));
    leader.hear(2, accepted(3, 4));
    assert!(is_joint(&leader));
}

/// ... and not while leadership is handed over.
#[test]
fn thesis_4_2_1_nothing_is_promoted_during_a_transfer() {
    let mut leader = established(3);
    change(&mut leader, &add(&[4], Purpose::Join)).expect("begun");
    leader.hear(2, accepted(2, 3));
    leader.turn(|raft, now| raft.transfer(now, Some(ServerId(2))).expect("begun"));
    leader.hear(4, accepted(2, 3));
    assert!(!is_joint(&leader));
    leader.pass(900);
    leader.hear(2, heard(2, 1));
    leader.hear(4, heard(2, 1));
    leader.pass(100);
    assert!(!leader.raft.is_transferring());
    assert!(is_joint(&leader), "given up, and the learner is ready");
}

/// Departure: servers that were added together are promoted together, without those that stalled.
#[test]
fn thesis_4_2_1_a_stalled_learner_does_not_hold_up_the_others() {
    let config = Config {
        catch_up_pause: Duration::from_secs(3),
        ..Config::default()
    };
    let mut leader = Subject::of_with(3, config);
    leader.elect(3);
    leader.hear(2, accepted(2, 2));
    change(&mut leader, &add(&[4, 5], Purpose::Join)).expect("begun");
    leader.hear(2, accepted(2, 3));
    leader.hear(4, accepted(2, 3));
    for _ in 0..5 {
        leader.pass(500);
        leader.hear(2, heard(2, 1));
        leader.hear(4, heard(2, 1));
        assert!(!is_joint(&leader), "5 may still come");
    }
    leader.pass(500);
    assert_eq!(
        in_force(&leader),
        (4, {
            let mut joint = voters(&[1, 2, 3, 4], Some(&[1, 2, 3]));
            joint.learners.insert(ServerId(5), Purpose::Join);
            joint
        })
    );
}
