//! What a driver counts.

/// Counters since the driver was made; never reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Dropped: from another cluster.
    pub dropped_wrong_cluster: u64,
    /// Dropped: from a server of this cluster that began it with other initial voters.
    pub dropped_wrong_origin: u64,
    /// Dropped: for another incarnation.
    pub dropped_wrong_server: u64,
    /// Dropped: a batch that does not decode, or whose checksum is wrong.
    pub dropped_malformed: u64,
    /// Appends not sent: to a learner that is not known to run the version in force.
    pub withheld: u64,
    /// Reads that were answered under a lease, without a round.
    pub leased_reads: u64,
    /// Dropped: entries for a quarantined server that holds as many as it may.
    pub dropped_quarantined: u64,
    /// Dropped: entries for a server whose machine is as far behind as it may be.
    pub dropped_backlog: u64,
    /// Commands proposed here.
    pub proposed: u64,
    /// Entries applied here.
    pub applied: u64,
    /// Of them, commands of sessions that were applied before, and not again.
    pub repeated: u64,
    /// Requests refused.
    pub refused: u64,
    /// Of them, commands that there is no room for.
    pub refused_by_state_limit: u64,
    /// Elections that this server began.
    pub campaigns: u64,
    /// Times that this server became leader.
    pub elected: u64,
    /// Turns taken.
    pub turns: u64,
    /// Times that the log was compacted.
    pub compactions: u64,
    /// Entries dropped by that.
    pub entries_compacted: u64,
    /// Snapshots begun to be sent.
    pub snapshots_started: u64,
    /// Of these, installed by who got them.
    pub snapshots_delivered: u64,
    /// Of these, given up: leadership or the server was lost, or the log outran it.
    pub snapshots_given_up: u64,
    /// Of these, refused by who got them.
    pub snapshots_refused_by_peers: u64,
    /// Times that one went on after its connection was made anew.
    pub snapshots_resumed: u64,
    /// Bytes of snapshots sent, repetitions included.
    pub snapshot_bytes_sent: u64,
    /// Snapshots received and restored here.
    pub snapshots_restored: u64,
    /// Snapshots received that did not fit together, or that the machine could not restore.
    pub snapshots_refused: u64,
    /// Bytes of snapshots received, each once.
    pub snapshot_bytes_received: u64,
}
