//! Before all else that acts: every place names one cluster. A place that cannot be read, or that
//! disagrees, stops everything; what is left of a discarded identity is restarted.

use std::collections::BTreeMap;

use crate::identity::{Identity, IdentityRecord};
use crate::ids::ClusterId;
use crate::inventory::Observation;
use crate::plan::Draft;
use crate::refusal::Refusal;
use crate::rules::Flow;
use crate::step::Step;
use crate::survey::Survey;

pub(crate) fn apply(survey: &Survey<'_>, draft: &mut Draft) -> Flow {
    if let Err(refusal) = check(survey) {
        draft.block(refusal);
        return Flow::Stop;
    }
    if let Some(record) = restored(survey) {
        draft.step(Step::RecordIdentity {
            record,
            expects: None,
        });
        return Flow::Stop;
    }
    restart_servers_of(discarded(survey), survey, draft);
    Flow::Continue
}

/// Whether all places that were read name one cluster.
pub(crate) fn check(survey: &Survey<'_>) -> Result<(), Refusal> {
    if let Identity::Unreadable { place, reason } = &survey.inventory.identity {
        return Err(Refusal::IdentityUnreadable {
            place: place.clone(),
            reason: reason.clone(),
        });
    }
    let discarded = discarded(survey);
    let mut expected = survey.record.map(|record| record.cluster);
    for (place, found) in holders(survey) {
        if Some(found) == discarded {
            continue;
        }
        // After a discarded identity without a new record nobody may hold anything else.
        let nothing = matches!(survey.inventory.identity, Identity::Discarded { .. });
        let recorded = *expected.get_or_insert(if nothing {
            discarded.unwrap_or(found)
        } else {
            found
        });
        if recorded != found {
            return Err(Refusal::IdentityDisagrees {
                recorded,
                place,
                found,
            });
        }
    }
    Ok(())
}

/// Every place beside the identity object that names a cluster, with what it says.
fn holders(survey: &Survey<'_>) -> Vec<(String, ClusterId)> {
    let copies = survey.inventory.identity_copies.iter();
    let copies = copies.map(|copy| (copy.place.clone(), copy.cluster));
    let servers = survey.seen.values().filter_map(|seen| {
        let place = format!("server {} of {}", seen.id(), seen.node.name);
        Some((place, seen.view.cluster?))
    });
    copies.chain(servers).collect()
}

fn discarded(survey: &Survey<'_>) -> Option<ClusterId> {
    match &survey.inventory.identity {
        Identity::Recorded { record, .. } => record.previous,
        Identity::Discarded { discarded, .. } => Some(discarded.previous),
        _ => None,
    }
}

/// The record of a cluster whose identity object is gone, though others hold its identity. It
/// counts as initialized unless nobody can know of any data.
fn restored(survey: &Survey<'_>) -> Option<IdentityRecord> {
    if survey.inventory.identity != Identity::Absent {
        return None;
    }
    let (_, cluster) = holders(survey).into_iter().next()?;
    let is_held = survey
        .seen
        .values()
        .any(|seen| seen.view.cluster == Some(cluster));
    let copies = &survey.inventory.identity_copies;
    let initialized =
        is_held || copies.iter().any(|copy| copy.initialized) || !survey.all_answered();
    let furthest = survey
        .seen
        .values()
        .filter(|seen| seen.view.cluster == Some(cluster))
        .max_by_key(|seen| seen.view.last);
    let servers = furthest.iter().flat_map(|seen| &seen.view.servers);
    let voters: BTreeMap<_, _> = servers
        .filter(|server| furthest.is_some_and(|seen| seen.view.configuration.is_voter(server.id)))
        .map(|server| (server.node.clone(), server.id))
        .collect();
    Some(IdentityRecord {
        cluster,
        voters,
        initialized,
        previous: None,
        lost: None,
    })
}

fn restart_servers_of(discarded: Option<ClusterId>, survey: &Survey<'_>, draft: &mut Draft) {
    for node in &survey.inventory.nodes {
        let Some(instance) = &node.instance else {
            continue;
        };
        let Observation::Seen(view) = &instance.observation else {
            continue;
        };
        if discarded.is_some() && view.cluster == discarded && !instance.going {
            draft.step(Step::Restart {
                node: node.name.clone(),
                uid: instance.uid.clone(),
                server: view.server,
            });
        }
    }
}
