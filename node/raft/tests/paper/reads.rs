//! Clients: section 8, and linearizable reads without the log, thesis 6.4. (6.4.1: `leases.rs`.
//! Exactly-once, section 8 and thesis 6.3: with sessions.)

use kontiki_raft::{EntryKind, Raft, ReadId, Refused, Role, ServerId};

use crate::harness::*;

/// The leader of term 2, which has committed its no-op and heard from all others.
fn established(count: u64) -> Subject {
    let mut leader = Subject::leading(count);
    for voter in 2..=count {
        leader.hear(voter, accepted(2, 2));
    }
    leader
}

/// A server that does not lead refuses, and names the leader that it has heard from.
#[test]
fn s8_a_follower_names_the_leader() {
    let mut server = Subject::of(3);
    let propose = |raft: &mut Raft, now| raft.propose(now, [(EntryKind::Command, 1)]);
    let now = server.now;
    assert_eq!(
        propose(&mut server.raft, now),
        Err(Refused::NotLeader(None))
    );
    server.append(2, 2, at(1, 1), &[], 1);
    let refused = Err(Refused::NotLeader(Some(ServerId(2))));
    assert_eq!(propose(&mut server.raft, now), refused);
    assert_eq!(
        server.raft.read(now, ReadId(1)),
        Err(Refused::NotLeader(Some(ServerId(2))))
    );
    assert_eq!(server.terms(), [1]);
}

/// A new leader commits a no-op of its term, and knows what is committed only then.
#[test]
fn s8_a_new_leader_commits_a_noop_of_its_term() {
    let mut leader = Subject::leading(3);
    assert_eq!(leader.terms(), [1, 2]);
    assert!(!leader.raft.is_term_committed());
    leader.hear(2, accepted(2, 2));
    assert!(leader.raft.is_term_committed());
}

/// 6.4 step 1: no read is answered before an entry of the term is committed, whoever confirms the
/// leader meanwhile.
#[test]
fn thesis_6_4_1st_a_read_waits_for_a_commit_of_the_term() {
    let mut leader = Subject::leading(3);
    leader.read(7);
    leader.hear(2, heard(2, 1));
    leader.hear(3, heard(2, 1));
    assert_eq!(leader.reads, []);
    let sent = leader.hear(2, accepted(2, 2));
    let (_, round) = heartbeats(&sent)[0];
    leader.hear(2, heard(2, round));
    leader.hear(3, heard(2, round));
    assert_eq!(leader.reads, [(7, Some(2))]);
}

/// 6.4 step 2: readIndex is the commit index when the read came; what commits later is not waited
/// for.
#[test]
fn thesis_6_4_2nd_the_read_index_is_the_commit_index_of_its_beginning() {
    let mut leader = established(3);
    leader.propose(1);
    let sent = leader.read(7);
    let (to, round) = heartbeats(&sent)[0];
    leader.hear(2, accepted(2, 3));
    assert_eq!((leader.commit(), leader.reads.len()), (3, 0));
    leader.hear(to, heard(2, round));
    assert_eq!(leader.reads, [(7, Some(2))]);
}

/// 6.4 step 3: a round of heartbeats, begun after the read came, is answered by a majority.
/// Departure: it asks the smallest quorum first, and the rest after a quarter of a heartbeat.
#[test]
fn thesis_6_4_3rd_a_majority_confirms_the_leader_after_the_read_came() {
    let mut leader = established(5);
    let sent = leader.read(7);
    let asked = heartbeats(&sent);
    assert_eq!(asked.len(), 2, "with itself 3 of 5");
    let round = asked[0].1;
    leader.hear(asked[0].0, heard(2, round));
    leader.hear(asked[0].0, heard(2, round));
    leader.hear(9, heard(2, round)); // a stranger
    assert_eq!(leader.reads, []);
    let rest = heartbeats(&leader.pass(25));
    assert_eq!(rest.len(), 2);
    assert!(
        rest.iter()
            .all(|(to, _)| asked.iter().all(|(before, _)| to != before))
    );
    leader.hear(rest[1].0, heard(2, round));
    assert_eq!(leader.reads, [(7, Some(2))]);
}

/// ... an answer to an earlier round, that is from before the read came, confirms nothing.
#[test]
fn thesis_6_4_3rd_an_earlier_round_confirms_nothing() {
    let mut leader = established(3);
    let sent = leader.pass(100);
    let (_, before) = heartbeats(&sent)[0];
    let sent = leader.read(7);
    let (_, round) = heartbeats(&sent)[0];
    assert!(round > before);
    leader.hear(2, heard(2, before));
    leader.hear(3, heard(2, before));
    assert_eq!(leader.reads, []);
    leader.hear(3, heard(2, round));
    assert_eq!(leader.reads, [(7, Some(2))]);
}

/// ... nor does one to a heartbeat of an earlier term in which the same server led: rounds are
/// counted from 1 in every term, and the answer carries the term that the follower has by now.
#[test]
fn thesis_6_4_3rd_a_heartbeat_of_an_old_term_confirms_nothing() {
    let mut follower = Subject::of(3);
    follower.append(2, 4, at(1, 1), &[], 1);
    let answer = follower.hear(2, heartbeat_of_round(2, 1, 50));
    assert_eq!(answer, [(2, heard(4, 0))]);
    assert_eq!(
        follower.hear(2, heartbeat_of_round(4, 1, 3)),
        [(2, heard(4, 3))]
    );
}

