//! Rule 2: quorum lost. Once more voters have lost their state than a quorum allows, nothing but an
//! explicit decision (`recovery.onTotalLoss`) helps. Voters that merely do not answer are not lost.
//!
//! Survivors of a total loss are quarantined first: what is lost with the others may have been
//! acknowledged, so nothing may go on from what they have. They keep it.

use crate::identity::{Discarded, Identity};
use crate::plan::Draft;
use crate::refusal::Refusal;
use crate::rules::Flow;
use crate::step::Step;
use crate::survey::{Half, Survey};
use crate::wanted::OnTotalLoss;

pub(crate) fn apply(survey: &Survey<'_>, draft: &mut Draft) -> Flow {
    let Some(half) = lost_half(survey) else {
        return Flow::Continue;
    };
    let live = half.voters - half.lost;
    let refusal = Refusal::QuorumLost {
        live,
        voters: half.voters,
        quorum: half.quorum,
    };
    let why = refusal.to_string();
    draft.block(refusal);
    // While a majority of either half lives, as it may if `min_majority` is more or a change is in
    // flight, all data is there; and while anything does not answer, something may be left.
    let has_majority = |half: &Half| half.voters - half.lost > half.voters / 2;
    let is_total = !survey.halves().iter().any(has_majority) && survey.all_answered();
    let mut frozen = Vec::new();
    if let (true, Some(record)) = (is_total, survey.record) {
        let cluster = record.cluster;
        let going_on = survey.members().filter(|seen| !seen.is_quarantined());
        for survivor in going_on {
            frozen.push(draft.step(Step::Quarantine {
                on: survivor.server(),
                cluster,
                why: why.clone(),
            }));
        }
    }
    let starts_empty = survey.wanted.on_total_loss == OnTotalLoss::StartEmpty && is_total;
    if let (true, Identity::Recorded { record, version }) =
        (starts_empty, &survey.inventory.identity)
    {
        let draw = Step::DrawIdentityAnew {
            discarded: Discarded {
                previous: record.cluster,
                lost: Some(record.cluster),
            },
            expects: version.clone(),
        };
        draft.step_after(draw, frozen);
    }
    Flow::Stop
}

/// The half of the configuration that can have no quorum any more, once there may be data.
pub(crate) fn lost_half(survey: &Survey<'_>) -> Option<Half> {
    if !survey.is_initialized() {
        return None;
    }
    if survey.configuration.is_some() {
        return survey.half_out_of_reach();
    }
    // Nobody is left who knows the configuration.
    let voters = survey.inventory.servers_desired.unwrap_or(0).max(1);
    survey.all_answered().then(|| Half {
        voters,
        live: 0,
        healthy: 0,
        lost: voters,
        quorum: survey.quorum(usize::try_from(voters).unwrap_or(usize::MAX)),
    })
}
