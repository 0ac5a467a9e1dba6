//! Membership: section 6 and the thesis's chapter 4. Every change of voters is joint (thesis 4.3),
//! of one server too; what the thesis says of single-server changes (4.1) holds of the joint ones.

use kontiki_raft::{
    ChangeRequest, Config, Configuration, Index, Message, Purpose, Refused, Role, ServerId,
};
use proptest::prelude::*;

use crate::harness::*;

/// The leader of term 2, which has committed its no-op and heard from all others.
pub fn established(count: u64) -> Subject {
    let mut leader = Subject::leading(count);
    for voter in 2..=count {
        leader.hear(voter, accepted(2, 2));
    }
    assert_eq!(leader.commit(), 2);
    leader
}

pub fn change(leader: &mut Subject, request: &ChangeRequest) -> Result<(), Refused> {
    let mut result = Ok(());
    leader.turn(|raft, now| result = raft.change(now, request));
    result
}

pub fn add(ids: &[u64], purpose: Purpose) -> ChangeRequest {
    let add = ids.iter().map(|id| (ServerId(*id), purpose)).collect();
    ChangeRequest {
        add,
        ..ChangeRequest::default()
    }
}

pub fn remove(ids: &[u64]) -> ChangeRequest {
    let remove = ids.iter().copied().map(ServerId).collect();
    ChangeRequest {
        remove,
        ..ChangeRequest::default()
    }
}

/// Index and configuration in force.
pub fn in_force(subject: &Subject) -> (u64, Configuration) {
    let (index, configuration) = subject.raft.configuration();
    (index.0, configuration.clone())
}

// --- Section 6 --------------------------------------------------------------------------------

/// A server uses the latest configuration in its log, committed or not: the leader...
#[test]
fn s6_a_configuration_is_in_force_once_it_is_in_the_log() {
    let mut leader = established(3);
    change(&mut leader, &remove(&[3])).expect("begun");
    assert_eq!(in_force(&leader), (3, voters(&[1, 2], Some(&[1, 2, 3]))));
    assert_eq!(leader.commit(), 2);
    assert_eq!(leader.raft.committed_configuration().0, Index(1));
}

/// ... and a follower, which goes back to the one before when the entry is cut off.
#[test]
fn s6_a_follower_uses_the_last_configuration_and_rolls_it_back() {
    let mut server = Subject::of(3);
    let joint = voters(&[1, 2, 4], Some(&[1, 2, 3]));
    server.append_entries(
        2,
        2,
        at(1, 1),
        &[command(2), configuration(2, joint.clone())],
        1,
    );
    assert_eq!(in_force(&server), (3, joint));
    let sent = server.time_out();
    let asked: Vec<u64> = votes(&sent).iter().map(|(to, _)| *to).collect();
    assert_eq!(asked, [2, 3, 4], "voters of both halves");
    server.append(3, 3, at(2, 2), &[3], 1);
    assert_eq!(in_force(&server), (1, voters(&[1, 2, 3], None)));
}

/// While joint, entries are committed by majorities of both halves.
#[test]
fn s6_while_joint_commitment_needs_a_majority_of_each_half() {
    for (acks, is_committed) in [
        (&[2, 3][..], false), // all of the old half, one of the new
        (&[4, 5], false),     // all of the new half, one of the old
        (&[2, 4], true),
        (&[3, 5], true),
    ] {
        let mut leader = joint_leader(&[1, 4, 5], &[1, 2, 3]);
        for voter in acks {
            leader.hear(*voter, accepted(3, 3));
        }
        assert_eq!(leader.commit() == 3, is_committed, "{acks:?}");
    }
}

/// While joint, an election needs both majorities too.
#[test]
fn s6_while_joint_an_election_needs_a_majority_of_each_half() {
    for (grants, role) in [
        (&[2, 3][..], Role::Candidate), // all of the old half, one of the new
        (&[4, 5], Role::Candidate),     // all of the new half, one of the old
        (&[2, 4], Role::Leader),
        (&[3, 5], Role::Leader),
    ] {
        let mut server = joint_follower(&[1, 4, 5], &[1, 2, 3]);
        server.turn(|raft, now| raft.trigger_election(now).expect("a voter"));
        let term = server.raft.term().0;
        for voter in grants {
            server.hear(*voter, granted(term));
        }
        assert_eq!(server.raft.role(), role, "{grants:?}");
    }
}

