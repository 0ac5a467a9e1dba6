//! Log replication: section 5.3 with figures 6 and 7, crashes of followers (5.5), and writing to
//! the leader's disk in parallel (thesis 10.2.1).

use kontiki_raft::{Config, EntryKind, Index, Refused, Role, ServerId};

use crate::harness::*;

/// An entry is committed once a majority has replicated it.
#[test]
fn s5_3_an_entry_is_committed_once_a_majority_holds_it() {
    // Size, how many others acknowledge, and whether that commits.
    for (count, acks, is_committed) in [
        (1, 0, true),
        (2, 0, false),
        (2, 1, true),
        (3, 0, false),
        (3, 1, true),
        (4, 1, false),
        (4, 2, true),
        (5, 1, false),
        (5, 2, true),
    ] {
        let mut leader = Subject::leading(count);
        for voter in 2..=count {
            leader.hear(voter, accepted(2, 2));
        }
        leader.propose(1);
        for voter in 2..2 + acks {
            leader.hear(voter, accepted(2, 3));
        }
        let expected = if is_committed { 3 } else { 2 };
        assert_eq!(leader.commit(), expected, "{acks} of the others of {count}");
    }
}

/// Committing an entry commits all before it, also those of other leaders.
#[test]
fn s5_3_an_entry_commits_all_before_it() {
    for terms in [&[2][..], &[2, 3], &[2, 2, 3, 3], &[2, 5, 5, 5]] {
        let mut leader = Subject::holding(3, terms);
        leader.elect(3);
        let (last, term) = (leader.raft.last().index.0, leader.raft.term().0);
        assert_eq!(leader.commit(), 1);
        leader.hear(2, accepted(term, last));
        assert_eq!(leader.commit(), last);
    }
}

/// Followers learn of it with the appends and heartbeats that follow.
#[test]
fn s5_3_the_commit_index_travels_with_what_the_leader_says_next() {
    let mut leader = Subject::leading(3);
    leader.hear(2, accepted(2, 2));
    let sent = leader.propose(1);
    assert!(
        appends(&sent)
            .iter()
            .all(|(_, append)| append.commit == Index(2))
    );
    leader.hear(2, accepted(2, 3));
    let sent = leader.propose(1);
    assert!(
        appends(&sent)
            .iter()
            .all(|(_, append)| append.commit == Index(3))
    );
}

/// Departure: a heartbeat names no commit index above what the follower has acknowledged, as it
/// carries no previous entry by which the follower could tell.
#[test]
fn s5_3_a_heartbeat_commits_nothing_that_was_not_acknowledged() {
    let mut leader = Subject::leading(3);
    leader.hear(2, accepted(2, 2));
    let sent = leader.pass(100);
    assert_eq!(commits_told(&sent), [(2, 2), (3, 0)]);

    let mut follower = Subject::holding(3, &[2, 2]);
    follower.hear(2, heartbeat(4, 3));
    assert_eq!(follower.commit(), 1);
}

/// Figure 6 and the Log Matching Property: what two logs hold at the same index and of the same
/// term has the same before it, as an append is taken only where it fits.
#[test]
fn s5_3_fig6_an_append_fits_only_after_the_entry_that_it_names() {
    // The log [1 2 2 3] in term 4; the entry before, and whether it fits. At or below the commit
    // index it always does.
    for (prev, fits) in [
        (at(0, 0), true),
        (at(1, 1), true),
        (at(2, 2), true),
        (at(3, 2), true),
        (at(4, 3), true),
        (at(4, 2), false),
        (at(3, 3), false),
        (at(5, 3), false),
        (at(1, 2), false),
    ] {
        let mut server = Subject::holding(3, &[2, 2, 3]);
        let sent = server.append(2, 4, prev, &[], 1);
        let expected = accepted(4, prev.index.0.max(1));
        assert_eq!(sent == [(2, expected)], fits, "{prev}: {sent:?}");
    }
}

