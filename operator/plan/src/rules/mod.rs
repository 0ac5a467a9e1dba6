//! The rules, one file each, in order of precedence. A rule that must not act says why and yields.

use crate::plan::Draft;
use crate::refusal::Rule;
use crate::survey::Survey;

mod bootstrap;
mod finish;
pub(crate) mod identity;
mod objects;
mod operation;
mod paused;
pub(crate) mod quorum_lost;
mod repair;
mod replace;
mod scale;

/// Whether later rules may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    Stop,
}

type Apply = fn(&Survey<'_>, &mut Draft) -> Flow;

/// The rules in order of precedence. Rolling, drains and surges come after these.
pub(crate) const RULES: [(Rule, Apply); 9] = [
    (Rule::Paused, paused::apply),
    (Rule::Identity, identity::apply),
    (Rule::QuorumLost, quorum_lost::apply),
    (Rule::Finish, finish::apply),
    (Rule::Repair, repair::apply),
    (Rule::Bootstrap, bootstrap::apply),
    (Rule::Objects, objects::apply),
    (Rule::Operation, operation::apply),
    (Rule::Scale, scale::apply),
];
