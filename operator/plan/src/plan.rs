//! The plan: steps with their dependencies, and what was refused.

use crate::inventory::Inventory;
use crate::refusal::{Blocked, Refusal, Rule};
use crate::rules::{Flow, RULES};
use crate::step::Step;
use crate::survey::Survey;
use crate::wanted::Wanted;

/// What to do next, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps. Perform them in order; a failed one stops only those that depend on it.
    pub steps: Vec<PlannedStep>,
    /// Rules that would act but must not, or wait.
    pub blocked: Vec<Blocked>,
}

/// A step, why it is there, and what must have succeeded before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    /// The rule that asks for it.
    pub rule: Rule,
    /// What to do.
    pub step: Step,
    /// Positions in [`Plan::steps`] of earlier steps without whose success it is skipped.
    pub after: Vec<usize>,
}

/// Decides what to do next. Pure: the same arguments give the same plan. A plan holds at most one
/// change of the configuration or of leadership, because it is not known what comes of it.
pub fn plan(wanted: &Wanted, inventory: &Inventory) -> Plan {
    let survey = Survey::of(wanted, inventory);
    let mut draft = Draft::default();
    for (rule, apply) in RULES {
        draft.rule = Some(rule);
        if apply(&survey, &mut draft) == Flow::Stop {
            break;
        }
    }
    draft.plan
}

/// A plan on its way through the rules.
#[derive(Default)]
pub(crate) struct Draft {
    pub plan: Plan,
    rule: Option<Rule>,
    /// A change of the configuration or of leadership is in flight, or in this plan: no other may
    /// be begun.
    pub changing: bool,
}

impl Draft {
    /// Adds a step, and says at which position.
    pub fn step(&mut self, step: Step) -> usize {
        self.step_after(step, Vec::new())
    }

    /// Adds a step that depends on earlier ones.
    pub fn step_after(&mut self, step: Step, after: Vec<usize>) -> usize {
        self.changing |= step.is_change();
        let rule = self.rule.expect("rules run one by one");
        self.plan.steps.push(PlannedStep { rule, step, after });
        self.plan.steps.len() - 1
    }

    /// Says why the rule does nothing, or waits.
    pub fn block(&mut self, refusal: Refusal) {
        let rule = self.rule.expect("rules run one by one");
        self.plan.blocked.push(Blocked { rule, refusal });
    }
}

impl Step {
    /// Whether it changes the configuration or the leader.
    fn is_change(&self) -> bool {
        matches!(
            self,
            Self::Add { .. }
                | Self::Replace { .. }
                | Self::Remove { .. }
                | Self::Transfer { .. }
                | Self::TriggerElection { .. }
        )
    }
}
