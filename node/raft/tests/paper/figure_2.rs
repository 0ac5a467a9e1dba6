//! Figure 2 of the extended Raft paper, box by box. What it calls `nextIndex`, `matchIndex`,
//! `commitIndex` are `next`, `matched` and `commit` here.

use std::time::Duration;

use kontiki_raft::{Append, Index, Message, Role, ServerId, Term};

use crate::harness::*;

fn timeout_min(server: &Subject) -> Duration {
    server.raft.config().election_timeout_min
}

// --- State ------------------------------------------------------------------------------------

/// A server starts in term 0, without a vote, with an empty log, as a follower.
#[test]
fn fig2_state_begins_at_zero() {
    let fresh = Subject::fresh();
    assert_eq!((fresh.raft.term(), fresh.raft.vote()), (Term(0), None));
    assert_eq!(fresh.raft.last(), at(0, 0));
    assert_eq!(fresh.raft.first(), Index(1));
    assert_eq!(fresh.raft.commit(), Index(0));
    assert_eq!(fresh.raft.leader(), None);
}

/// The log is persistent before the server answers. Departure: it answers at once with what is
/// persistent already, as the answer names an index. (Term and vote: with durable storage.)
#[test]
fn fig2_state_the_log_is_persistent_before_it_is_acknowledged() {
    let mut follower = Subject::of(3);
    follower.is_disk_slow = true;
    let sent = follower.append(2, 2, at(1, 1), &[2, 2], 1);
    assert_eq!(sent, [(2, accepted(2, 1))]);
    let generation = follower.raft.generation();
    let sent = follower.turn(|raft, now| raft.persisted(now, at(2, 2), generation));
    assert_eq!(sent, [(2, accepted(2, 2))]);
    let sent = follower.turn(|raft, now| raft.persisted(now, at(3, 2), generation));
    assert_eq!(sent, [(2, accepted(2, 3))]);
}

/// A new leader sets `nextIndex` to the end of its log and one, `matchIndex` to 0.
#[test]
fn fig2_state_a_new_leader_begins_anew_with_every_server() {
    let mut leader = Subject::holding(3, &[2, 2]);
    let sent = leader.elect(3);
    let append = Append {
        term: Term(4),
        prev: at(3, 2),
        last: Index(4),
        commit: Index(1),
    };
    assert_eq!(appends(&sent), [(2, append), (3, append)]);
    assert_eq!((leader.matched(2), leader.matched(3)), (0, 0));
    leader.hear(2, accepted(4, 4));
    assert_eq!(leader.matched(2), 4);

    // It leads again: what it knew is forgotten.
    leader.elect(3);
    assert_eq!((leader.matched(2), leader.matched(3)), (0, 0));
}

// --- AppendEntries, receiver ------------------------------------------------------------------

/// AppendEntries 1: Reply false if term < currentTerm.
#[test]
fn fig2_append_entries_1_an_old_term_is_refused() {
    let mut server = Subject::holding(3, &[2, 3]);
    assert_eq!(server.is(), (Role::Follower, 4));
    let sent = server.append(2, 3, at(3, 3), &[3], 3);
    assert_eq!(sent, [(2, rejected(4, 3, at(0, 0)))]);
    assert_eq!(server.terms(), [1, 2, 3]);
    assert_eq!((server.commit(), server.raft.leader()), (1, None));
}

/// AppendEntries 2: Reply false if the log has no entry at prevLogIndex...
#[test]
fn fig2_append_entries_2_a_gap_is_refused() {
    let mut server = Subject::holding(3, &[2, 2]);
    let sent = server.append(2, 4, at(4, 2), &[4], 4);
    assert_eq!(sent, [(2, rejected(4, 4, at(3, 2)))]);
    assert_eq!(server.terms(), [1, 2, 2]);
    assert_eq!(server.commit(), 1);
}

/// ... whose term is prevLogTerm. The hint names the last entry up to which the logs can agree.
#[test]
fn fig2_append_entries_2_another_term_before_the_entries_is_refused() {
    let mut server = Subject::holding(3, &[2, 3, 3]);
    let sent = server.append(2, 4, at(4, 2), &[4], 4);
    assert_eq!(sent, [(2, rejected(4, 4, at(2, 2)))]);
    assert_eq!(server.terms(), [1, 2, 3, 3], "it is not cut off either");
    assert_eq!(server.commit(), 1);
}