/// Server 1, whose log ends with a joint entry at index 2 that it got from server 2.
fn joint_follower(incoming: &[u64], outgoing: &[u64]) -> Subject {
    let mut server = Subject::of(3);
    let entry = configuration(2, voters(incoming, Some(outgoing)));
    server.append_entries(2, 2, at(1, 1), &[entry], 1);
    server
}

/// As [`joint_follower`], elected by all; its no-op is at index 3.
fn joint_leader(incoming: &[u64], outgoing: &[u64]) -> Subject {
    let mut server = joint_follower(incoming, outgoing);
    server.elect(5);
    assert_eq!(server.is(), (Role::Leader, 3));
    server
}

/// A server of either half may lead; once C-old,new is committed the leader appends C-new by
/// itself, also one that did not begin the change.
#[test]
fn s6_whoever_leads_leaves_a_joint_configuration_once_it_is_committed() {
    let mut leader = joint_leader(&[1, 4, 5], &[1, 2, 3]);
    leader.hear(2, accepted(3, 3));
    assert!(in_force(&leader).1.is_joint());
    leader.hear(4, accepted(3, 3));
    assert_eq!(in_force(&leader), (4, voters(&[1, 4, 5], None)));
    assert_eq!(leader.commit(), 3);
    leader.hear(2, accepted(3, 4)); // counts no more
    assert_eq!(leader.commit(), 3);
    leader.hear(5, accepted(3, 4));
    assert_eq!(leader.commit(), 4);
    assert_eq!(leader.raft.committed_configuration().0, Index(4));
}

/// New servers join as non-voting members first: they get the log and do not count.
#[test]
fn s6_a_new_server_receives_the_log_and_does_not_count() {
    let mut leader = established(3);
    change(&mut leader, &add(&[4], Purpose::Stay)).expect("begun");
    leader.hear(4, accepted(2, 3));
    assert_eq!(leader.commit(), 2, "a learner's acknowledgement");
    leader.hear(2, accepted(2, 3));
    assert_eq!(leader.commit(), 3);
    let sent = leader.propose(1);
    assert!(appends(&sent).iter().any(|(to, _)| *to == 4));
    for _ in 0..3 {
        leader.pass(400);
        leader.hear(4, heard(2, 1));
    }
    assert_eq!(
        leader.is(),
        (Role::Follower, 2),
        "nor is it a quorum to hear from"
    );
}

/// A leader that is not in C-new leads until C-new is committed, and then steps down.
#[test]
fn s6_a_leader_that_is_removed_steps_down_once_that_is_committed() {
    let mut leader = established(3);
    change(&mut leader, &remove(&[1])).expect("begun");
    leader.hear(2, accepted(2, 3));
    leader.hear(3, accepted(2, 3));
    assert_eq!(in_force(&leader), (4, voters(&[2, 3], None)));
    leader.hear(2, accepted(2, 4));
    assert_eq!(leader.raft.role(), Role::Leader, "it does not count itself");
    leader.hear(3, accepted(2, 4));
    assert_eq!((leader.raft.role(), leader.commit()), (Role::Joiner, 4));
    assert_eq!(leader.wait(), None, "it never campaigns");
}

// --- Thesis 4.1: safety -----------------------------------------------------------------------

/// One change at a time: none while the last one is not committed. The same change again is fine.
#[test]
fn thesis_4_1_one_change_at_a_time() {
    let mut leader = established(3);
    change(&mut leader, &add(&[4], Purpose::Stay)).expect("begun");
    assert_eq!(
        change(&mut leader, &remove(&[3])),
        Err(Refused::UnstableConfig)
    );
    assert_eq!(change(&mut leader, &add(&[4], Purpose::Stay)), Ok(()));
    assert_eq!(leader.raft.last().index, Index(3));
    leader.hear(2, accepted(2, 3));
    assert_eq!(change(&mut leader, &remove(&[3])), Ok(()));
    assert_eq!(
        change(&mut leader, &remove(&[2])),
        Err(Refused::UnstableConfig)
    );
}

/// No change before an entry of the term is committed (the correction of 2015 to this section).
#[test]
fn thesis_4_1_no_change_before_a_commit_of_the_term() {
    let mut leader = Subject::leading(3);
    assert_eq!(change(&mut leader, &remove(&[3])), Err(Refused::NoCommit));
    leader.hear(2, accepted(2, 1));
    assert_eq!(change(&mut leader, &remove(&[3])), Err(Refused::NoCommit));
    leader.hear(2, accepted(2, 2));
    assert_eq!(change(&mut leader, &remove(&[3])), Ok(()));
}