/// Figure 7: whatever the follower lacks, has too much or has of other terms, the leader brings its
/// log to be its own, and never deletes or overwrites an entry of its own log.
#[test]
fn s5_3_fig7_every_diverged_follower_is_brought_to_the_leaders_log() {
    let followers: [(&str, &[u64]); 6] = [
        ("a", &[1, 1, 4, 4, 5, 5, 6, 6]),
        ("b", &[1, 1, 4]),
        ("c", &[1, 1, 4, 4, 5, 5, 6, 6, 6, 6]),
        ("d", &[1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7]),
        ("e", &[1, 1, 4, 4, 4, 4]),
        ("f", &[1, 1, 2, 2, 2, 3, 3, 3, 3, 3]),
    ];
    for (name, terms) in followers {
        let mut leader = Subject::of(7);
        leader.append(7, 6, at(1, 1), &[1, 1, 4, 4, 5, 5, 6, 6, 6], 1);
        leader.hear(7, forced(vote(7, at(0, 0))));
        let mut follower = Subject::with(2, Config::default());
        follower.bootstrap(7);
        follower.append(7, *terms.last().expect("a term"), at(1, 1), terms, 1);
        let sent = leader.elect(6);
        assert_eq!(leader.is(), (Role::Leader, 8));
        exchange(&mut leader, &mut follower, sent);
        let expected = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8];
        assert_eq!(follower.terms(), expected, "({name})");
        assert_eq!(leader.terms(), expected, "({name})");
        assert_eq!(leader.matched(2), 11, "({name})");
    }
}

/// The optimisation at the end of the section: a refusal skips all entries of a term, so one per
/// conflicting term is needed, not one per entry.
#[test]
fn s5_3_one_refusal_skips_a_whole_term() {
    let mut follower = Subject::holding(3, &[2; 100]);
    let sent = follower.append(2, 9, at(90, 1), &[], 1);
    assert_eq!(sent, [(2, rejected(9, 90, at(1, 1)))]);
    let mut leader = Subject::holding(3, &[3; 100]);
    let sent = leader.elect(3);
    assert_eq!(appends(&sent)[0].1.prev, at(101, 3));
    let sent = leader.hear(2, rejected(5, 101, at(101, 2)));
    assert_eq!(appends(&sent)[0].1.prev, at(1, 1));
}

/// 5.3 and 5.5: the leader retries indefinitely, and an answer in whatever order does no harm.
#[test]
fn s5_5_an_append_is_retried_until_it_is_acknowledged() {
    let mut leader = Subject::leading(3);
    for _ in 0..30 {
        let sent = leader.pass(100);
        leader.hear(2, heard(2, 1)); // the quorum stays; 3 is silent
        let to_3: Vec<_> = appends(&sent)
            .into_iter()
            .filter(|(to, _)| *to == 3)
            .collect();
        assert_eq!(to_3.len(), 1, "one probe per heartbeat");
        assert_eq!((to_3[0].1.prev, to_3[0].1.last), (at(1, 1), Index(2)));
    }
    leader.hear(3, accepted(2, 2));
    assert_eq!((leader.matched(3), leader.commit()), (2, 2));
}

/// In the pipeline too: what is not acknowledged within an election timeout is sent again from
/// what is known to match; a broken connection makes it so at once.
#[test]
fn s5_5_what_was_lost_in_the_pipeline_is_sent_again() {
    for is_known in [false, true] {
        let mut leader = Subject::leading(3);
        leader.hear(2, accepted(2, 2));
        leader.hear(3, accepted(2, 2));
        leader.propose(1);
        let mut sent = if is_known {
            leader.turn(|raft, _| raft.connected(ServerId(3)))
        } else {
            leader.pass(999);
            leader.hear(2, accepted(2, 3));
            leader.hear(3, heard(2, 1));
            leader.pass(1)
        };
        sent.retain(|(to, _)| *to == 3);
        let again: Vec<_> = appends(&sent)
            .iter()
            .map(|(_, it)| (it.prev, it.last))
            .collect();
        assert_eq!(again, [(at(2, 2), Index(3))], "known: {is_known}");
    }
}

/// Requests are idempotent: each message twice is as good as once.
#[test]
fn s5_5_requests_and_answers_may_come_twice() {
    let mut follower = Subject::of(3);
    let first = follower.append(2, 2, at(1, 1), &[2, 2], 2);
    let second = follower.append(2, 2, at(1, 1), &[2, 2], 2);
    assert_eq!(first, second);
    assert_eq!((follower.terms(), follower.commit()), (vec![1, 2, 2], 2));
    let mut leader = Subject::leading(5);
    leader.hear(2, accepted(2, 2));
    leader.hear(2, accepted(2, 2));
    assert_eq!(leader.commit(), 1, "one server's answer counts once");
}

/// Leader Append-Only: nothing makes a leader cut its log while it leads.
#[test]
fn s5_3_a_leader_only_appends() {
    let mut leader = Subject::holding(3, &[2, 2]);
    leader.elect(3);
    let terms = leader.terms();
    leader.append(2, 4, at(1, 1), &[3], 1);
    leader.append(2, 3, at(1, 1), &[3], 1);
    leader.hear(2, rejected(4, 3, at(1, 1)));
    leader.hear(3, accepted(4, 1));
    assert_eq!((leader.terms(), leader.raft.generation()), (terms, 0));
}

