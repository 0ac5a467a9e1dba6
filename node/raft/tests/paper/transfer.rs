//! Leadership transfer: thesis 3.10.

use kontiki_raft::{EntryKind, Refused, Role, ServerId};

use crate::harness::*;

fn transfer(leader: &mut Subject, to: u64) -> Sent {
    leader.turn(|raft, now| raft.transfer(now, Some(ServerId(to))).expect("begun"))
}

fn told(sent: &Sent) -> Vec<u64> {
    let is_told =
        |message: &kontiki_raft::Message| matches!(message, kontiki_raft::Message::TimeoutNow(_));
    sent.iter()
        .filter(|(_, message)| is_told(message))
        .map(|(to, _)| *to)
        .collect()
}

/// The leader of term 2; 2 is at its end and 3 is not.
fn established() -> Subject {
    let mut leader = Subject::leading(3);
    leader.hear(2, accepted(2, 2));
    leader
}

/// Step 1: The prior leader stops accepting requests.
#[test]
fn thesis_3_10_1_proposals_are_refused_meanwhile() {
    let mut leader = established();
    transfer(&mut leader, 3);
    assert!(leader.raft.is_transferring());
    let refused = leader.raft.propose(leader.now, [(EntryKind::Command, 1)]);
    assert_eq!(refused, Err(Refused::Transferring));
    let now = leader.now;
    let other = leader.raft.transfer(now, Some(ServerId(2)));
    assert_eq!(other, Err(Refused::Transferring), "to another");
    assert_eq!(leader.raft.transfer(now, None), Ok(()), "to anybody");
    assert_eq!(
        leader.raft.transfer(now, Some(ServerId(3))),
        Ok(()),
        "the same again"
    );
}

/// Step 2: It brings the target's log to be its own, by replication.
#[test]
fn thesis_3_10_2_the_target_is_told_only_once_it_has_the_whole_log() {
    let mut leader = established();
    leader.propose(1);
    assert_eq!(told(&transfer(&mut leader, 3)), []);
    assert_eq!(told(&leader.hear(3, accepted(2, 2))), []);
    assert_eq!(told(&leader.hear(2, accepted(2, 3))), []);
    let sent = leader.hear(3, accepted(2, 3));
    assert_eq!(told(&sent), [3]);
    assert!(sent.contains(&(3, timeout_now_at(leader.now, 2, at(3, 2)))));
}

/// Step 3: TimeoutNow: the target begins an election at once, without a timeout, and its requests are
/// marked. (Departures: the message names the end of the leader's log, and a target that lacks it does
/// not campaign; and the target asks for marked pre-votes first, so that one which cannot win deposes
/// nobody.)
#[test]
fn thesis_3_10_3_the_target_campaigns_at_once() {
    let mut target = Subject::of(3);
    target.append(2, 2, at(1, 1), &[2], 2);
    assert_eq!(target.hear(2, timeout_now(2, at(3, 2))), []);
    assert_eq!(target.is(), (Role::Follower, 2), "it lacks an entry");
    let sent = target.hear(2, timeout_now(2, at(2, 2)));
    assert_eq!(target.is(), (Role::Follower, 2));
    let asked = released(forced(pre_vote(3, at(2, 2))), 2);
    assert_eq!(sent, [2, 3].map(|to| (to, asked.clone())));
    let sent = target.hear(3, pre_granted(3));
    assert_eq!(target.is(), (Role::Candidate, 3));
    let asked = released(forced(vote(3, at(2, 2))), 2);
    assert_eq!(sent, [2, 3].map(|to| (to, asked.clone())));
    assert_eq!(
        target.hear(2, timeout_now(2, at(2, 2))),
        [],
        "of an old term"
    );
    assert_eq!(target.is(), (Role::Candidate, 3));
}

/// The request of the new leader makes the old one step down.
#[test]
fn thesis_3_10_3_the_prior_leader_steps_down_for_the_target() {
    let mut leader = established();
    transfer(&mut leader, 2);
    assert_eq!(leader.hear(2, forced(vote(3, at(2, 2)))), [(2, granted(3))]);
    assert_eq!(leader.is(), (Role::Follower, 3));
}

/// If the transfer does not complete within an election timeout it is given up, and the leader
/// serves again.
#[test]
fn thesis_3_10_a_transfer_is_given_up_after_an_election_timeout() {
    let mut leader = established();
    transfer(&mut leader, 3);
    for _ in 0..9 {
        leader.pass(100);
        leader.hear(2, heard(2, 1));
        assert!(leader.raft.is_transferring());
    }
    leader.pass(100);
    assert_eq!(
        (leader.raft.is_transferring(), leader.raft.role()),
        (false, Role::Leader)
    );
    leader.propose(1);
}

/// TimeoutNow is sent again while it is not followed: it may be lost.
#[test]
fn thesis_3_10_the_target_is_told_again() {
    let mut leader = established();
    assert_eq!(told(&transfer(&mut leader, 2)), [2]);
    assert_eq!(told(&leader.pass(50)), []);
    assert_eq!(told(&leader.pass(50)), [2]);
}

/// The target may be left to the leader, which takes the voter that is furthest and was heard.
#[test]
fn thesis_3_10_without_a_target_the_furthest_voter_takes_over() {
    let mut leader = Subject::leading(4);
    leader.hear(2, accepted(2, 1));
    leader.hear(3, accepted(2, 2));
    leader.hear(4, accepted(2, 1));
    let sent = leader.turn(|raft, now| raft.transfer(now, None).expect("begun"));
    assert_eq!(told(&sent), [3]);
}

/// Only to a voter.
#[test]
fn thesis_3_10_the_target_is_a_voter() {
    let mut leader = established();
    let now = leader.now;
    let stranger = leader.raft.transfer(now, Some(ServerId(9)));
    assert_eq!(stranger, Err(Refused::NotAVoter(ServerId(9))));
    assert_eq!(
        leader.raft.transfer(now, Some(ServerId(1))),
        Ok(()),
        "itself: nothing to do"
    );
    assert!(!leader.raft.is_transferring());
    // And who is told but is none does nothing.
    let mut learner = Subject::with(9, kontiki_raft::Config::default());
    assert_eq!(learner.hear(1, timeout_now(2, at(0, 0))), []);
    assert_eq!(learner.is(), (Role::Joiner, 2));
}
