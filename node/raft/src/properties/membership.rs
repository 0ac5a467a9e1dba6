//! What a change asks for, and how far a configuration has it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::config::Config;
use crate::configuration::{Configuration, Purpose};
use crate::membership::{ChangeRequest, SERVERS_MAX};
use crate::message::{AppendAck, AppendOutcome, Message, VoteReply};
use crate::output::Refused;
use crate::raft::Raft;
use crate::types::{ServerId, Time};
use crate::view::Role;

fn ids(ids: &[u64]) -> Vec<ServerId> {
    ids.iter().copied().map(ServerId).collect()
}

fn add(server: u64, purpose: Purpose) -> ChangeRequest {
    ChangeRequest {
        add: vec![(ServerId(server), purpose)],
        ..ChangeRequest::default()
    }
}

fn remove(server: u64) -> ChangeRequest {
    ChangeRequest {
        remove: ids(&[server]),
        ..ChangeRequest::default()
    }
}

fn configuration(
    voters: &[u64],
    outgoing: Option<&[u64]>,
    learners: &[(u64, Purpose)],
) -> Configuration {
    Configuration {
        voters: ids(voters).into_iter().collect(),
        outgoing: outgoing.map(|outgoing| ids(outgoing).into_iter().collect()),
        learners: learners
            .iter()
            .map(|(id, why)| (ServerId(*id), *why))
            .collect(),
    }
}

#[test]
fn a_change_is_begun_once_it_is_in_the_configuration_and_effective_once_it_votes() {
    let replace = Purpose::Replace(ServerId(3));
    let three: &[u64] = &[1, 2, 3];
    // The request, a configuration, and whether it is begun and effective there.
    let cases = [
        (
            add(4, Purpose::Join),
            configuration(three, None, &[]),
            (false, false),
        ),
        (
            add(4, Purpose::Join),
            configuration(three, None, &[(4, Purpose::Join)]),
            (true, false),
        ),
        (
            add(4, Purpose::Join),
            configuration(three, None, &[(4, Purpose::Stay)]),
            (false, false),
        ),
        (
            add(4, Purpose::Join),
            configuration(&[1, 2, 3, 4], Some(three), &[]),
            (true, false),
        ),
        (
            add(4, Purpose::Join),
            configuration(&[1, 2, 3, 4], None, &[]),
            (true, true),
        ),
        (
            add(4, Purpose::Stay),
            configuration(three, None, &[]),
            (false, false),
        ),
        (
            add(4, Purpose::Stay),
            configuration(three, None, &[(4, Purpose::Stay)]),
            (true, true),
        ),
        (
            add(4, Purpose::Stay),
            configuration(three, None, &[(4, Purpose::Join)]),
            (false, false),
        ),
        (
            add(4, Purpose::Stay),
            configuration(&[1, 2, 3, 4], None, &[]),
            (true, true),
        ),
        (
            add(4, replace),
            configuration(three, None, &[]),
            (false, false),
        ),
        (
            add(4, replace),
            configuration(three, None, &[(4, replace)]),
            (true, false),
        ),
        (
            add(4, replace),
            configuration(three, None, &[(4, Purpose::Join)]),
            (false, false),
        ),
        (
            add(4, replace),
            configuration(&[1, 2, 4], Some(three), &[]),
            (true, false),
        ),
        (
            add(4, replace),
            configuration(&[1, 2, 4], None, &[]),
            (true, true),
        ),
        (
            add(4, replace),
            configuration(&[1, 2, 3, 4], None, &[]),
            (false, false),
        ),
        (
            add(4, replace),
            configuration(&[1, 2], None, &[]),
            (false, false),
        ),
        (remove(3), configuration(three, None, &[]), (false, false)),
        (
            remove(3),
            configuration(&[1, 2], Some(three), &[]),
            (true, false),
        ),
        (remove(3), configuration(&[1, 2], None, &[]), (true, true)),
        (
            remove(3),
            configuration(&[1, 2], None, &[(3, Purpose::Stay)]),
            (false, false),
        ),
    ];
    for (request, configuration, expected) in cases {
        let found = (
            request.is_begun(&configuration),
            request.is_effective(&configuration),
        );
        assert_eq!(found, expected, "{request:?} in {configuration:?}");
    }
}

#[test]
fn a_configuration_has_at_most_servers_max() {
    let others = |count: usize| ChangeRequest {
        add: (2..=count as u64)
            .map(|id| (ServerId(id), Purpose::Stay))
            .collect(),
        ..ChangeRequest::default()
    };
    for (count, is_refused) in [(SERVERS_MAX, false), (SERVERS_MAX + 1, true), (1000, true)] {
        let now = Time(0);
        let mut raft = Raft::new(ServerId(1), Config::default(), now);
        raft.bootstrap(now, Configuration::of([ServerId(1)]));
        raft.trigger_election(now).expect("a voter");
        raft.persisted(now, raft.last(), raft.generation());
        let full = Refused::Full {
            what: "configuration",
            max: SERVERS_MAX,
        };
        let expected = if is_refused { Err(full) } else { Ok(()) };
        assert_eq!(
            raft.change(now, &others(count)),
            expected,
            "{count} servers"
        );
    }
}

