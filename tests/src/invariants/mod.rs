//! What must hold after every turn of every server, one file each.
//!
//! They look only at what a server shows (its status, its log, what it sends, applies and answers),
//! never at how it came to it, and at everything incrementally: a turn costs as much as it changed.

mod acknowledged_writes;
mod activation;
mod addressing;
mod administration;
mod answered_once;
mod bounded_queues;
mod bounded_staleness;
mod configuration_safety;
mod effects;
mod election_safety;
mod exactly_once;
mod genuine_acknowledgements;
mod genuine_quorum;
mod leader_append_only;
mod leader_completeness;
mod leadership;
mod ledger;
mod linearizable;
mod log_kept;
mod log_matching;
mod monotonic;
mod promises;
mod quarantine;
pub mod quorum;
mod refused_attempts;
mod replicated_time;
mod restored_state;
mod session_life;
mod single_vote;
mod state_limit;
mod state_machine_safety;
mod transfers;
pub mod waiters;
mod zones;

use std::fmt;

pub use ledger::{Asked, CommittedEntry, Entry, Ledger, Observed, Turn};

/// A sentence that must stay true.
pub trait Invariant: Send {
    /// Its name, as reports print it.
    fn name(&self) -> &'static str;

    /// Looks at one turn. `ledger` already holds what the turn left behind.
    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String>;

    /// Looks back at the end of a run in which everything healed.
    fn finish(&mut self, _ledger: &Ledger) -> Result<(), String> {
        Ok(())
    }
}

/// A sentence that turned out false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Of which invariant.
    pub invariant: &'static str,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant={} {}", self.invariant, self.detail)
    }
}

/// All invariants, over one ledger.
pub struct Checker {
    /// What has been seen of every server.
    pub ledger: Ledger,
    invariants: Vec<Box<dyn Invariant>>,
}

impl Default for Checker {
    fn default() -> Self {
        Self {
            ledger: Ledger::default(),
            invariants: vec![
                Box::<monotonic::Monotonic>::default(),
                Box::<election_safety::ElectionSafety>::default(),
                Box::<leadership::Leadership>::default(),
                Box::<transfers::Transfers>::default(),
                Box::<single_vote::SingleVote>::default(),
                Box::<log_matching::LogMatching>::default(),
                Box::<leader_append_only::LeaderAppendOnly>::default(),
                Box::<state_machine_safety::StateMachineSafety>::default(),
                Box::<restored_state::RestoredState>::default(),
                Box::<quarantine::OnlyTheGuilty>::default(),
                Box::<waiters::Waiters>::default(),
                Box::<log_kept::LogKept>::default(),
                Box::<state_limit::StateLimit>::default(),
                Box::<effects::EffectsOnce>::default(),
                Box::<leader_completeness::LeaderCompleteness>::default(),
                Box::<configuration_safety::ConfigurationSafety>::default(),
                Box::<genuine_quorum::GenuineQuorum>::default(),
                Box::<genuine_acknowledgements::GenuineAcknowledgements>::default(),
                Box::<addressing::Addressing>::default(),
                Box::<bounded_queues::BoundedQueues>::default(),
                Box::<answered_once::AnsweredOnce>::default(),
                Box::<exactly_once::ExactlyOnce>::default(),
                Box::<acknowledged_writes::AcknowledgedWrites>::default(),
                Box::<refused_attempts::RefusedAttempts>::default(),
                Box::<session_life::SessionLife>::default(),
                Box::<replicated_time::ReplicatedTime>::default(),
                Box::<activation::Activation>::default(),
                Box::<administration::Administration>::default(),
                Box::<promises::Promises>::default(),
                Box::<linearizable::Linearizable>::default(),
                Box::<bounded_staleness::BoundedStaleness>::default(),
            ],
        }
    }
}

impl Checker {
    /// One more sentence.
    pub fn add(&mut self, invariant: Box<dyn Invariant>) {
        self.invariants.push(invariant);
    }

    /// Looks at one turn, and keeps what it left behind.
    pub fn check(&mut self, turn: &mut Turn<'_>) -> Result<(), Violation> {
        self.ledger.observe(turn).map_err(|detail| Violation {
            invariant: "readable log",
            detail,
        })?;
        for invariant in &mut self.invariants {
            invariant
                .check(turn, &self.ledger)
                .map_err(|detail| Violation {
                    invariant: invariant.name(),
                    detail: format!("server={} {detail}", turn.server),
                })?;
        }
        self.ledger.settle(turn);
        Ok(())
    }

    /// The last look, after everything healed.
    pub fn finish(&mut self) -> Result<(), Violation> {
        for invariant in &mut self.invariants {
            invariant.finish(&self.ledger).map_err(|detail| Violation {
                invariant: invariant.name(),
                detail,
            })?;
        }
        Ok(())
    }
}
