//! Section 7: compaction, and figure 13, InstallSnapshot. Pieces are cut and assembled by the driver;
//! what the engine decides is who gets a snapshot, whether one is wanted, and what it does to the log.

use kontiki_raft::{
    AppendAck, AppendOutcome, Config, Configuration, Index, Message, ServerId, SnapshotAck,
    SnapshotChunk, SnapshotId, SnapshotOutcome, Term,
};

use crate::harness::{self, Subject, accepted, at, configuration, rejected};

const NUMBER: u64 = 1;

fn chunk(term: u64, last: kontiki_raft::LogId) -> SnapshotChunk {
    let number = NUMBER;
    SnapshotChunk {
        term: Term(term),
        id: SnapshotId { number, last },
        offset: 0,
        is_end: true,
    }
}

/// The configuration of voters 1 to `count`, at an index.
fn voters(index: u64, count: u64) -> (Index, Configuration) {
    let voters = Configuration::of((1..=count).map(ServerId));
    (Index(index), voters)
}

/// A piece arrives; whether it is wanted.
fn offer(server: &mut Subject, from: u64, chunk: SnapshotChunk) -> bool {
    server.hear(from, Message::SnapshotChunk(chunk));
    server.raft.wants_snapshot(ServerId(from), &chunk)
}

fn install(
    server: &mut Subject,
    last: kontiki_raft::LogId,
    configuration: (Index, Configuration),
) -> bool {
    let mut is_installed = false;
    server.turn(|raft, now| is_installed = raft.install_snapshot(now, last, configuration));
    is_installed
}

/// Figure 13, 1: reply immediately if term < currentTerm; the reply carries the term.
#[test]
fn s7_fig13_1_a_piece_of_an_old_term_is_answered_with_the_term() {
    let mut server = Subject::holding(3, &[2, 2]);
    let old = chunk(1, at(9, 1));
    let sent = server.hear(2, Message::SnapshotChunk(old));
    let answer = SnapshotAck {
        term: Term(3),
        id: old.id,
        outcome: SnapshotOutcome::Received(0),
    };
    assert_eq!(sent, [(2, Message::SnapshotAck(answer))]);
    assert!(!server.raft.wants_snapshot(ServerId(2), &old));
}

/// Figure 13, 5: of two snapshots the older one is discarded; so is one that says no more than what
/// is committed here.
#[test]
fn s7_fig13_5_a_snapshot_of_what_is_committed_changes_nothing() {
    let mut server = Subject::of(3);
    server.append(2, 2, at(1, 1), &[2, 2], 3);
    assert_eq!(server.commit(), 3);
    for last in [at(2, 2), at(3, 2)] {
        assert!(!offer(&mut server, 2, chunk(2, last)));
        assert!(!install(&mut server, last, voters(1, 3)));
    }
    assert_eq!((server.terms(), server.commit()), (vec![1, 2, 2], 3));
    assert!(offer(&mut server, 2, chunk(2, at(4, 2))));
}

/// Figure 13, 6: an entry of the same index and term as the last one covered: what follows it is kept.
#[test]
fn s7_fig13_6_entries_after_a_snapshot_that_fits_are_kept() {
    let mut server = Subject::of(3);
    server.append(2, 2, at(1, 1), &[2, 2, 2], 1);
    assert!(offer(&mut server, 2, chunk(2, at(3, 2))));
    assert!(install(&mut server, at(3, 2), voters(1, 3)));
    assert_eq!((server.raft.last(), server.commit()), (at(4, 2), 3));
}

/// Figure 13, 7: else the whole log is discarded.
#[test]
fn s7_fig13_7_a_log_that_does_not_fit_is_discarded() {
    let mut server = Subject::holding(3, &[2, 2, 2, 2]);
    assert!(offer(&mut server, 3, chunk(4, at(3, 4))));
    assert!(install(&mut server, at(3, 4), voters(1, 3)));
    assert_eq!((server.raft.last(), server.commit()), (at(3, 4), 3));
    assert_eq!(server.raft.first(), Index(4));
    // And it goes on from there.
    server.append(3, 4, at(3, 4), &[4], 4);
    assert_eq!((server.raft.last(), server.commit()), (at(4, 4), 4));
}