/// An acknowledgement of more than the leader has is none.
#[test]
fn s5_3_an_acknowledgement_beyond_the_log_is_ignored() {
    let mut leader = Subject::leading(3);
    leader.hear(2, accepted(2, 3));
    assert_eq!((leader.matched(2), leader.commit()), (0, 1));
}

/// Bounded: past the cap on what is proposed and not committed, proposals are refused; what commits
/// makes room.
#[test]
fn s5_3_the_uncommitted_tail_is_bounded() {
    let config = Config {
        uncommitted_bytes_max: 25,
        uncommitted_entries_max: 3,
        ..Config::default()
    };
    let mut leader = Subject::of_with(3, config);
    leader.elect(3);
    leader.hear(2, accepted(2, 2));
    let propose = |leader: &mut Subject, sizes: &[u32]| {
        let entries = sizes.iter().map(|size| (EntryKind::Command, *size));
        let proposed = leader.raft.propose(leader.now, entries);
        proposed.map(|first| first.index.0)
    };
    let full = |result| matches!(result, Err(Refused::Full { max: 25 | 3, .. }));

    // In bytes: whole or not at all, and to the last one.
    assert_eq!(propose(&mut leader, &[10, 10]), Ok(3));
    let terms = leader.terms();
    assert!(full(propose(&mut leader, &[1, 5])));
    assert_eq!(leader.terms(), terms, "nothing of it is left");
    assert_eq!(propose(&mut leader, &[5]), Ok(5));
    // In entries.
    leader.hear(2, accepted(2, 4));
    assert_eq!(propose(&mut leader, &[1, 1]), Ok(6));
    assert!(full(propose(&mut leader, &[1])));
    // One larger than the bound is taken once there is nothing before it, or it never could be.
    leader.hear(2, accepted(2, 6));
    assert!(full(propose(&mut leader, &[1000])));
    leader.hear(2, accepted(2, 7));
    assert_eq!(propose(&mut leader, &[1000]), Ok(8));
    assert!(full(propose(&mut leader, &[1])));
}

/// Thesis 10.2.1: the leader sends before its own disk has it; it counts itself only once that
/// does, and a majority of followers commits without it.
#[test]
fn thesis_10_2_1_the_leader_counts_itself_only_once_it_is_persistent() {
    let mut leader = Subject::leading(3);
    leader.hear(2, accepted(2, 2));
    leader.hear(3, accepted(2, 2));
    leader.is_disk_slow = true;
    let sent = leader.propose(1);
    assert_eq!(appends(&sent).len(), 2, "it does not wait to send");
    leader.hear(2, accepted(2, 3));
    assert_eq!(leader.commit(), 2, "1 of 3 has it");
    let generation = leader.raft.generation();
    leader.turn(|raft, now| raft.persisted(now, at(3, 2), generation));
    assert_eq!(leader.commit(), 3);

    leader.propose(1);
    leader.hear(2, accepted(2, 4));
    leader.hear(3, accepted(2, 4));
    assert_eq!(leader.commit(), 4, "the two followers");
}

/// Thesis 10.2.2: batches and a pipeline. What is proposed while one append is on its way goes out
/// with the next; a second one beside it only after a while, up to a bound.
#[test]
fn thesis_10_2_2_appends_are_batched_and_pipelined_within_bounds() {
    let config = Config {
        inflight_max: 3,
        ..Config::default()
    };
    let mut leader = Subject::of_with(3, config);
    leader.elect(3);
    leader.hear(2, accepted(2, 2));
    assert_eq!(appends(&leader.propose(1)).len(), 1);
    assert_eq!(appends(&leader.propose(1)), [], "one is on its way");
    leader.propose(1);
    let second = appends(&leader.pass(2));
    assert_eq!(second.len(), 1);
    assert_eq!(
        (second[0].1.prev, second[0].1.last),
        (at(3, 2), Index(5)),
        "both at once"
    );
    leader.propose(1);
    assert_eq!(appends(&leader.pass(2)).len(), 1);
    leader.propose(1);
    assert_eq!(appends(&leader.pass(10)), [], "three are on their way");
    assert_eq!(appends(&leader.hear(2, accepted(2, 3))).len(), 1);

    // In bytes as well; an append larger than that goes alone.
    let config = Config {
        inflight_bytes_max: 5,
        ..Config::default()
    };
    let mut leader = Subject::of_with(3, config);
    leader.elect(3);
    leader.hear(2, accepted(2, 2));
    assert_eq!(appends(&leader.propose(1)).len(), 1);
    leader.propose(1);
    assert_eq!(appends(&leader.pass(10)), [], "10 bytes are on their way");
    assert_eq!(appends(&leader.hear(2, accepted(2, 3))).len(), 1);
}
