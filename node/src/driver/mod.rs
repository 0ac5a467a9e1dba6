//! `turn(now, inputs) -> outputs`: the one owner of [`kontiki_raft::Raft`], deterministic.

mod interface;

pub use interface::*;

use kontiki_raft::{Config, ServerId, Time};

use crate::machine::StateMachine;

/// Settings of a [`Driver`].
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// The engine's.
    pub raft: Config,
    /// The leader activates the cluster by itself (embedded use, where no operator does it).
    pub activate: bool,
    /// Writes that may wait for their outcome; past it they are refused.
    pub pending_writes_max: usize,
}
