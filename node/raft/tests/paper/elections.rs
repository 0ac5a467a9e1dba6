//! Terms and elections: sections 5.1, 5.2 and 5.6, disruptive servers (section 6; thesis 4.2.3),
//! CheckQuorum (thesis 6.2) and pre-vote (thesis 9.6).

use std::collections::BTreeSet;
use std::time::Duration;

use kontiki_raft::{Config, EntryKind, Refused, Role, ServerId};

use crate::harness::*;

fn campaigning(count: u64) -> Subject {
    let mut server = Subject::of(count);
    server.turn(|raft, now| raft.trigger_election(now).expect("a voter"));
    assert_eq!(server.is(), (Role::Candidate, 2));
    server
}

// --- 5.1 Raft basics --------------------------------------------------------------------------

/// Terms are exchanged in every answer: a leader or candidate that finds its term out of date is a
/// follower at once, and its requests are refused with the term that it lacks.
#[test]
fn s5_1_requests_of_an_old_term_are_answered_with_the_term() {
    for role in [Role::Follower, Role::Candidate, Role::Leader] {
        let mut server = match role {
            Role::Follower => Subject::holding(3, &[1]),
            Role::Candidate => campaigning(3),
            _ => Subject::leading(3),
        };
        assert_eq!(server.is(), (role, 2));
        assert_eq!(
            server.append(3, 1, at(1, 1), &[], 1),
            [(3, rejected(2, 1, at(0, 0)))],
            "{role:?}"
        );
        assert_eq!(
            server.hear(3, heartbeat(1, 1)),
            [(3, heard(2, 0))],
            "{role:?}"
        );
        assert_eq!(
            server.hear(3, forced(vote(1, at(9, 1)))),
            [(3, refused(2))],
            "{role:?}"
        );
        assert_eq!(server.is(), (role, 2));
    }
}

/// A term has at most one leader; a server that leads takes no other's word for its own term.
#[test]
fn s5_1_a_leader_takes_no_append_of_its_own_term() {
    let mut leader = Subject::leading(3);
    assert_eq!(leader.append(3, 2, at(1, 1), &[2, 2], 3), []);
    assert_eq!(leader.hear(3, heartbeat(2, 9)), []);
    assert_eq!(leader.is(), (Role::Leader, 2));
    assert_eq!((leader.terms(), leader.commit()), (vec![1, 2], 1));
}

/// ... and a follower none of a second leader of the term.
#[test]
fn s5_1_a_follower_takes_no_append_of_a_second_leader_of_the_term() {
    let mut server = Subject::of(3);
    server.append(2, 2, at(1, 1), &[2], 1);
    assert_eq!(server.append(3, 2, at(1, 1), &[2, 2], 3), []);
    assert_eq!(server.raft.leader(), Some(ServerId(2)));
    assert_eq!((server.terms(), server.commit()), (vec![1, 2], 1));
}

// --- 5.2 Leader election ----------------------------------------------------------------------

/// Servers start as followers.
#[test]
fn s5_2_servers_start_as_followers() {
    assert_eq!(Subject::of(3).is(), (Role::Follower, 1));
    // Departure: one that no configuration names never campaigns, and says so.
    let mut fresh = Subject::fresh();
    assert_eq!(fresh.raft.role(), Role::Joiner);
    fresh.pass(100_000);
    assert_eq!((fresh.is(), fresh.wait()), ((Role::Joiner, 0), None));
    let refused = fresh.raft.trigger_election(fresh.now);
    assert_eq!(refused, Err(Refused::NotAVoter(ServerId(1))));
}

/// A candidate wins with the votes of a majority of the full cluster, whatever the order; it knows
/// that it cannot when a majority cannot be had any more.
#[test]
fn s5_2_a_majority_of_the_full_cluster_elects() {
    // Size, votes granted and refused by others, and what becomes of the candidate.
    for (count, grants, refusals, role) in [
        (1, 0, 0, Role::Leader),
        (2, 0, 0, Role::Candidate),
        (2, 1, 0, Role::Leader),
        (3, 1, 0, Role::Leader),
        (3, 1, 1, Role::Leader),
        (3, 0, 2, Role::Candidate),
        (4, 1, 0, Role::Candidate),
        (4, 2, 1, Role::Leader),
        (5, 1, 3, Role::Candidate),
        (5, 2, 0, Role::Leader),
        (5, 2, 2, Role::Leader),
    ] {
        let mut server = Subject::of(count);
        server.turn(|raft, now| raft.trigger_election(now).expect("a voter"));
        for voter in 2..2 + refusals {
            server.hear(voter, refused(2));
        }
        for voter in 2 + refusals..2 + refusals + grants {
            server.hear(voter, granted(2));
        }
        assert_eq!(
            server.is(),
            (role, 2),
            "{count} voters, {grants} granted, {refusals} not"
        );
    }
}

