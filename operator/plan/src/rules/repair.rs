//! Rule 4: repair. Servers and their addresses are there; a healthy quorum has a leader; no leader
//! sits on a pod that is going; lost servers are replaced (in `replace`); what is out of the
//! configuration starts afresh.

use std::cmp::Reverse;
use std::time::Duration;

use crate::identity::IdentityRecord;
use crate::ids::ServerId;
use crate::inventory::{Observation, Role, Server};
use crate::plan::Draft;
use crate::refusal::Refusal;
use crate::rules::{Flow, objects, replace};
use crate::step::Step;
use crate::survey::{Fate, Seen, Survey};

/// An election timeout above this is long: nobody wants to wait for it.
const LONG_ELECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a natural election is waited for.
const ELECTION_GRACE: Duration = Duration::from_millis(300);
/// How long a leader that is followed, but does not answer here, is waited for if the election
/// timeout is long. (If it is not, followers notice by themselves in time.)
const SILENT_LEADER_GRACE: Duration = Duration::from_millis(500);

pub(crate) fn apply(survey: &Survey<'_>, draft: &mut Draft) -> Flow {
    servers(survey, draft);
    if let Some(record) = survey.record {
        introduce(survey, record, draft);
        elect(survey, record, draft);
        lead_from_where_it_stays(survey, record, draft);
        replace::apply(survey, record, draft);
        restart_strays(survey, draft);
    }
    Flow::Continue
}

/// As many servers as there have to be. What a scale-up adds is rule 8's.
fn servers(survey: &Survey<'_>, draft: &mut Draft) {
    let replicas = survey.wanted.replicas;
    let desired = survey.inventory.servers_desired;
    let count = match &survey.configuration {
        Some(configuration) if survey.is_initialized() => {
            let ordinals = configuration.voters.iter();
            let ordinals = ordinals.filter_map(|voter| survey.ordinal(*voter));
            ordinals
                .map(|ordinal| ordinal + 1)
                .max()
                .unwrap_or(0)
                .min(replicas)
        }
        _ => replicas,
    };
    if desired.is_some_and(|desired| desired >= count) {
        return;
    }
    // Pods do not start without what they mount.
    let before = match desired {
        None => objects::ensure(survey, draft),
        Some(_) => None,
    };
    draft.step_after(Step::EnsureServers { count }, before.into_iter().collect());
}

/// Every server knows where the others of its configuration are.
fn introduce(survey: &Survey<'_>, record: &IdentityRecord, draft: &mut Draft) {
    // A quarantined server sends nothing, and may refuse to be told.
    for seen in survey.members().filter(|seen| !seen.is_quarantined()) {
        let others: Vec<Server> = seen
            .view
            .configuration
            .servers()
            .into_iter()
            .filter(|id| *id != seen.id())
            .filter_map(|id| survey.seen.get(&id))
            .map(Seen::server)
            .collect();
        let knows = |other: &Server| {
            let known = seen.view.servers.iter();
            known
                .filter(|known| known.id == other.id)
                .any(|known| known.peer_address == other.peer_address)
        };
        if !others.iter().all(knows) {
            draft.step(Step::Introduce {
                to: seen.server(),
                cluster: record.cluster,
                servers: others,
            });
        }
    }
}