/// AppendEntries 3: If an existing entry conflicts with a new one (same index, another term),
/// delete it and all that follow it.
#[test]
fn fig2_append_entries_3_a_conflicting_entry_and_all_after_it_are_deleted() {
    let mut server = Subject::holding(3, &[2, 3, 3, 3]);
    let sent = server.append(2, 4, at(2, 2), &[4], 1);
    assert_eq!(sent, [(2, accepted(4, 3))]);
    assert_eq!(server.terms(), [1, 2, 4]);
}

/// AppendEntries 3: ... and only from the conflict on: what agrees before it stays.
#[test]
fn fig2_append_entries_3_entries_that_agree_before_the_conflict_are_kept() {
    let mut server = Subject::holding(3, &[2, 2, 3, 3]);
    let generation = server.raft.generation();
    let sent = server.append(2, 4, at(1, 1), &[2, 2, 4], 1);
    assert_eq!(sent, [(2, accepted(4, 4))]);
    assert_eq!(server.terms(), [1, 2, 2, 4]);
    assert_eq!(server.raft.generation(), generation + 1, "cut off once");
}

/// AppendEntries 3: Never at or below the commit index: no leader contradicts that. (Not in the
/// figure, which has leader completeness to say so.)
#[test]
fn fig2_append_entries_3_what_is_committed_is_never_deleted() {
    let mut server = Subject::of(3);
    server.append(2, 2, at(1, 1), &[2, 2], 3);
    assert_eq!(server.commit(), 3);
    let sent = server.append(3, 3, at(2, 2), &[3], 3);
    assert_eq!(sent, []);
    assert_eq!(server.terms(), [1, 2, 2]);
}

/// AppendEntries 4: Append any new entries not already in the log.
#[test]
fn fig2_append_entries_4_only_what_is_missing_is_appended() {
    let mut server = Subject::of(3);
    server.append(2, 2, at(1, 1), &[2, 2], 1);
    let sent = server.append(2, 2, at(2, 2), &[2, 2], 1);
    assert_eq!(sent, [(2, accepted(2, 4))]);
    assert_eq!(server.terms(), [1, 2, 2, 2]);
}

/// AppendEntries 3: an append that comes late, or twice, deletes nothing that came after it.
#[test]
fn fig2_append_entries_4_a_late_append_deletes_nothing() {
    let mut server = Subject::of(3);
    server.append(2, 2, at(1, 1), &[2, 2, 2], 1);
    let sent = server.append(2, 2, at(1, 1), &[2], 1);
    assert_eq!(sent, [(2, accepted(2, 4))]);
    assert_eq!(server.append(2, 2, at(1, 1), &[], 1), [(2, accepted(2, 4))]);
    assert_eq!(server.terms(), [1, 2, 2, 2]);
    assert_eq!(server.raft.generation(), 0);
}

/// AppendEntries 5: commitIndex = min(leaderCommit, index of the last new entry): here, what the
/// leader of the term has verified, which goes on growing with its appends.
#[test]
fn fig2_append_entries_5_the_commit_index_is_the_smaller_of_the_two() {
    for (terms, commit, expected) in [
        (&[2, 2][..], 1, 1),
        (&[2, 2], 2, 2),
        (&[2, 2], 3, 3),
        (&[2, 2], 9, 3),
        (&[], 9, 1),
    ] {
        let mut server = Subject::of(3);
        server.append(2, 2, at(1, 1), terms, commit);
        assert_eq!(server.commit(), expected, "{terms:?} {commit}");
    }
}

/// AppendEntries 5: "Last new entry", not the last of the log: a tail that an earlier leader left
/// is not committed by the index of this one.
#[test]
fn fig2_append_entries_5_an_unverified_tail_is_not_committed() {
    let mut server = Subject::holding(3, &[2, 2, 2]);
    assert_eq!(server.append(2, 4, at(2, 2), &[], 4), [(2, accepted(4, 2))]);
    assert_eq!(server.commit(), 2);
    server.append(2, 4, at(2, 2), &[2], 4);
    assert_eq!(server.commit(), 3);
}

/// AppendEntries 5: The commit index never falls.
#[test]
fn fig2_append_entries_5_the_commit_index_never_falls() {
    let mut server = Subject::of(3);
    server.append(2, 2, at(1, 1), &[2, 2], 3);
    server.append(2, 2, at(3, 2), &[2], 2);
    server.hear(2, heartbeat(2, 1));
    assert_eq!(server.commit(), 3);
}