/// Server 1 as the leader of so many voters, all of which hold its log. Only these are heard since then; it
/// leads no more if they are no quorum.
fn leader_that_hears(count: u64, min_majority: usize, heard: &[ServerId]) -> (Raft, Time) {
    let config = Config {
        min_majority,
        ..Config::default()
    };
    let timeout = config.election_timeout_min;
    let all: Vec<ServerId> = (2..=count).map(ServerId).collect();
    let mut now = Time(1);
    let mut raft = Raft::new(ServerId(1), config, now);
    raft.bootstrap(now, Configuration::of((1..=count).map(ServerId)));
    raft.trigger_election(now).expect("a voter");
    for voter in &all {
        let term = raft.term();
        let reply = VoteReply {
            term,
            granted: true,
            pre: false,
        };
        raft.receive(now, *voter, Message::VoteReply(reply), &[]);
    }
    acknowledge(&mut raft, now, &all);
    now = now + timeout;
    acknowledge(&mut raft, now, heard);
    raft.tick(now);
    (raft, now)
}

/// These servers hold all of the log.
fn acknowledge(raft: &mut Raft, now: Time, servers: &[ServerId]) {
    raft.take_log_changes();
    raft.persisted(now, raft.last(), raft.generation());
    let (term, last) = (raft.term(), raft.last().index);
    for server in servers {
        let outcome = AppendOutcome::Accepted(last);
        let ack = Message::AppendAck(AppendAck { term, outcome });
        raft.receive(now, *server, ack, &[]);
    }
}

fn purpose() -> impl Strategy<Value = Purpose> {
    let replace = (1u64..7).prop_map(|lost| Purpose::Replace(ServerId(lost)));
    prop_oneof![Just(Purpose::Stay), Just(Purpose::Join), replace]
}

proptest! {
    /// A request that is asked for a second time is begun: a caller may retry. It has all that was
    /// asked for, and touches nothing else.
    #[test]
    fn a_change_that_was_made_is_begun_and_touches_nothing_else(
        voters in prop::collection::btree_set(1u64..7, 1..5),
        server in 1u64..9,
        purpose in purpose(),
    ) {
        let before = Configuration::of(voters.iter().copied().map(ServerId));
        let request = add(server, purpose);
        prop_assume!(request.check_roles(&before).is_ok());
        let after = request.applied_to(&before);
        prop_assert!(request.is_begun(&after), "{request:?}: {after:?}");
        let id = ServerId(server);
        if before.is_voter(id) {
            prop_assert_eq!(after, before);
        } else {
            prop_assert_eq!(after.voters, before.voters);
            prop_assert_eq!(after.learners, [(id, purpose)].into_iter().collect());
        }
        let removed = remove(server).applied_to(&request.applied_to(&Configuration::of(
            voters.iter().copied().map(ServerId),
        )));
        prop_assert!(!removed.contains(id));
    }

    /// A replacement that is begun leaves as many voters as there were, and takes out the lost one alone.
    #[test]
    fn h14_a_replacement_keeps_the_number_of_voters(
        voters in prop::collection::btree_set(1u64..7, 1..5),
        server in 1u64..9,
        lost in 1u64..9,
    ) {
        let before = Configuration::of(voters.iter().copied().map(ServerId));
        let request = add(server, Purpose::Replace(ServerId(lost)));
        let is_right = voters.contains(&lost) && !voters.contains(&server);
        prop_assert_eq!(request.check_roles(&before).is_ok(), is_right);
    }

    /// What is accepted is committed by the servers that are heard, and what is refused for want of a
    /// quorum could not be.
    #[test]
    fn h2_a_change_that_is_accepted_is_committed_by_the_servers_that_are_heard(
        count in 1u64..7,
        min_majority in 1usize..4,
        heard in prop::collection::btree_set(2u64..7, 0..6),
        removed in prop::collection::btree_set(1u64..7, 1..4),
    ) {
        let heard: Vec<ServerId> = heard.into_iter().filter(|id| *id <= count).map(ServerId).collect();
        let (mut raft, now) = leader_that_hears(count, min_majority, &heard);
        prop_assume!(raft.role() == Role::Leader);
        let remove = ids(&removed.into_iter().collect::<Vec<_>>());
        let mut expected: BTreeSet<ServerId> = (1..=count).map(ServerId).collect();
        expected.retain(|id| !remove.contains(id));
        let request = ChangeRequest { remove, ..ChangeRequest::default() };
        let voices = expected.iter().filter(|id| id.0 == 1 || heard.contains(id)).count();
        let is_quorum = voices >= min_majority.max(expected.len() / 2 + 1);
        match raft.change(now, &request) {
            Ok(()) => {
                prop_assert!(is_quorum || expected.len() == count as usize);
                for _ in 0..3 {
                    acknowledge(&mut raft, now, &heard);
                }
                let (_, committed) = raft.committed_configuration();
                prop_assert_eq!(committed, &Configuration::of(expected));
            }
            Err(Refused::NoQuorumAfterwards { .. }) => prop_assert!(!is_quorum),
            Err(_) => {}
        }
    }
}