/// Figure 13, 8: the configuration of the snapshot is in force.
#[test]
fn s7_fig13_8_the_configuration_of_a_snapshot_is_in_force() {
    let mut server = Subject::fresh();
    assert!(offer(&mut server, 2, chunk(5, at(90, 5))));
    assert!(install(&mut server, at(90, 5), voters(70, 4)));
    let (index, configuration) = server.raft.configuration();
    assert_eq!((index, configuration), (Index(70), &voters(70, 4).1));
    // It is a voter now, and campaigns for what it has.
    server.time_out();
    assert_eq!(server.raft.last(), at(90, 5));
}

/// A follower whose next entry is discarded gets a snapshot; when it has it, the log goes on.
#[test]
fn s7_the_leader_sends_a_snapshot_to_who_needs_what_is_discarded() {
    let mut leader = Subject::leading(3);
    leader.propose(4);
    let holds = |index| {
        let outcome = AppendOutcome::Accepted(Index(index));
        let term = Term(2);
        Message::AppendAck(AppendAck { term, outcome })
    };
    leader.hear(2, holds(6));
    assert_eq!(leader.commit(), 6);
    leader.raft.compact(Index(5));
    assert_eq!(leader.raft.first(), Index(6));
    // Server 3 is heard for the first time.
    let refused = AppendOutcome::Rejected {
        prev: Index(1),
        hint: at(0, 0),
    };
    let term = Term(2);
    let refused = Message::AppendAck(AppendAck {
        term,
        outcome: refused,
    });
    leader.snapshots_asked.clear();
    leader.hear(3, refused);
    assert_eq!(leader.snapshots_asked, [3]);
    let id = leader
        .raft
        .snapshot_started(leader.now, ServerId(3), at(6, 2));
    assert!(id.is_some());
    assert_eq!(leader.raft.snapshot_for(ServerId(3)), id);
    let sent = leader.hear(3, holds(6));
    assert_eq!(leader.raft.snapshot_for(ServerId(3)), None);
    assert_eq!(sent, []);
    let sent = leader.propose(1);
    let to_three = sent.iter().filter(|(to, _)| *to == 3);
    assert_eq!(to_three.count(), 1, "the log goes on: {sent:?}");
}

/// A driver may take a snapshot long after it was asked to, when others were asked for as well: no more
/// are begun than may be sent at a time.
#[test]
fn s7_snapshots_that_are_taken_late_are_not_begun_past_the_bound() {
    let config = Config {
        snapshots_max: 2,
        ..Config::default()
    };
    let mut leader = Subject::of_with(7, config);
    leader.elect(7);
    leader.propose(4);
    for server in [2, 6, 7] {
        leader.hear(server, accepted(2, 6));
    }
    assert_eq!(leader.commit(), 6);
    leader.raft.compact(Index(5));
    leader.snapshots_asked.clear();
    for server in [5, 4, 3] {
        leader.hear(server, rejected(2, 1, at(0, 0)));
    }
    leader.snapshots_asked.sort_unstable();
    leader.snapshots_asked.dedup();
    assert_eq!(leader.snapshots_asked, [3, 4, 5], "none is taken yet");
    let mut begin = |to| {
        let now = leader.now;
        leader.raft.snapshot_started(now, ServerId(to), at(6, 2))
    };
    let begun = [3, 4, 5].map(&mut begin);
    assert_eq!(begun.map(|id| id.is_some()), [true, true, false]);
    // Once one is over, there is room for the third.
    leader.hear(3, accepted(2, 6));
    let now = leader.now;
    let id = leader.raft.snapshot_started(now, ServerId(5), at(6, 2));
    assert!(id.is_some());
}

/// Only what is committed is discarded.
#[test]
#[should_panic(expected = "only what is committed is compacted")]
fn s7_what_is_not_committed_is_never_discarded() {
    let mut leader = Subject::leading(3);
    leader.propose(3);
    leader.raft.compact(Index(3));
}

/// A server that restores may be elected meanwhile, and what it installs then may commit a joint
/// configuration before the first entry of its term: the change is finished after that entry, not before.
#[test]
fn h14_a_leader_that_installs_a_snapshot_finishes_no_change_before_a_commit_of_its_term() {
    let joint = harness::voters(&[1, 2], Some(&[1, 2, 3]));
    let mut server = Subject::of(3);
    server.append_entries(2, 2, at(1, 1), &[configuration(2, joint.clone())], 1);
    server.elect(3);
    assert!(install(&mut server, at(2, 2), (Index(2), joint)));
    assert_eq!((server.commit(), server.terms()), (2, vec![1, 2, 3]));
    server.hear(2, accepted(3, 3));
    assert_eq!((server.commit(), server.terms()), (3, vec![1, 2, 3, 3]));
}