/// 6.4: reads that come while a round is out share the next one.
#[test]
fn thesis_6_4_reads_that_wait_share_a_round() {
    let mut leader = established(3);
    let sent = leader.read(1);
    let (to, round) = heartbeats(&sent)[0];
    assert_eq!(leader.read(2), []);
    assert_eq!(leader.read(3), []);
    let sent = leader.hear(to, heard(2, round));
    assert_eq!(leader.reads, [(1, Some(2))]);
    let next = heartbeats(&sent);
    assert_eq!(next.len(), 1, "one round for both");
    assert!(next[0].1 > round);
    leader.hear(next[0].0, heard(2, next[0].1));
    assert_eq!(leader.reads, [(1, Some(2)), (2, Some(2)), (3, Some(2))]);
}

/// A leader that was deposed answers none of the reads that waited.
#[test]
fn thesis_6_4_a_deposed_leader_answers_no_read() {
    let mut leader = established(3);
    leader.read(1);
    leader.read(2);
    leader.hear(3, heard(3, 1));
    assert_eq!(leader.is(), (Role::Follower, 3));
    assert_eq!(leader.reads, [(1, None), (2, None)]);
}

/// Alone it needs nobody's word.
#[test]
fn thesis_6_4_a_single_server_reads_at_once() {
    let mut leader = Subject::of(1);
    leader.elect(1);
    leader.read(7);
    assert_eq!(leader.reads, [(7, Some(2))]);
}

fn read_through(follower: &mut Subject, id: u64) -> Sent {
    follower.turn(|raft, now| {
        let taken = raft.read_through_leader(now, ReadId(id));
        taken.expect("it knows a leader");
    })
}

/// 6.4: a follower asks the leader for a read index, which confirms its leadership for it as for a
/// read of its own, and answers by itself.
#[test]
fn thesis_6_4_a_follower_asks_the_leader_and_answers_itself() {
    let mut follower = Subject::of(3);
    follower.append(2, 2, at(1, 1), &[2], 2);
    assert_eq!(read_through(&mut follower, 7), [(2, read_index(1))]);
    follower.hear(2, read_index_is(1, Some(2)));
    assert_eq!(follower.reads, [(7, Some(2))]);

    let mut leader = established(3);
    let sent = leader.hear(3, read_index(1));
    let (to, round) = heartbeats(&sent)[0];
    let sent = leader.hear(to, heard(2, round));
    assert_eq!(sent, [(3, read_index_is(1, Some(2)))]);
}

/// ... under a number that it never uses again: an answer counts for the reads that came before its question,
/// however late it is, and for no later ones; one of another server for none.
#[test]
fn thesis_6_4_an_answer_to_an_earlier_question_confirms_nothing_later() {
    let mut follower = Subject::of(3);
    follower.append(2, 2, at(1, 1), &[2], 2);
    read_through(&mut follower, 7);
    let asked = follower.pass(100);
    assert_eq!(asked, [(2, read_index(2))], "again, without an answer");
    assert_eq!(read_through(&mut follower, 8), [], "one question at a time");
    follower.hear(3, read_index_is(2, Some(1)));
    assert_eq!(follower.reads, []);
    let asked = follower.hear(2, read_index_is(1, Some(2)));
    assert_eq!(follower.reads, [(7, Some(2))]);
    assert_eq!(asked, [(2, read_index(3))]);
    follower.hear(2, read_index_is(2, Some(2)));
    assert_eq!(follower.reads, [(7, Some(2))]);
    follower.hear(2, read_index_is(3, Some(2)));
    follower.hear(2, read_index_is(3, Some(2)));
    assert_eq!(follower.reads, [(7, Some(2)), (8, Some(2))]);
    // Under another leader it goes on counting.
    follower.append(3, 5, at(2, 2), &[5], 2);
    assert_eq!(read_through(&mut follower, 9), [(3, read_index(4))]);
}

/// ... and whoever does not lead, or loses its leader, says so.
#[test]
fn thesis_6_4_a_question_to_no_leader_fails() {
    let mut follower = Subject::of(3);
    let refused = follower.raft.read_through_leader(follower.now, ReadId(1));
    assert_eq!(refused, Err(Refused::NotLeader(None)));
    follower.append(2, 2, at(1, 1), &[2], 2);
    let answer = follower.hear(3, read_index(9));
    assert_eq!(answer, [(3, read_index_is(9, None))]);
    read_through(&mut follower, 1);
    follower.hear(2, read_index_is(1, None));
    read_through(&mut follower, 2);
    follower.hear(3, forced(vote(3, at(2, 2))));
    assert_eq!(follower.reads, [(1, None), (2, None)]);

    let mut leader = established(3);
    leader.hear(2, read_index(1));
    let sent = leader.hear(3, forced(vote(3, at(2, 2))));
    assert!(sent.contains(&(2, read_index_is(1, None))));
}
