//! The vocabulary of conditions. All are there from the first reconcile.

/// All is as wanted: available, all voters there and ready, nothing in progress.
pub const READY: &str = "Ready";
/// A leader serves, and client writes are accepted.
pub const AVAILABLE: &str = "Available";
/// The operator is at work towards the spec.
pub const PROGRESSING: &str = "Progressing";
/// A server is lost, quarantined, does not answer, or may not join.
pub const DEGRADED: &str = "Degraded";
/// The cluster was bootstrapped: there may be data.
pub const INITIALIZED: &str = "Initialized";
/// Every server and object that names a cluster names the same.
pub const CLUSTER_ID_CONSISTENT: &str = "ClusterIdConsistent";
/// The loss of one more voter stops writes, although the number of voters allows losses.
pub const QUORUM_AT_RISK: &str = "QuorumAtRisk";
/// The settings of the servers fit together, and fit the network between them.
pub const SETTINGS_FIT: &str = "SettingsFit";
/// `spec.paused`.
pub const PAUSED: &str = "Paused";

/// All of them, in the order in which they are reported.
pub const ALL: [&str; 9] = [
    READY,
    AVAILABLE,
    PROGRESSING,
    DEGRADED,
    INITIALIZED,
    CLUSTER_ID_CONSISTENT,
    QUORUM_AT_RISK,
    SETTINGS_FIT,
    PAUSED,
];
