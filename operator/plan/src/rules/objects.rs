//! Rule 6: every object but the StatefulSet's `replicas` is as it should be.

use crate::plan::Draft;
use crate::rules::Flow;
use crate::step::Step;
use crate::survey::Survey;

pub(crate) fn apply(survey: &Survey<'_>, draft: &mut Draft) -> Flow {
    // Before the first servers they are rule 4's.
    if survey.inventory.servers_desired.is_some() {
        ensure(survey, draft);
    }
    Flow::Continue
}

/// Corrects what drifted, and says at which position.
pub(crate) fn ensure(survey: &Survey<'_>, draft: &mut Draft) -> Option<usize> {
    let drift = survey.inventory.drift.clone();
    (!drift.is_empty()).then(|| draft.step(Step::EnsureObjects { drift }))
}
