//! The policy of the operator: what to do next, given what is wanted and what is seen. No I/O, no
//! clock, no randomness, nothing of Kubernetes: ages and a drawn id come with the inventory.
//!
//! # What the caller does
//!
//! ```text
//! loop {
//!     let inventory = look();                         // 1, 2
//!     let plan = plan(&wanted, &inventory);
//!     for (at, planned) in plan.steps.iter().enumerate() {
//!         if planned.after.iter().all(|before| succeeded[before]) {
//!             succeeded[at] = perform(&planned.step); // 3, 4, 5
//!         }
//!     }
//!     report(verdict(&wanted, &inventory, &plan));    // 6
//!     wait_for_an_event_or_a_while();
//! }
//! ```
//!
//! 1. It asks every server for its status, every time. One that does not answer is
//!    [`Observation::Unknown`]; a node has no [`Instance`] only if it was looked for and is not there.
//! 2. It reads the identity object itself, not a cache, and draws [`Inventory::drawn_cluster`] anew.
//! 3. It performs the steps in order. A step is idempotent; one that failed, or whose outcome is not
//!    known, stops only those that name it in [`PlannedStep::after`]: the next look tells.
//! 4. Writes of the identity carry the version that the step expects, calls the ids of cluster and
//!    server, deletes the uid, after asking who answers there.
//! 5. [`Step::Add`] and [`Step::Replace`] do not wait for the new servers to vote.
//! 6. It adds times and attempts to the verdict, and writes only what changed.
//!
//! # How it decides
//!
//! A survey of the inventory says who is where, who leads and who is lost; then the rules
//! run in order of precedence (see [`Rule`]). A rule acts, or says why not ([`Refusal`]) and yields to
//! the next. A plan has at most one change of the configuration or of leadership. Nothing is
//! remembered from plan to plan: whoever starts again after a crash goes on from what is seen.
//!
//! A server is *lost* if its state is gone: its node answers with another id, or is not there. A
//! server that does not answer is not lost, however long that lasts. One that is *quarantined* is not
//! lost either: it never serves, does not count towards the margin, and is nobody's to restart but a
//! person's.
//!
//! # Caveats
//!
//! Rolls, drains, surges and Kubernetes nodes that are gone (rule 9 of the design) are not
//! implemented: rules for them follow `scale`. Servers on nodes that are not the cluster's own count
//! as lost.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod admission;
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
    ServerView, SettingsWarning, Versions,
};
pub use plan::{Plan, PlannedStep, plan};
pub use refusal::{Blocked, Refusal, Rule};
pub use step::Step;
pub use verdict::{
    ConditionFact, ConditionKind, LeaderFact, MachineFact, Member, MemberState, Operation,
    OperationKind, QuorumFact, Verdict, verdict,
};
pub use wanted::{OnTotalLoss, Wanted};
