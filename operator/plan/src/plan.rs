//! The plan: steps with their dependencies, and what was refused.

use crate::inventory::Inventory;
use crate::refusal::{Blocked, Rule};
use crate::step::Step;
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

/// Decides what to do next. Pure: the same arguments give the same plan.
pub fn plan(wanted: &Wanted, inventory: &Inventory) -> Plan {
    let _ = (wanted, inventory);
    Plan::default()
}