/// Votes of another term count for nothing.
#[test]
fn s5_2_votes_of_another_term_do_not_count() {
    let mut server = campaigning(3);
    server.time_out();
    server.hear(3, pre_granted(3));
    assert_eq!(server.is(), (Role::Candidate, 3));
    server.hear(2, granted(2));
    assert_eq!(server.is(), (Role::Candidate, 3));
    server.hear(2, granted(3));
    assert_eq!(server.is(), (Role::Leader, 3));
}

/// An append of a lower term does not make a candidate give up.
#[test]
fn s5_2_a_candidate_stays_one_when_an_old_leader_speaks() {
    let mut server = campaigning(3);
    server.append(2, 1, at(1, 1), &[], 1);
    server.hear(2, heartbeat(1, 1));
    assert_eq!(server.is(), (Role::Candidate, 2));
}

/// A vote is given for the term: a late refusal, of an earlier pre-vote in another role, say, does not
/// take it back.
#[test]
fn s5_2_a_late_refusal_takes_no_vote_back() {
    let mut server = campaigning(5);
    server.hear(2, granted(2));
    server.hear(2, refused(2));
    server.hear(3, granted(2));
    assert_eq!(server.is(), (Role::Leader, 2));
}

/// A split vote is tried again in a new term. Departure: as soon as it cannot be won any more,
/// after a short random pause.
#[test]
fn s5_2_a_split_vote_leads_to_another_election() {
    let mut server = campaigning(4);
    let heartbeat = server.raft.config().heartbeat;
    server.hear(2, refused(2));
    assert!(
        server.wait().expect("a deadline") >= 4 * heartbeat,
        "it may still win"
    );
    server.hear(3, refused(2));
    let pause = server.wait().expect("a deadline");
    assert!(pause <= server.raft.config().heartbeat, "{pause:?}");
    let sent = server.time_out();
    assert_eq!(sent, [2, 3, 4].map(|to| (to, pre_vote(3, at(1, 1)))));
}

/// Election timeouts are drawn anew each time, from a fixed interval.
#[test]
fn s5_2_election_timeouts_are_random_within_their_bounds() {
    let mut drawn = BTreeSet::new();
    let mut server = Subject::of(3);
    let (min, max) = (Duration::from_secs(1), Duration::from_secs(2));
    for term in 2..202 {
        server.append(2, term, at(1, 1), &[], 1);
        let wait = server.wait().expect("a deadline");
        assert!((min..max).contains(&wait), "{wait:?}");
        drawn.insert(wait);
    }
    assert!(drawn.len() > 190, "only {} of 200 differ", drawn.len());
    let spread = *drawn.last().expect("some") - *drawn.first().expect("some");
    assert!(spread > Duration::from_millis(900), "{spread:?}");
}

/// Most of the time only a single server times out: the first of five leaves the others more than
/// a broadcast (here 10 ms) in most draws.
#[test]
fn s5_2_timeouts_of_several_servers_seldom_fall_together() {
    let mut close = 0;
    for seed in 0..200 {
        let mut waits: Vec<Duration> = (1..=5)
            .map(|id| {
                let mut server = Subject::with(
                    id,
                    Config {
                        seed,
                        ..Config::default()
                    },
                );
                server.bootstrap(9);
                server.append(9, 2, at(1, 1), &[], 1);
                server.wait().expect("a deadline")
            })
            .collect();
        waits.sort();
        close += usize::from(waits[1] - waits[0] < Duration::from_millis(10));
    }
    assert!(close < 20, "{close} of 200 within 10 ms"); // expected: 5 * 1 % = 10
}

// --- 5.6 Timing -------------------------------------------------------------------------------

/// broadcastTime << electionTimeout: settings with which a leader could not keep its followers are
/// refused.
#[test]
#[should_panic(expected = "election timeout too short")]
fn s5_6_the_election_timeout_is_longer_than_the_heartbeat() {
    let config = Config {
        heartbeat: Duration::from_secs(1),
        election_timeout_min: Duration::from_secs(1),
        ..Config::default()
    };
    Subject::of_with(3, config);
}