proptest! {
    /// Any quorum of a joint configuration and any of either of its halves overlap: there is no
    /// moment in which two disjoint ones could decide.
    #[test]
    fn thesis_4_1_quorums_before_within_and_after_a_change_overlap(
        old in prop::collection::btree_set(2u64..8, 1..6),
        new in prop::collection::btree_set(2u64..8, 1..6),
        one in prop::collection::btree_set(2u64..8, 0..7),
    ) {
        let mut all = old.clone();
        all.extend(&new);
        // Whether exactly these votes should elect somebody.
        let wins = |incoming: &[u64], outgoing: Option<&[u64]>, grants: &[u64]| {
            let needed = |half: &[u64]| half.iter().filter(|v| grants.contains(v)).count() * 2
                > half.len();
            needed(incoming) && outgoing.is_none_or(needed)
        };
        let old: Vec<u64> = old.into_iter().collect();
        let new: Vec<u64> = new.into_iter().collect();
        let one: Vec<u64> = one.into_iter().collect();
        let other: Vec<u64> = all.into_iter().filter(|v| !one.contains(v)).collect();
        let joint = elects(&new, Some(&old), &one);
        prop_assert_eq!(joint, wins(&new, Some(&old), &one));
        if joint {
            prop_assert!(!elects(&old, None, &other), "old {:?} joint {:?}", other, one);
            prop_assert!(!elects(&new, None, &other), "new {:?} joint {:?}", other, one);
            prop_assert!(!elects(&new, Some(&old), &other), "joint {:?} joint {:?}", other, one);
        }
    }
}

/// Whether the engine lets the votes of exactly `grants` elect a server of this configuration. The
/// candidate is one of them: the first.
fn elects(incoming: &[u64], outgoing: Option<&[u64]>, grants: &[u64]) -> bool {
    let is_voter =
        |id: &&u64| incoming.contains(id) || outgoing.is_some_and(|outgoing| outgoing.contains(id));
    let Some(candidate) = grants.iter().find(is_voter) else {
        return false;
    };
    let mut server = Subject::with(*candidate, Config::default());
    let initial = voters(incoming, outgoing);
    server.turn(|raft, now| assert!(raft.bootstrap(now, initial)));
    server.turn(|raft, now| raft.trigger_election(now).expect("a voter"));
    for voter in grants.iter().filter(|voter| *voter != candidate) {
        server.hear(*voter, granted(2));
    }
    server.raft.role() == Role::Leader
}

// --- Thesis 4.2: availability (4.2.1 is in `learners`) ----------------------------------------

/// 4.2.2: a leader that is removed manages the cluster until that is committed; then, departing
/// from the thesis, it does not only stop: it tells the voter that is furthest to campaign at once.
#[test]
fn thesis_4_2_2_a_removed_leader_names_a_successor() {
    let mut leader = established(3);
    change(&mut leader, &remove(&[1])).expect("begun");
    leader.hear(2, accepted(2, 3));
    leader.hear(3, accepted(2, 3));
    leader.propose(1); // it still leads
    leader.hear(3, accepted(2, 5));
    let sent = leader.hear(2, accepted(2, 4));
    let told: Vec<_> = sent
        .iter()
        .filter(|(_, message)| matches!(message, Message::TimeoutNow(_)))
        .collect();
    assert_eq!(told, [&(3, timeout_now_at(leader.now, 2, at(5, 2)))]);
}

/// 4.2.2: while joint it counts itself in the outgoing half.
#[test]
fn thesis_4_2_2_a_leader_counts_itself_in_its_half_only() {
    let mut leader = established(3);
    change(&mut leader, &remove(&[1])).expect("begun");
    leader.hear(2, accepted(2, 3));
    assert_eq!(
        leader.commit(),
        2,
        "1 and 2 of the old half, 2 alone of the new"
    );
    leader.hear(3, accepted(2, 3));
    assert_eq!(leader.commit(), 3);
}

