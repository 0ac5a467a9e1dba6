//! The settings of one server.

use std::time::Duration;

/// The highest [`Config::election_priority`], which every server has unless it is told otherwise.
pub const ELECTION_PRIORITY_MAX: u8 = 10;

/// Settings of a [`crate::Raft`]. Bounds are named `<thing>_max`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Interval of the leader's signs of life. Default 100 ms.
    pub heartbeat: Duration,
    /// Shortest time without a leader after which a follower asks for votes. Above `heartbeat`.
    /// Default 1 s.
    pub election_timeout_min: Duration,
    /// Longest such time; each is drawn anew between the two. Default 2 s.
    pub election_timeout_max: Duration,
    /// Raises this server's own quorum (ExRaft's `min_majority`). Default 1.
    pub min_majority: usize,
    /// How willing this server is to lead, up to [`ELECTION_PRIORITY_MAX`], the default. A lower one
    /// waits longer before it campaigns, by a heartbeat for each step, and as a leader hands over to
    /// a voter of a higher one that has caught up. With 0 it never campaigns by itself; it leads only
    /// if it is told to (a transfer, `trigger_election`), or if the others cannot be elected without what
    /// it holds. Where no other server is left, nobody leads until somebody says so. Safety does not
    /// depend on it.
    pub election_priority: u8,
    /// Bytes of one append. Default 256 KiB; a single larger entry is sent by itself.
    pub append_bytes_max: usize,
    /// Entries of one append. Default 8192.
    pub append_entries_max: usize,
    /// Appends in flight to one server. Default 16.
    pub inflight_max: usize,
    /// Bytes of them; a single larger append is sent by itself (etcd-io/etcd #14624). Default 4 MiB.
    pub inflight_bytes_max: usize,
    /// With an append in flight this long, the next is sent though the batch is not full. Default
    /// 2 ms.
    pub pipeline_after: Duration,
    /// Bytes of entries that are not committed; past it proposals are refused. One is taken by itself,
    /// however large. A follower stores commands of the leader's own term up to twice as many, and more
    /// once those are committed. Default 64 MiB.
    pub uncommitted_bytes_max: usize,
    /// Bytes of entries of terms before the leader's that are not committed and that a follower stores,
    /// if that is more than twice `uncommitted_bytes_max`. They are bounded by the leaders that proposed
    /// them and can be committed only all together, so it must be more than any member's
    /// `uncommitted_bytes_max`, and those may differ. Default 128 MiB.
    pub inherited_bytes_max: usize,
    /// Entries that are not committed; past it proposals are refused. Default 65536.
    pub uncommitted_entries_max: usize,
    /// Reads waiting for a confirmation of leadership; past it they are refused. Default 65536.
    pub reads_max: usize,
    /// Rounds in which a learner has to catch up before it is reported as stalled (thesis section
    /// 4.2.1). Default 10.
    pub catch_up_rounds_max: u32,
    /// Pause before a stalled learner is tried again. Default 10 s.
    pub catch_up_pause: Duration,
    /// Encoded bytes at the end of the log that compaction leaves, for servers that lag a little.
    /// Default 8 MiB.
    pub log_tail_bytes: usize,
    /// Entries that it leaves at least, however large. Default 16.
    pub log_tail_entries_min: usize,
    /// Bytes of log kept for servers that are heard and lag, or receive a snapshot; past it and
    /// past what has been delivered of that snapshot, they need a (fresh) one. Default 64 MiB.
    pub log_kept_bytes_max: usize,
    /// Snapshots sent at a time. Default 2.
    pub snapshots_max: usize,
    /// Pause after a server refused a snapshot or took no more of it, doubled up to 32 times. Default 1 s.
    pub snapshot_pause: Duration,
    /// A server that receives a snapshot and is silent for longer gets a fresh one, once it is heard
    /// again; at least an election timeout. Default 30 s.
    pub snapshot_silence_max: Duration,
    /// A transfer of which no more bytes are acknowledged for so long is given up, though the server
    /// answers heartbeats; at least an election timeout. Once the snapshot is restored, the log beyond
    /// `log_kept_bytes_max` is kept for a server that stores something in this time. Default 30 s.
    pub snapshot_stall_max: Duration,
    /// The same once every byte is acknowledged: the server has so long to restore. What it acknowledges
    /// later still counts, if the log reaches back that far. Default 10 min.
    pub snapshot_restore_max: Duration,
    /// Seed of this server's random choices (timeouts, tie breaks).
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_timeout_min: Duration::from_millis(1000),
            election_timeout_max: Duration::from_millis(2000),
            min_majority: 1,
            election_priority: ELECTION_PRIORITY_MAX,
            append_bytes_max: 256 << 10,
            append_entries_max: 8192,
            inflight_max: 16,
            inflight_bytes_max: 4 << 20,
            pipeline_after: Duration::from_millis(2),
            uncommitted_bytes_max: 64 << 20,
            inherited_bytes_max: 128 << 20,
            uncommitted_entries_max: 65536,
            reads_max: 65536,
            catch_up_rounds_max: 10,
            catch_up_pause: Duration::from_secs(10),
            log_tail_bytes: 8 << 20,
            log_tail_entries_min: 16,
            log_kept_bytes_max: 64 << 20,
            snapshots_max: 2,
            snapshot_pause: Duration::from_secs(1),
            snapshot_silence_max: Duration::from_secs(30),
            snapshot_stall_max: Duration::from_secs(30),
            snapshot_restore_max: Duration::from_secs(600),
            seed: 0,
        }
    }
}
