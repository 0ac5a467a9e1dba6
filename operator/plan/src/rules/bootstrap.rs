//! Rule 5: bootstrap, once. The identity is recorded before any server hears of it, and
//! `initialized` before clients may write.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::identity::{Discarded, Identity, IdentityRecord};
use crate::inventory::Server;
use crate::plan::Draft;
use crate::refusal::Refusal;
use crate::rules::Flow;
use crate::step::Step;
use crate::survey::{Seen, Survey};

/// For how long all servers are waited for; then a quorum of them will do.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

pub(crate) fn apply(survey: &Survey<'_>, draft: &mut Draft) -> Flow {
    match &survey.inventory.identity {
        Identity::Absent => draw(survey, None, None, draft),
        Identity::Discarded { discarded, version } => {
            draw(survey, Some(discarded), Some(version), draft);
        }
        Identity::Recorded { record, version } if !record.initialized => {
            return begin(survey, record, version, draft);
        }
        Identity::Recorded { record, .. } => activate(survey, record, None, draft),
        Identity::Unreadable { .. } => {}
    }
    Flow::Continue
}

/// Waits for fresh servers, then records who begins and tells them.
fn draw(
    survey: &Survey<'_>,
    discarded: Option<&Discarded>,
    version: Option<&String>,
    draft: &mut Draft,
) {
    for (_, refusal) in survey.inadmissible() {
        draft.block(refusal);
    }
    let fresh = survey.admissible();
    let replicas = survey.wanted.replicas;
    let waited = survey.inventory.waited_for_servers;
    let is_late = waited >= WAIT_MAX;
    let fewest = survey.quorum(usize::try_from(replicas).unwrap_or(usize::MAX));
    let needed = if is_late { fewest } else { replicas };
    let count = u32::try_from(fresh.len()).unwrap_or(u32::MAX);
    if count < needed {
        draft.block(Refusal::WaitingForServers {
            fresh: count,
            needed,
            fewer_in: (!is_late && fewest < replicas).then(|| WAIT_MAX - waited),
        });
        return;
    }
    if let Some(refusal) = survey.discord(&fresh) {
        draft.block(refusal);
        return;
    }
    let record = IdentityRecord {
        cluster: survey.inventory.drawn_cluster,
        voters: fresh
            .iter()
            .map(|seen| (seen.node.name.clone(), seen.id()))
            .collect(),
        initialized: false,
        previous: discarded.map(|discarded| discarded.previous),
        lost: discarded.and_then(|discarded| discarded.lost),
    };
    let recorded = draft.step(Step::RecordIdentity {
        record: record.clone(),
        expects: version.cloned(),
    });
    tell(&record, &fresh, &fresh, vec![recorded], draft);
}

/// From recorded to initialized.
fn begin(survey: &Survey<'_>, record: &IdentityRecord, version: &str, draft: &mut Draft) -> Flow {
    let initial: BTreeMap<_, _> = record.voters.iter().map(|(node, id)| (id, node)).collect();
    // Nothing was ever acknowledged, so nothing can be lost.
    if survey.half_out_of_reach().is_some() {
        draft.step(Step::DrawIdentityAnew {
            discarded: Discarded {
                previous: record.cluster,
                lost: record.lost,
            },
            expects: version.to_owned(),
        });
        return Flow::Stop;
    }
    let present: Vec<Seen<'_>> = initial
        .keys()
        .filter_map(|id| survey.seen.get(id).copied())
        .collect();
    let silent: Vec<Seen<'_>> = present
        .iter()
        .filter(|seen| seen.view.cluster.is_none() && survey.is_configured(seen.id()))
        .filter(|seen| !seen.is_quarantined())
        .copied()
        .collect();
    if survey.leader.is_none() || survey.is_settled() {
        tell_recorded(survey, record, &silent, draft);
    }
    if survey.ready_leader().is_some() {
        let recorded = draft.step(Step::RecordInitialized {
            cluster: record.cluster,
            expects: version.to_owned(),
        });
        activate(survey, record, Some(recorded), draft);
    }
    Flow::Continue
}

/// Sends the recorded configuration to initial voters that have not got it. Those that are not
/// there are named without an address: `Introduce` follows.
fn tell_recorded(
    survey: &Survey<'_>,
    record: &IdentityRecord,
    silent: &[Seen<'_>],
    draft: &mut Draft,
) {
    let voters: Vec<Server> = record
        .voters
        .iter()
        .map(|(node, id)| match survey.seen.get(id) {
            Some(seen) => seen.server(),
            None => Server {
                id: *id,
                node: node.clone(),
                peer_address: String::new(),
                client_address: String::new(),
            },
        })
        .collect();
    for seen in silent {
        draft.step(Step::Bootstrap {
            to: seen.server(),
            cluster: record.cluster,
            voters: voters.clone(),
        });
    }
}

fn tell(
    record: &IdentityRecord,
    silent: &[Seen<'_>],
    voters: &[Seen<'_>],
    after: Vec<usize>,
    draft: &mut Draft,
) {
    let voters: Vec<Server> = voters.iter().map(Seen::server).collect();
    for seen in silent {
        draft.step_after(
            Step::Bootstrap {
                to: seen.server(),
                cluster: record.cluster,
                voters: voters.clone(),
            },
            after.clone(),
        );
    }
}

/// Opens the cluster for clients, after it was recorded that there may be data from now on.
fn activate(
    survey: &Survey<'_>,
    record: &IdentityRecord,
    recorded: Option<usize>,
    draft: &mut Draft,
) {
    if let Some(leader) = survey.ready_leader()
        && !leader.view.activated
    {
        draft.step_after(
            Step::Activate {
                via: leader.server(),
                cluster: record.cluster,
            },
            recorded.into_iter().collect(),
        );
    }
}
