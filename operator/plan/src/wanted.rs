//! What is wanted: the part of a `RaftCluster` spec that policy needs.

use std::time::Duration;

/// The spec, as far as the planner cares. The caller has validated it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Number of voters, 1 to 9.
    pub replicas: u32,
    /// Lower bound of a quorum, 1 to `replicas`.
    pub min_majority: u32,
    /// Smallest election timeout of the servers.
    pub election_timeout: Duration,
    /// Report, touch nothing.
    pub paused: bool,
    /// Name of the state machine; `None`: whatever the servers that are there run.
    pub machine: Option<String>,
    /// What to do once a quorum of incarnations is gone.
    pub on_total_loss: OnTotalLoss,
}

/// `recovery.onTotalLoss`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnTotalLoss {
    /// Do nothing but report `QuorumLost`.
    #[default]
    Halt,
    /// Start again with a new cluster id and no data.
    StartEmpty,
}