/// 4.2.2: a server that is not in its own latest configuration campaigns until that is committed: it
/// may be the only one left whose log a quorum of the one before accepts.
#[test]
fn thesis_4_2_2_who_is_taken_out_campaigns_until_that_is_committed() {
    let mut removed = established(3);
    change(&mut removed, &remove(&[1])).expect("begun");
    removed.hear(2, accepted(2, 3));
    removed.hear(3, accepted(2, 3));
    assert_eq!(in_force(&removed), (4, voters(&[2, 3], None)));
    // Deposed with an entry that nobody else has: who knows only the joint configuration may need its
    // vote, and does not get it.
    removed.hear(2, refused(3));
    assert_eq!(removed.is(), (Role::Joiner, 3));
    let asked = votes(&removed.time_out());
    let asked: Vec<(u64, bool)> = asked.iter().map(|(to, vote)| (*to, vote.pre)).collect();
    assert_eq!(asked, [(2, true), (3, true)]);
    removed.hear(2, pre_granted(4));
    removed.hear(3, pre_granted(4));
    removed.hear(2, granted(4));
    removed.hear(3, granted(4));
    assert_eq!(removed.is(), (Role::Leader, 4));
    // Its own weight counts for nothing: both of the new configuration must hold it.
    removed.hear(2, accepted(4, 5));
    assert_eq!(removed.commit(), 3);
    removed.hear(3, accepted(4, 5));
    assert_eq!((removed.commit(), removed.is()), (5, (Role::Joiner, 4)));
    // Once that is committed it is silent for good.
    assert_eq!(removed.wait(), None);
}

/// A removed server's leader sends it nothing any more, and its answers do not count.
#[test]
fn thesis_4_2_3_a_removed_server_is_told_nothing_and_not_heard() {
    let mut leader = established(3);
    change(&mut leader, &remove(&[3])).expect("begun");
    leader.hear(2, accepted(2, 3));
    assert_eq!(in_force(&leader), (4, voters(&[1, 2], None)));
    leader.hear(3, accepted(2, 4));
    assert_eq!(leader.commit(), 3);
    assert!(leader.pass(100).iter().all(|(to, _)| *to != 3));
}

// --- Thesis 4.3: arbitrary changes ------------------------------------------------------------

/// From any voters to any others in one change: all learners of a request are promoted together.
#[test]
fn thesis_4_3_several_servers_change_in_one_joint_change() {
    let mut leader = established(3);
    let mut request = add(&[4, 5], Purpose::Join);
    change(&mut leader, &request).expect("begun");
    leader.hear(2, accepted(2, 3));
    leader.hear(4, accepted(2, 3));
    assert!(!in_force(&leader).1.is_joint(), "5 is on its way");
    leader.hear(5, accepted(2, 3));
    assert_eq!(
        in_force(&leader),
        (4, voters(&[1, 2, 3, 4, 5], Some(&[1, 2, 3])))
    );
    request.seen = Some(Index(1));
    assert_eq!(
        change(&mut leader, &request),
        Ok(()),
        "begun, whatever was seen"
    );
}

/// A dead voter is replaced in one joint change: it counts until C-old,new is committed, and needs
/// not answer.
#[test]
fn thesis_4_3_a_lost_voter_is_replaced_in_one_joint_change() {
    let mut leader = established(3);
    change(&mut leader, &add(&[4], Purpose::Replace(ServerId(3)))).expect("begun");
    leader.hear(2, accepted(2, 3));
    leader.hear(4, accepted(2, 3));
    assert_eq!(in_force(&leader), (4, voters(&[1, 2, 4], Some(&[1, 2, 3]))));
    leader.hear(4, accepted(2, 4));
    assert_eq!(leader.commit(), 3, "1 of 3 in the outgoing half");
    leader.hear(2, accepted(2, 4));
    assert_eq!(in_force(&leader), (5, voters(&[1, 2, 4], None)));
}

/// A change that would leave nobody, or fewer than `min_majority`, is refused before the log.
#[test]
fn thesis_4_3_a_change_that_leaves_too_few_is_refused() {
    let mut leader = established(1);
    assert_eq!(change(&mut leader, &remove(&[1])), Err(Refused::LastServer));
    let config = Config {
        min_majority: 2,
        ..Config::default()
    };
    let mut leader = Subject::of_with(2, config);
    leader.elect(2);
    leader.hear(2, accepted(2, 2));
    let refused = Refused::BelowMinMajority {
        left: 1,
        min_majority: 2,
    };
    assert_eq!(change(&mut leader, &remove(&[2])), Err(refused));
    assert_eq!(leader.raft.last().index, Index(2));
}
