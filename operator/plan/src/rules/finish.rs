//! Rule 3: a change in the Raft log goes first. The leader finishes it by itself, also one that
//! another leader began; here it only holds back what would come in its way.

use crate::plan::Draft;
use crate::refusal::Refusal;
use crate::rules::Flow;
use crate::survey::Survey;

pub(crate) fn apply(survey: &Survey<'_>, draft: &mut Draft) -> Flow {
    if let Some(configuration) = &survey.configuration
        && survey.leader.is_some()
        && !survey.is_settled()
    {
        draft.block(Refusal::ChangeInFlight {
            index: configuration.index,
        });
        draft.changing = true;
    }
    Flow::Continue
}