// --- RequestVote, receiver --------------------------------------------------------------------

/// RequestVote 1: Reply false if term < currentTerm.
#[test]
fn fig2_request_vote_1_an_old_term_is_refused() {
    let mut server = Subject::holding(3, &[2]);
    assert_eq!(server.hear(2, vote(2, at(9, 2))), [(2, refused(3))]);
    assert_eq!(server.raft.vote(), None);
}

/// RequestVote 2: If votedFor is null or candidateId, and the log is up to date: grant.
#[test]
fn fig2_request_vote_2_the_first_candidate_of_a_term_gets_the_vote() {
    let mut server = Subject::of(3);
    assert_eq!(server.hear(2, vote(2, at(1, 1))), [(2, granted(2))]);
    assert_eq!(server.raft.vote(), Some(ServerId(2)));
    assert_eq!(server.hear(3, vote(2, at(9, 1))), [(3, refused(2))]);
    assert_eq!(server.raft.vote(), Some(ServerId(2)));
    assert_eq!(
        server.hear(2, vote(2, at(1, 1))),
        [(2, granted(2))],
        "again"
    );
    assert_eq!(
        server.hear(3, vote(3, at(1, 1))),
        [(3, granted(3))],
        "a later term"
    );
}

/// RequestVote 2: A candidate whose log is behind gets no vote; its term is taken over all the
/// same.
#[test]
fn fig2_request_vote_2_a_log_that_is_behind_gets_none() {
    let mut server = Subject::holding(3, &[2, 2]);
    assert_eq!(server.hear(2, vote(4, at(2, 2))), [(2, refused(4))]);
    assert_eq!(
        (server.is(), server.raft.vote()),
        ((Role::Follower, 4), None)
    );
    assert_eq!(server.hear(3, vote(4, at(3, 2))), [(3, granted(4))]);
}

// --- Rules for servers: all -------------------------------------------------------------------

/// Whatever message carries a higher term: take it over, become a follower. Departure: a request
/// of an ordinary election does so only at a server that has no leader (section 6), and a pre-vote
/// never does (thesis 9.6).
#[test]
fn fig2_rules_all_a_higher_term_in_any_message_makes_a_follower() {
    let messages = [
        forced(vote(9, at(1, 1))),
        refused(9),
        pre_refused(9),
        accepted(9, 1),
        rejected(9, 1, at(0, 0)),
        heartbeat(9, 1),
        heard(9, 1),
        timeout_now(9, at(1, 1)),
    ];
    for message in messages {
        let mut leader = Subject::leading(3);
        leader.hear(3, message.clone());
        // A server that is told to campaign in term 9 asks for pre-votes first.
        let is_campaign = matches!(message, Message::TimeoutNow(_));
        let expected = (Role::Follower, 9);
        assert_eq!(leader.is(), expected, "a leader after {message:?}");

        if is_campaign || matches!(message, Message::AppendAck(_) | Message::HeartbeatAck(_)) {
            continue; // answers that only a leader gets
        }
        let mut candidate = Subject::of(3);
        candidate.turn(|raft, now| raft.trigger_election(now).expect("a voter"));
        assert_eq!(candidate.is(), (Role::Candidate, 2));
        candidate.hear(3, message.clone());
        assert_eq!(
            candidate.is(),
            (Role::Follower, 9),
            "a candidate after {message:?}"
        );
    }
    let mut leader = Subject::leading(3);
    leader.append(3, 9, at(1, 1), &[], 1);
    assert_eq!(leader.is(), (Role::Follower, 9));
    assert_eq!(leader.raft.leader(), Some(ServerId(3)));
}

/// If commitIndex > lastApplied, apply. The engine says through where; the entries are its
/// driver's, which applies them in order (the simulator's state machine safety).
#[test]
fn fig2_rules_all_what_is_committed_can_be_applied() {
    let mut server = Subject::of(3);
    server.append(2, 2, at(1, 1), &[2, 2, 2], 2);
    assert_eq!(server.commit(), 2);
    server.hear(2, heartbeat(2, 4));
    assert_eq!(server.commit(), 4);
}

// --- Rules for servers: followers -------------------------------------------------------------

