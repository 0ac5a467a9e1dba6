//! Rule 1: paused. Report, touch nothing.

use crate::plan::Draft;
use crate::refusal::Refusal;
use crate::rules::Flow;
use crate::survey::Survey;

pub(crate) fn apply(survey: &Survey<'_>, draft: &mut Draft) -> Flow {
    if !survey.wanted.paused {
        return Flow::Continue;
    }
    draft.block(Refusal::Paused);
    Flow::Stop
}
