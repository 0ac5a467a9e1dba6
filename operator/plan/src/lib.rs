//! The policy of the operator: what to do next, given what is wanted and what is seen. No I/O, no
//! clock, no randomness: ages and a drawn id come with the inventory.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod conditions;
mod describe;
pub mod identity;
pub mod ids;
pub mod inventory;
pub mod plan;
pub mod refusal;
mod rules;
pub mod step;
mod survey;
pub mod verdict;
pub mod wanted;

pub use identity::{Discarded, Identity, IdentityCopy, IdentityRecord};
pub use ids::{ClusterId, NodeName, ServerId};
pub use inventory::{
    Configuration, Instance, Inventory, LogId, Node, Observation, Progress, Purpose, Role, Server,
    ServerView,
};
pub use plan::{Plan, PlannedStep, plan};
pub use refusal::{Blocked, Refusal, Rule};
pub use step::Step;
pub use verdict::{
    ConditionFact, ConditionKind, LeaderFact, Member, MemberState, Operation, OperationKind,
    QuorumFact, Verdict, verdict,
};
pub use wanted::{OnTotalLoss, Wanted};