/// Neither an append nor a vote within the election timeout: become a candidate (here, first ask
/// for pre-votes).
#[test]
fn fig2_rules_followers_without_a_leader_begin_an_election() {
    let mut server = Subject::of(3);
    server.append(2, 2, at(1, 1), &[], 1);
    let wait = server.wait().expect("a deadline").as_millis() as u64;
    server.pass(wait - 1);
    assert_eq!(server.is(), (Role::Follower, 2));
    server.pass(2);
    assert_eq!(server.is(), (Role::PreCandidate, 2));
    server.hear(3, pre_granted(3));
    assert_eq!(server.is(), (Role::Candidate, 3));
}

/// An append or a heartbeat of the leader of the term, and a vote that is granted, begin the
/// timeout anew...
#[test]
fn fig2_rules_followers_wait_anew_after_an_append_or_a_vote() {
    let reset: [fn(&mut Subject) -> Sent; 3] = [
        |server| server.append(2, 2, at(1, 1), &[], 1),
        |server| server.hear(2, heartbeat(2, 1)),
        |server| server.hear(2, vote(2, at(1, 1))),
    ];
    for reset in reset {
        let mut server = Subject::of(3);
        reset(&mut server);
        for _ in 0..5 {
            server.now = server.now + (timeout_min(&server) - Duration::from_millis(1));
            reset(&mut server);
            assert_eq!(server.is(), (Role::Follower, 2));
        }
    }
}

/// ... but neither one of an old term nor a vote that is refused does.
#[test]
fn fig2_rules_followers_do_not_wait_longer_for_what_is_refused() {
    let mut server = Subject::holding(3, &[2, 2]);
    let due = server.now + server.wait().expect("a deadline");
    server.pass(500);
    server.append(2, 1, at(1, 1), &[], 1);
    server.hear(2, heartbeat(2, 1));
    server.hear(2, vote(3, at(1, 1)));
    server.hear(2, pre_vote(4, at(3, 2)));
    assert_eq!(server.now + server.wait().expect("a deadline"), due);
}

// --- Rules for servers: candidates ------------------------------------------------------------

/// On conversion: increment currentTerm, vote for self, reset the timer, ask all others.
#[test]
fn fig2_rules_candidates_raise_the_term_vote_for_themselves_and_ask_all() {
    let mut server = Subject::of(4);
    server.time_out();
    server.hear(2, pre_granted(2));
    let sent = server.hear(3, pre_granted(2));
    assert_eq!(server.is(), (Role::Candidate, 2));
    assert_eq!(server.raft.vote(), Some(ServerId(1)));
    assert_eq!(sent, [2, 3, 4].map(|to| (to, vote(2, at(1, 1)))));
    // Departure: of a candidate it is some heartbeats, since voters answer at once.
    let wait = server.wait().expect("a deadline");
    let heartbeat = server.raft.config().heartbeat;
    assert!((4 * heartbeat..=8 * heartbeat).contains(&wait), "{wait:?}");
}

/// Votes of a majority: become leader.
#[test]
fn fig2_rules_candidates_lead_with_the_votes_of_a_majority() {
    let mut server = Subject::of(5);
    server.turn(|raft, now| raft.trigger_election(now).expect("a voter"));
    server.hear(2, granted(2));
    server.hear(2, granted(2)); // twice is once
    server.hear(9, granted(2)); // of a stranger
    assert_eq!(server.is(), (Role::Candidate, 2));
    server.hear(3, granted(2));
    assert_eq!(server.is(), (Role::Leader, 2));
}

/// An append from the new leader: become follower.
#[test]
fn fig2_rules_candidates_follow_the_leader_of_their_term() {
    let mut server = Subject::of(3);
    server.turn(|raft, now| raft.trigger_election(now).expect("a voter"));
    let sent = server.append(3, 2, at(1, 1), &[2], 1);
    assert_eq!(sent, [(3, accepted(2, 2))]);
    assert_eq!(server.is(), (Role::Follower, 2));
    assert_eq!(server.raft.leader(), Some(ServerId(3)));
    assert_eq!(server.raft.vote(), Some(ServerId(1)), "its vote is given");
}

