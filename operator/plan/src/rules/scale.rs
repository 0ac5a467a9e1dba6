//! Rule 8: scale. Up: all fresh servers are added together, and the leader makes voters of them in
//! one joint change. Down: leadership leaves, the highest ordinals leave in one change, and only
//! once that is committed are there fewer nodes.

use std::collections::BTreeSet;

use crate::identity::{Identity, IdentityRecord};
use crate::ids::ServerId;
use crate::inventory::{Configuration, Observation};
use crate::plan::Draft;
use crate::refusal::Refusal;
use crate::rules::bootstrap::WAIT_MAX;
use crate::rules::{Flow, replace};
use crate::step::Step;
use crate::survey::{Fate, Seen, Survey};

pub(crate) fn apply(survey: &Survey<'_>, draft: &mut Draft) -> Flow {
    let Some(record) = survey.record else {
        shrink_without_cluster(survey, draft);
        return Flow::Continue;
    };
    let Some(configuration) = &survey.configuration else {
        return Flow::Continue;
    };
    let missing = missing_ordinals(survey, configuration);
    let leaving = leaving_voters(survey, configuration);
    let desired = survey.inventory.servers_desired.unwrap_or(0);
    if missing.is_empty() && leaving.is_empty() && desired <= survey.wanted.replicas {
        return Flow::Continue;
    }
    let Some(leader) = quorate_leader(survey, draft) else {
        return Flow::Continue;
    };
    if desired < survey.wanted.replicas {
        draft.step(Step::EnsureServers {
            count: survey.wanted.replicas,
        });
    }
    if draft.changing {
        return Flow::Continue;
    }
    if !missing.is_empty() {
        up(survey, record, configuration, leader, &missing, draft);
    }
    if !leaving.is_empty() && !draft.changing {
        down(survey, record, configuration, leader, &leaving, draft);
    }
    if desired > survey.wanted.replicas && !draft.changing {
        shrink(survey, configuration, draft);
    }
    Flow::Continue
}

/// The leader, if it and a quorum answer and changes are possible; else says why not.
fn quorate_leader<'a>(survey: &Survey<'a>, draft: &mut Draft) -> Option<Seen<'a>> {
    if let Some(half) = survey.half_without_quorum() {
        draft.block(Refusal::NoQuorumAnswers {
            answering: half.live,
            voters: half.voters,
            quorum: half.quorum,
        });
        return None;
    }
    match (survey.leader, survey.ready_leader()) {
        (_, Some(leader)) => Some(leader),
        (Some(leader), None) => {
            draft.block(Refusal::LeaderNotReady {
                leader: leader.id(),
                term: leader.view.term,
            });
            None
        }
        (None, None) => {
            draft.block(Refusal::NoLeader {
                lasting: survey.inventory.leaderless_for,
            });
            None
        }
    }
}

/// Wanted ordinals that no member calls home. A lost voter keeps its place, for its replacement; a
/// dead learner does not.
fn missing_ordinals(survey: &Survey<'_>, configuration: &Configuration) -> BTreeSet<u32> {
    let learners = configuration.learners.keys();
    let learners = learners.filter(|learner| survey.fate(**learner) != Fate::Lost);
    let placed: BTreeSet<u32> = configuration
        .halves()
        .flatten()
        .chain(learners)
        .filter_map(|server| survey.ordinal(*server))
        .collect();
    let wanted = 0..survey.wanted.replicas;
    wanted.filter(|ordinal| !placed.contains(ordinal)).collect()
}

/// Voters above the wanted ordinals, and lost ones of nowhere that are too many.
fn leaving_voters(survey: &Survey<'_>, configuration: &Configuration) -> BTreeSet<ServerId> {
    let replicas = usize::try_from(survey.wanted.replicas).unwrap_or(usize::MAX);
    let are_too_many = configuration.voters.len() > replicas;
    let leaves = |voter: &ServerId| match survey.ordinal(*voter) {
        Some(ordinal) => ordinal >= survey.wanted.replicas,
        None => are_too_many && survey.fate(*voter) == Fate::Lost,
    };
    configuration
        .voters
        .iter()
        .copied()
        .filter(leaves)
        .collect()
}