// --- 6 and thesis 4.2.3: disruptive servers ---------------------------------------------------

/// Within the minimum election timeout of hearing from a leader a server neither votes nor takes
/// the term over. So a server that was removed, and does not know, disturbs nobody.
#[test]
fn s6_a_request_for_votes_within_the_timeout_of_a_leader_changes_nothing() {
    let mut server = Subject::of(3);
    server.append(2, 2, at(1, 1), &[], 1);
    server.pass(999);
    for request in [vote(9, at(9, 8)), pre_vote(9, at(9, 8))] {
        let sent = server.hear(7, request.clone());
        let answer = if matches!(request, kontiki_raft::Message::Vote(vote) if vote.pre) {
            pre_refused(2)
        } else {
            refused(2)
        };
        assert_eq!(sent, [(7, answer)]);
        assert_eq!(server.is(), (Role::Follower, 2));
    }
    server.append(2, 2, at(1, 1), &[], 1);
    server.pass(1000);
    assert_eq!(
        server.is(),
        (Role::Follower, 2),
        "its own timeout is longer"
    );
    assert_eq!(server.hear(3, vote(9, at(9, 8))), [(3, granted(9))]);
}

/// A leader that hears from a quorum is not deposed by a request either.
#[test]
fn thesis_4_2_3_a_leader_with_its_quorum_ignores_requests_for_votes() {
    let mut leader = Subject::leading(3);
    assert_eq!(leader.hear(3, vote(7, at(9, 6))), [(3, refused(2))]);
    assert_eq!(leader.hear(3, pre_vote(7, at(9, 6))), [(3, pre_refused(2))]);
    assert_eq!(leader.is(), (Role::Leader, 2));
}

/// A request that is marked (a transfer) is honoured all the same. Departure: `trigger_election`
/// marks its requests too.
#[test]
fn thesis_4_2_3_a_marked_request_is_honoured_despite_a_leader() {
    let mut server = Subject::of(3);
    server.append(2, 2, at(1, 1), &[], 1);
    assert_eq!(server.hear(3, forced(vote(3, at(1, 1)))), [(3, granted(3))]);
    assert_eq!(
        (server.raft.leader(), server.raft.vote()),
        (None, Some(ServerId(3)))
    );
    let mut leader = Subject::leading(3);
    assert_eq!(leader.hear(3, forced(vote(3, at(2, 2)))), [(3, granted(3))]);
    assert_eq!(leader.is(), (Role::Follower, 3));
}

// --- Thesis 6.2: a leader without its followers -----------------------------------------------

/// A leader steps down if an election timeout passes without a round of answers of a majority.
#[test]
fn thesis_6_2_a_leader_without_answers_of_a_quorum_steps_down() {
    let mut leader = Subject::leading(5);
    for _ in 0..5 {
        leader.pass(900);
        leader.hear(2, heard(2, 1));
        leader.hear(3, accepted(2, 1));
        assert_eq!(leader.is(), (Role::Leader, 2), "3 of 5");
    }
    leader.pass(900);
    leader.hear(2, heard(2, 1));
    leader.pass(100);
    assert_eq!(
        leader.is(),
        (Role::Follower, 2),
        "2 of 5; no term is raised"
    );
    assert_eq!(leader.raft.leader(), None);
}

/// ... and delays no client: it refuses at once while connections of a quorum are known to be down.
/// (Departure: earlier than the timeout of the thesis.)
#[test]
fn thesis_6_2_a_leader_that_lost_its_connections_refuses_at_once() {
    let mut leader = Subject::leading(3);
    let command = || [(EntryKind::Command, 10)];
    leader.turn(|raft, now| raft.disconnected(now, ServerId(2), false));
    assert!(leader.raft.propose(leader.now, command()).is_ok());
    leader.turn(|raft, now| raft.disconnected(now, ServerId(3), false));
    assert_eq!(
        leader.raft.propose(leader.now, command()),
        Err(Refused::QuorumLost)
    );
    assert!(!leader.raft.is_serving(leader.now));
    leader.turn(|raft, _| raft.connected(ServerId(3)));
    assert!(leader.raft.propose(leader.now, command()).is_ok());
}

