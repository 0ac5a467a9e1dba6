//! Rule 2: quorum lost. Once more voters have lost their state than a quorum allows, nothing but an
//! explicit decision (`recovery.onTotalLoss`) helps. Voters that merely do not answer are not lost.

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
    draft.block(Refusal::QuorumLost {
        live,
        voters: half.voters,
        quorum: half.quorum,
    });
    // While a majority of either half lives, as it may if `min_majority` is more or a change is in
    // flight, all data is there; and while anything does not answer, something may be left.
    let has_majority = |half: &Half| half.voters - half.lost > half.voters / 2;
    let is_total = !survey.halves().iter().any(has_majority) && survey.all_answered();
    let starts_empty = survey.wanted.on_total_loss == OnTotalLoss::StartEmpty && is_total;
    if let (true, Identity::Recorded { record, version }) =
        (starts_empty, &survey.inventory.identity)
    {
        draft.step(Step::DrawIdentityAnew {
            discarded: Discarded {
                previous: record.cluster,
                lost: Some(record.cluster),
            },
            expects: version.clone(),
        });
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