/// A quorum that answers has a leader. The quarantined vote, but do not stand.
fn elect(survey: &Survey<'_>, record: &IdentityRecord, draft: &mut Draft) {
    let Some(configuration) = survey.configuration.as_ref() else {
        draft.changing = true;
        let voters = survey.inventory.servers_desired.unwrap_or(0);
        draft.block(Refusal::NoQuorumAnswers {
            answering: 0,
            voters,
            quorum: survey.quorum(usize::try_from(voters).unwrap_or(usize::MAX)),
        });
        return;
    };
    if survey.leader.is_some() || survey.members().next().is_none() {
        return;
    }
    // Whatever leads next decides about changes.
    draft.changing = true;
    if let Some(half) = survey.half_without_quorum() {
        draft.block(Refusal::NoQuorumAnswers {
            answering: half.live,
            voters: half.voters,
            quorum: half.quorum,
        });
        return;
    }
    let lasting = survey.inventory.leaderless_for;
    let candidates = survey
        .members()
        .filter(|seen| configuration.is_voter(seen.id()) && !seen.is_quarantined())
        .filter(|seen| {
            !matches!(seen.view.role, Role::Joiner | Role::Learner)
                && seen.view.configuration.is_voter(seen.id())
        });
    let best = candidates.max_by_key(|seen| {
        (
            !seen.instance.going,
            seen.view.last,
            Reverse(seen.node.ordinal),
        )
    });
    let halves = survey.halves();
    if halves.iter().all(|half| half.healthy == 0) {
        draft.block(Refusal::NobodyMayLead {
            quarantined: halves.iter().map(|half| half.live).max().unwrap_or(0),
        });
        return;
    }
    match (grace(survey), best) {
        (Some(grace), Some(best)) if lasting >= grace => {
            draft.step(Step::TriggerElection {
                on: best.server(),
                cluster: record.cluster,
            });
        }
        _ => draft.block(Refusal::NoLeader { lasting }),
    }
}

/// How long to wait before an election is triggered; `None`: for ever.
fn grace(survey: &Survey<'_>) -> Option<Duration> {
    let is_long = survey.wanted.election_timeout > LONG_ELECTION_TIMEOUT;
    let is_silent = |leader: ServerId| survey.fate(leader) == Fate::Unknown;
    let follows_silent = survey
        .members()
        .filter_map(|seen| seen.view.leader)
        .any(is_silent);
    match (is_long, follows_silent) {
        (true, true) => Some(SILENT_LEADER_GRACE),
        (false, true) => None,
        (true, false) => Some(Duration::ZERO),
        (false, false) => Some(ELECTION_GRACE),
    }
}

/// Leadership leaves a pod that is going.
fn lead_from_where_it_stays(survey: &Survey<'_>, record: &IdentityRecord, draft: &mut Draft) {
    let (Some(leader), Some(configuration)) = (survey.leader, &survey.configuration) else {
        return;
    };
    if !leader.instance.going || configuration.voters.len() < 2 {
        return;
    }
    draft.changing = true;
    if leader.view.transferring {
        return;
    }
    match survey.successor(leader, &configuration.voters) {
        Some(target) => {
            draft.step(Step::Transfer {
                via: leader.server(),
                cluster: record.cluster,
                target: target.server(),
            });
        }
        None => draft.block(Refusal::NoTransferTarget {
            leader: leader.id(),
        }),
    }
}

/// A server that is out of the committed configuration, but on a wanted node, makes room for a
/// fresh one: what was removed never comes back with its old state.
fn restart_strays(survey: &Survey<'_>, draft: &mut Draft) {
    let (Some(leader), true) = (survey.ready_leader(), survey.is_settled()) else {
        return;
    };
    for node in &survey.inventory.nodes {
        let Some(instance) = &node.instance else {
            continue;
        };
        let Observation::Seen(view) = &instance.observation else {
            continue;
        };
        // A server that knows a later configuration may have been added after the leader was seen.
        let is_stray = survey.record.map(|record| record.cluster) == view.cluster
            && !survey.is_configured(view.server)
            && view.configuration.index <= leader.view.configuration.index;
        let is_in_the_way = is_stray && node.ordinal < survey.wanted.replicas && !instance.going;
        if !is_in_the_way {
            continue;
        }
        if let Some(reason) = view.quarantine.clone() {
            draft.block(Refusal::ServerQuarantined {
                server: view.server,
                node: node.name.clone(),
                reason,
            });
        } else {
            draft.step(Step::Restart {
                node: node.name.clone(),
                uid: instance.uid.clone(),
                server: view.server,
            });
        }
    }
}
