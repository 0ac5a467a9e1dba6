//! Safety: section 5.4 with figure 8, and what must hold whatever messages come.

use kontiki_raft::{Message, Role, ServerId};
use proptest::prelude::*;

use crate::harness::*;

/// 5.4.1: a voter refuses if its own log is more up-to-date: the later last term, or of two that
/// end in the same term the longer.
#[test]
fn s5_4_1_only_a_log_that_is_as_far_gets_the_vote() {
    // The voter's terms after 1@1, the end of the candidate's log, and whether it is far enough.
    let cases: [(&[u64], _, bool); 9] = [
        (&[1], at(2, 1), true),
        (&[1], at(3, 1), true),
        (&[1], at(1, 1), false),
        (&[1], at(1, 2), true),
        (&[1, 1, 1], at(1, 2), true),
        (&[2], at(2, 1), false),
        (&[2], at(9, 1), false),
        (&[2, 2], at(2, 2), false),
        (&[2, 2], at(3, 2), true),
    ];
    for (terms, last, is_far) in cases {
        let mut voter = Subject::holding(3, terms);
        let term = voter.raft.term().0 + 1;
        let answer = if is_far {
            pre_granted(term)
        } else {
            pre_refused(term - 1)
        };
        assert_eq!(
            voter.hear(3, pre_vote(term, last)),
            [(3, answer)],
            "{terms:?} {last}"
        );
        let answer = if is_far { granted(term) } else { refused(term) };
        assert_eq!(
            voter.hear(3, vote(term, last)),
            [(3, answer)],
            "{terms:?} {last}"
        );
    }
}

/// 5.4.1: the request carries the end of the candidate's log.
#[test]
fn s5_4_1_a_request_names_the_end_of_the_log() {
    let mut server = Subject::holding(3, &[2, 2]);
    for (_, vote) in votes(&server.time_out()) {
        assert_eq!((vote.last, vote.pre), (at(3, 2), true));
    }
    let sent = server.hear(2, pre_granted(4));
    assert_eq!(sent, [2, 3].map(|to| (to, vote(4, at(3, 2)))));
}

/// 5.4.2: only entries of the leader's own term are committed by counting replicas.
#[test]
fn s5_4_2_only_an_entry_of_the_own_term_is_committed_by_counting() {
    let mut leader = Subject::holding(3, &[2, 3]);
    leader.elect(3);
    assert_eq!(leader.terms(), [1, 2, 3, 5]);
    for index in 1..=3 {
        leader.hear(2, accepted(5, index));
        leader.hear(3, accepted(5, index));
        assert_eq!(leader.commit(), 1, "all hold {index}");
    }
    leader.hear(3, accepted(5, 4));
    assert_eq!(leader.commit(), 4);
}

/// Figure 8: (a) to (d). The entry of term 2 is on a majority when S1 dies; S5 may yet win and
/// replace it, so S1 must not have committed it.
#[test]
fn s5_4_2_fig8_d_an_entry_of_an_old_term_on_a_majority_may_be_replaced() {
    // (c) S1 leads term 4 with [1 2 4], and has brought S2 and S3 to hold index 2.
    let mut first = Subject::holding(5, &[2]);
    first.elect(5);
    first.hear(2, accepted(4, 2));
    first.hear(3, accepted(4, 2));
    assert_eq!(first.commit(), 1, "not by counting");
    // (d) S3, at [1 2], votes for S5, whose log ends in term 3, and follows it.
    let mut third = Subject::holding(5, &[2]);
    assert_eq!(third.hear(5, vote(5, at(2, 3))), [(5, granted(5))]);
    assert_eq!(
        third.append(5, 5, at(1, 1), &[3, 5], 1),
        [(5, accepted(5, 3))]
    );
    assert_eq!(third.terms(), [1, 3, 5]);
}

/// Figure 8 (e): with an entry of its own term on a majority all before it is committed, and S5
/// cannot win: two terms later, whoever it asks has a log that ends later than its own.
#[test]
fn s5_4_2_fig8_e_with_an_entry_of_the_own_term_the_old_one_is_safe() {
    let mut first = Subject::holding(5, &[2]);
    first.elect(5);
    first.hear(2, accepted(4, 3));
    first.hear(3, accepted(4, 3));
    assert_eq!(first.commit(), 3);
    let mut third = Subject::holding(5, &[2, 4]);
    assert_eq!(third.hear(5, vote(6, at(2, 3))), [(5, refused(6))]);
}

/// 5.4.3, Leader Completeness, as far as one election shows it: a committed entry is in the log of
/// whoever can win. (Over all histories: the simulator.)
#[test]
fn s5_4_3_whoever_lacks_a_committed_entry_cannot_win() {
    let mut world = cluster(5);
    for other in [4, 5] {
        cut(&mut world, 1, other);
    }
    world.propose(ServerId(1));
    world.settle();
    assert_eq!(raft(&world, 1).commit().0, 3, "on 1, 2 and 3");
    world.crash(ServerId(1));
    world.heal();
    for lacking in [4, 5] {
        trigger(&mut world, lacking);
        world.settle();
        assert_eq!(
            raft(&world, lacking).role(),
            Role::Candidate,
            "2 of 5 votes"
        );
    }
    trigger(&mut world, 2);
    world.settle();
    assert_eq!(raft(&world, 2).role(), Role::Leader);
    assert!(raft(&world, 2).commit().0 >= 3);
}

/// An arbitrary message to server 1 of 3, of terms and indexes near its own.
fn message() -> impl Strategy<Value = (u64, Message)> {
    let (term, index) = (0u64..6, 0u64..6);
    let kind = 0..9;
    (kind, 2u64..5, term.clone(), term, index).prop_map(|(kind, from, term, other, index)| {
        let message = match kind {
            0 => vote(term, at(index, other)),
            1 => forced(vote(term, at(index, other))),
            2 => pre_vote(term, at(index, other)),
            3 => granted(term),
            4 => pre_granted(term),
            5 => accepted(term, index),
            6 => rejected(term, index, at(other, term)),
            7 => heartbeat(term, index),
            _ => timeout_now(term, at(index, other)),
        };
        (from, message)
    })
}

/// A step of a run: a message, or (with 0) time that passes.
fn steps() -> impl Strategy<Value = Vec<(u64, Message)>> {
    let time = Just((0, heartbeat(0, 0)));
    prop::collection::vec(prop_oneof![1 => time, 6 => message()], 1..60)
}

proptest! {
    /// Whatever comes, in any order: the term and the commit index never fall, a vote is kept for
    /// its term, and no message makes two leaders of one term out of one server's word (5.2, 5.4).
    #[test]
    fn s5_4_terms_votes_and_commit_survive_any_messages(steps in steps()) {
        let mut server = Subject::of(3);
        let mut was = (server.raft.term(), server.raft.vote(), server.raft.commit());
        for (from, message) in steps {
            if from == 0 {
                server.pass(700);
            } else {
                server.hear(from, message);
            }
            let is = (server.raft.term(), server.raft.vote(), server.raft.commit());
            prop_assert!(is.0 >= was.0 && is.2 >= was.2, "{is:?} after {was:?}");
            if is.0 == was.0 && was.1.is_some() {
                prop_assert_eq!(is.1, was.1, "a vote is kept for its term");
            }
            if server.raft.role() == Role::Leader {
                prop_assert_eq!(is.1, Some(ServerId(1)));
            }
            was = is;
        }
    }
}