fn up(
    survey: &Survey<'_>,
    record: &IdentityRecord,
    configuration: &Configuration,
    leader: Seen<'_>,
    missing: &BTreeSet<u32>,
    draft: &mut Draft,
) {
    let is_missing = |seen: &Seen<'_>| missing.contains(&seen.node.ordinal);
    let mut fresh = survey.admissible();
    fresh.retain(is_missing);
    let mut refused = survey.inadmissible();
    refused.retain(|(seen, _)| is_missing(seen));
    let late = |ordinal: &&u32| is_late(survey, **ordinal);
    let late = missing.iter().filter(late).count();
    let arrived = fresh.len() + refused.len();
    for (_, refusal) in refused {
        draft.block(refusal);
    }
    if arrived + late < missing.len() || (fresh.is_empty() && arrived < missing.len()) {
        draft.block(Refusal::WaitingForServers {
            fresh: u32::try_from(fresh.len()).unwrap_or(u32::MAX),
            needed: u32::try_from(missing.len()).unwrap_or(u32::MAX),
            fewer_in: None,
        });
        return;
    }
    if fresh.is_empty() {
        return;
    }
    draft.step(Step::Add {
        via: leader.server(),
        cluster: record.cluster,
        servers: fresh.iter().map(Seen::server).collect(),
        supersedes: replace::dead_learners(survey, configuration, &fresh, None),
        configuration_index: configuration.index,
    });
}

/// Whether the server of an ordinal has not answered for so long that the others go ahead.
fn is_late(survey: &Survey<'_>, ordinal: u32) -> bool {
    let mut nodes = survey.inventory.nodes.iter();
    let node = nodes.find(|node| node.ordinal == ordinal);
    let instance = node.and_then(|node| node.instance.as_ref());
    instance.is_some_and(|instance| match &instance.observation {
        Observation::Unknown { lasting, .. } => *lasting >= WAIT_MAX,
        Observation::Seen(_) => false,
    })
}

fn down(
    survey: &Survey<'_>,
    record: &IdentityRecord,
    configuration: &Configuration,
    leader: Seen<'_>,
    leaving: &BTreeSet<ServerId>,
    draft: &mut Draft,
) {
    let staying: BTreeSet<ServerId> = &configuration.voters - leaving;
    let half = survey.count(&staying);
    if half.voters < survey.wanted.min_majority.max(1) {
        draft.block(Refusal::BelowMinMajority {
            replicas: half.voters,
            min_majority: survey.wanted.min_majority,
        });
    } else if half.healthy < half.quorum {
        draft.block(Refusal::NoQuorumAfterwards {
            healthy: half.healthy,
            voters: half.voters,
            quorum: half.quorum,
        });
    } else if !leaving.contains(&leader.id()) {
        draft.step(Step::Remove {
            via: leader.server(),
            cluster: record.cluster,
            servers: leaving.iter().copied().collect(),
            configuration_index: configuration.index,
        });
    } else if let Some(target) = survey.successor(leader, &staying) {
        draft.step(Step::Transfer {
            via: leader.server(),
            cluster: record.cluster,
            target: target.server(),
        });
    } else {
        draft.block(Refusal::NoTransferTarget {
            leader: leader.id(),
        });
    }
}

/// Fewer nodes, once the committed configuration has no server above.
fn shrink(survey: &Survey<'_>, configuration: &Configuration, draft: &mut Draft) {
    let replicas = survey.wanted.replicas;
    for server in configuration.servers() {
        match survey.ordinal(server) {
            Some(ordinal) if ordinal < replicas => {}
            Some(_) => return,
            None => {
                draft.block(Refusal::UnknownHome { server });
                return;
            }
        }
    }
    draft.step(Step::ShrinkServers { count: replicas });
}

/// Fewer nodes before there is a cluster: nothing is held there.
fn shrink_without_cluster(survey: &Survey<'_>, draft: &mut Draft) {
    let is_drawn = draft
        .plan
        .steps
        .iter()
        .any(|planned| matches!(planned.step, Step::RecordIdentity { .. }));
    let desired = survey.inventory.servers_desired.unwrap_or(0);
    let none = matches!(
        survey.inventory.identity,
        Identity::Absent | Identity::Discarded { .. }
    );
    if none && !is_drawn && desired > survey.wanted.replicas {
        draft.step(Step::ShrinkServers {
            count: survey.wanted.replicas,
        });
    }
}