/// The election timeout elapses: a new election (again through pre-votes).
#[test]
fn fig2_rules_candidates_try_again_after_a_timeout() {
    let mut server = Subject::of(3);
    server.turn(|raft, now| raft.trigger_election(now).expect("a voter"));
    let sent = server.time_out();
    assert_eq!(server.is(), (Role::PreCandidate, 2));
    assert_eq!(sent, [2, 3].map(|to| (to, pre_vote(3, at(1, 1)))));
    let sent = server.hear(2, pre_granted(3));
    assert_eq!(server.is(), (Role::Candidate, 3));
    assert_eq!(sent, [2, 3].map(|to| (to, vote(3, at(1, 1)))));
}

// --- Rules for servers: leaders ---------------------------------------------------------------

/// Upon election a heartbeat to each server, and again in idle periods.
#[test]
fn fig2_rules_leaders_send_heartbeats_at_once_and_when_idle() {
    let mut server = Subject::of(3);
    let sent = server.elect(3);
    assert_eq!(heartbeats(&sent), [(2, 1), (3, 1)]);
    server.hear(2, accepted(2, 2));
    server.hear(3, accepted(2, 2));
    assert_eq!(server.pass(99), []);
    let sent = server.pass(1);
    assert_eq!(heartbeats(&sent), [(2, 2), (3, 2)]);
    assert_eq!(server.wait(), Some(server.raft.config().heartbeat));
}

/// A command is appended to the leader's own log, and sent.
#[test]
fn fig2_rules_leaders_append_a_command_and_send_it() {
    let mut leader = Subject::leading(3);
    leader.hear(2, accepted(2, 2));
    leader.hear(3, accepted(2, 2));
    let sent = leader.propose(2);
    assert_eq!(leader.terms(), [1, 2, 2, 2]);
    let append = Append {
        term: Term(2),
        prev: at(2, 2),
        last: Index(4),
        commit: Index(2),
    };
    assert_eq!(appends(&sent), [(2, append), (3, append)]);
}

/// Success moves `nextIndex` and `matchIndex` of the follower.
#[test]
fn fig2_rules_leaders_send_on_from_what_was_accepted() {
    let mut leader = Subject::leading(3);
    leader.hear(2, accepted(2, 2));
    leader.propose(1);
    leader.propose(1);
    assert_eq!(leader.matched(2), 2);
    let sent = leader.hear(2, accepted(2, 3));
    assert_eq!(leader.matched(2), 3);
    let prevs: Vec<_> = appends(&sent)
        .iter()
        .map(|(to, it)| (*to, it.prev, it.last))
        .collect();
    assert_eq!(prevs, [(2, at(3, 2), Index(4))]);
    leader.hear(2, accepted(2, 2)); // an older answer
    assert_eq!(leader.matched(2), 3);
}

/// Failure for inconsistency: decrement `nextIndex` and retry. Departure: by as much as the hint
/// allows (end of section 5.3), and never to below what is known to match.
#[test]
fn fig2_rules_leaders_go_back_and_retry_when_an_append_does_not_fit() {
    let mut leader = Subject::holding(3, &[2, 2, 3, 3]);
    leader.elect(3); // term 5; index 6 is its no-op
    let sent = leader.hear(2, rejected(5, 5, at(2, 1)));
    let prevs: Vec<_> = appends(&sent)
        .iter()
        .map(|(to, it)| (*to, it.prev, it.last))
        .collect();
    assert_eq!(prevs, [(2, at(1, 1), Index(6))]);
    assert_eq!(
        leader.hear(2, rejected(5, 5, at(2, 1))),
        [],
        "the same refusal again"
    );
    leader.hear(2, accepted(5, 6));
    leader.propose(1);
    let sent = leader.hear(2, rejected(5, 1, at(0, 0))); // late
    assert_eq!((appends(&sent), leader.matched(2)), (vec![], 6));
}

/// If N > commitIndex, a majority of matchIndex >= N and log[N].term == currentTerm: commit N.
#[test]
fn fig2_rules_leaders_commit_what_a_majority_holds_of_their_term() {
    let mut leader = Subject::holding(5, &[2, 2]);
    leader.elect(5); // term 4; index 4 is its no-op
    leader.hear(2, accepted(4, 3));
    leader.hear(3, accepted(4, 3));
    assert_eq!(leader.commit(), 1, "of an old term, whoever holds it");
    leader.hear(2, accepted(4, 4));
    assert_eq!(leader.commit(), 1, "2 of 5");
    leader.hear(4, accepted(4, 4));
    assert_eq!(leader.commit(), 4, "3 of 5, and all before it");
}
