//! Part of rule 4: a voter that lost its state is replaced by a fresh server, one at a time, while
//! the live ones hold a quorum.

use std::collections::BTreeSet;

use crate::identity::IdentityRecord;
use crate::ids::{NodeName, ServerId};
use crate::inventory::{Configuration, Purpose};
use crate::plan::Draft;
use crate::refusal::Refusal;
use crate::step::Step;
use crate::survey::{Fate, Seen, Survey};

pub(crate) fn apply(survey: &Survey<'_>, record: &IdentityRecord, draft: &mut Draft) {
    let Some(configuration) = survey.configuration.as_ref() else {
        return;
    };
    let lost = lost_voters(survey, configuration);
    if lost.is_empty() || draft.changing {
        return;
    }
    let Some(leader) = survey.ready_leader() else {
        if let Some(leader) = survey.leader {
            draft.block(Refusal::LeaderNotReady {
                leader: leader.id(),
                term: leader.view.term,
            });
        }
        return;
    };
    if waits_for_another(survey, configuration, leader, draft) {
        return;
    }
    if let Some(half) = survey.half_without_quorum() {
        draft.block(Refusal::NoQuorumAnswers {
            answering: half.live,
            voters: half.voters,
            quorum: half.quorum,
        });
        return;
    }
    for voter in &lost {
        let Some(new) = substitute(survey, *voter, &lost) else {
            draft.block(no_substitute(survey, *voter));
            continue;
        };
        draft.step(Step::Replace {
            via: leader.server(),
            cluster: record.cluster,
            lost: *voter,
            new: new.server(),
            supersedes: dead_learners(survey, configuration, &[new], Some(*voter)),
            configuration_index: configuration.index,
        });
        return;
    }
}

/// Voters whose state is gone and whose place is wanted, by ordinal. Those above are rule 8's.
fn lost_voters(survey: &Survey<'_>, configuration: &Configuration) -> Vec<ServerId> {
    let is_wanted = |voter: &ServerId| {
        let ordinal = survey.ordinal(*voter);
        ordinal.is_none_or(|ordinal| ordinal < survey.wanted.replicas)
    };
    let mut lost: Vec<ServerId> = configuration
        .voters
        .iter()
        .copied()
        .filter(|voter| survey.fate(*voter) == Fate::Lost)
        .filter(is_wanted)
        .collect();
    lost.sort_by_key(|voter| (survey.ordinal(*voter).unwrap_or(u32::MAX), *voter));
    lost
}

/// Why nobody takes the place of a server that is gone or of no use.
pub(crate) fn no_substitute(survey: &Survey<'_>, server: ServerId) -> Refusal {
    let node = survey.home(server).cloned().unwrap_or_default();
    survey
        .obstacle(&node)
        .unwrap_or(Refusal::NoFreshServer { lost: server, node })
}

/// Whether a replacement is on its way.
fn waits_for_another(
    survey: &Survey<'_>,
    configuration: &Configuration,
    leader: Seen<'_>,
    draft: &mut Draft,
) -> bool {
    let on_their_way: Vec<ServerId> = configuration
        .learners
        .iter()
        .filter(|(_, purpose)| matches!(purpose, Purpose::Replace(_)))
        .map(|(server, _)| *server)
        .filter(|server| survey.fate(*server) != Fate::Lost && !survey.is_hopeless(*server))
        .collect();
    if on_their_way.is_empty() {
        return false;
    }
    draft.changing = true;
    draft.block(waiting(leader, on_their_way));
    true
}

/// Why learners are waited for.
pub(crate) fn waiting(leader: Seen<'_>, servers: Vec<ServerId>) -> Refusal {
    let is_stalled = |server: &ServerId| {
        let progress = leader.view.progress.get(server);
        progress.is_some_and(|progress| progress.stalled)
    };
    if servers.iter().all(is_stalled) {
        Refusal::Stalled { servers }
    } else {
        Refusal::CatchingUp { servers }
    }
}

/// The fresh server that takes the place of a lost one: that of its own node, or if nothing runs
/// there any that is not to take the place of another.
fn substitute<'a>(survey: &Survey<'a>, voter: ServerId, lost: &[ServerId]) -> Option<Seen<'a>> {
    let fresh = survey.admissible();
    let home = survey.home(voter);
    let own = fresh.iter().find(|seen| Some(&seen.node.name) == home);
    if own.is_some() {
        return own.copied();
    }
    let has_instance = |name: &NodeName| {
        let node = survey
            .inventory
            .nodes
            .iter()
            .find(|node| node.name == *name);
        node.is_some_and(|node| node.instance.is_some())
    };
    if home.is_some_and(has_instance) {
        return None;
    }
    let homes: BTreeSet<&NodeName> = lost
        .iter()
        .filter_map(|voter| survey.home(*voter))
        .collect();
    fresh
        .into_iter()
        .find(|seen| !homes.contains(&seen.node.name))
}

/// Learners that died and whose work the servers in `new` take over.
pub(crate) fn dead_learners(
    survey: &Survey<'_>,
    configuration: &Configuration,
    new: &[Seen<'_>],
    replaced: Option<ServerId>,
) -> Vec<ServerId> {
    let is_taken_over = |server: ServerId, purpose: Purpose| {
        let home = survey.home(server);
        let same_node = new.iter().any(|seen| Some(&seen.node.name) == home);
        same_node || replaced.is_some_and(|lost| purpose == Purpose::Replace(lost))
    };
    configuration
        .learners
        .iter()
        .filter(|(server, purpose)| {
            survey.fate(**server) == Fate::Lost && is_taken_over(**server, **purpose)
        })
        .map(|(server, _)| *server)
        .collect()
}