/// `min_majority` raises what counts as a quorum. (Departure: the thesis has no such setting.)
#[test]
fn thesis_6_2_min_majority_raises_the_quorum() {
    let config = Config {
        min_majority: 3,
        ..Config::default()
    };
    let mut server = Subject::of_with(3, config);
    server.turn(|raft, now| raft.trigger_election(now).expect("a voter"));
    server.hear(2, granted(2));
    assert_eq!(server.is(), (Role::Candidate, 2), "2 of 3");
    server.hear(3, granted(2));
    assert_eq!(server.is(), (Role::Leader, 2));
    server.hear(2, accepted(2, 2));
    assert_eq!(server.commit(), 1);
    server.hear(3, accepted(2, 2));
    assert_eq!(server.commit(), 2);
}

// --- Thesis 9.6: pre-vote ---------------------------------------------------------------------

/// A candidate asks first, without raising its term, whether it would be elected.
#[test]
fn thesis_9_6_a_pre_candidate_asks_for_the_next_term_and_stays_in_its_own() {
    let mut server = Subject::of(3);
    let sent = server.time_out();
    assert_eq!(server.is(), (Role::PreCandidate, 1));
    assert_eq!(server.raft.vote(), None);
    assert_eq!(sent, [2, 3].map(|to| (to, pre_vote(2, at(1, 1)))));
    for _ in 0..20 {
        server.time_out();
        assert_eq!(
            server.is(),
            (Role::PreCandidate, 1),
            "cut off, it raises nothing"
        );
    }
}

/// Only with a majority that would vote for it does it begin a real election.
#[test]
fn thesis_9_6_a_majority_of_pre_votes_begins_the_election() {
    let mut server = Subject::of(5);
    server.time_out();
    server.hear(2, pre_granted(2));
    server.hear(2, pre_granted(2));
    server.hear(3, granted(2)); // a vote is no pre-vote
    server.hear(4, pre_granted(3)); // of another round
    assert_eq!(server.is(), (Role::PreCandidate, 1));
    server.hear(5, pre_granted(2));
    assert_eq!(server.is(), (Role::Candidate, 2));
    server.hear(2, pre_granted(2)); // and a pre-vote is no vote
    server.hear(3, pre_granted(2));
    assert_eq!(server.is(), (Role::Candidate, 2));
}

/// Granted if the candidate's log is far enough and no leader has been heard for an election
/// timeout; it changes nothing at the voter, who may grant several.
#[test]
fn thesis_9_6_a_pre_vote_changes_nothing_at_the_voter() {
    let mut server = Subject::holding(3, &[2, 2]);
    let wait = server.wait();
    assert_eq!(server.hear(2, pre_vote(4, at(3, 2))), [(2, pre_granted(4))]);
    assert_eq!(server.hear(3, pre_vote(5, at(4, 2))), [(3, pre_granted(5))]);
    assert_eq!(
        server.hear(2, pre_vote(4, at(2, 2))),
        [(2, pre_refused(3))],
        "behind"
    );
    assert_eq!(
        server.hear(2, pre_vote(3, at(3, 2))),
        [(2, pre_refused(3))],
        "no new term"
    );
    assert_eq!(
        (server.is(), server.raft.vote()),
        ((Role::Follower, 3), None)
    );
    assert_eq!(server.wait(), wait);
}

/// A candidate that has voted for itself may still say that it would vote for another: else two
/// candidates block each other for ever.
#[test]
fn thesis_9_6_a_candidate_grants_a_pre_vote() {
    let mut server = campaigning(3);
    assert_eq!(server.hear(3, pre_vote(3, at(1, 1))), [(3, pre_granted(3))]);
    assert_eq!(server.is(), (Role::Candidate, 2));
}

/// A refusal teaches the term, so that a server that is behind in terms alone is not shut out.
#[test]
fn thesis_9_6_a_refused_pre_vote_teaches_the_term() {
    let mut server = Subject::of(3);
    server.time_out();
    server.hear(2, pre_refused(7));
    assert_eq!(server.is(), (Role::Follower, 7));
    server.time_out();
    assert_eq!(server.hear(2, pre_granted(8)).len(), 2);
    assert_eq!(server.is(), (Role::Candidate, 8));
}

/// A pre-candidate whose leader comes back follows it, in the same term.
#[test]
fn thesis_9_6_a_pre_candidate_follows_a_leader_that_comes_back() {
    let mut server = Subject::of(3);
    server.append(2, 2, at(1, 1), &[2], 1);
    server.time_out();
    assert_eq!(server.is(), (Role::PreCandidate, 2));
    let sent = server.append(2, 2, at(2, 2), &[2], 2);
    assert_eq!(sent, [(2, accepted(2, 3))]);
    assert_eq!((server.is(), server.commit()), ((Role::Follower, 2), 2));
}
