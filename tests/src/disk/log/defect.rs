//! What a log gets wrong, on purpose: each is a bug that a well-known system shipped, and the trial
//! must catch it.

/// A bug of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Acknowledges what was written and not synced (etcd #14370).
    AcknowledgesBeforeSync,
    /// A sync that failed is tried again, and its success believed (cockroach #37102).
    RetriesFailedSync,
    /// A segment gets its name without a sync of the folder (etcd #6368).
    RenamesWithoutFolderSync,
    /// Blocks that did not arrive are taken for zeros (etcd #14098).
    AcceptsTornTail,
    /// A tail that did not arrive whole is taken for damage: the log never opens again (etcd #11924).
    RefusesTornTail,
    /// What is behind a torn tail stays, and follows on what is appended next.
    LeavesTornTail,
    /// The snapshot says "through here" before the records are synced (etcd #13766).
    SnapshotsAhead,
    /// Checksums are not looked at (Jepsen, NATS 2.12.1).
    BelievesFlippedBits,
    /// Records are removed before the snapshot that covers them is there, and nobody notices
    /// (dragonboat #369).
    CompactsAhead,
    /// Segments are removed without a sync of the folder after each, and a gap that a power cut leaves
    /// is taken (ra f68c255a).
    AcceptsGap,
    /// The same, with a recovery that refuses the gap: the log never opens again.
    RemovesInNoOrder,
    /// A read that fails ends the log, silently (openraft #1795).
    TakesReadErrorForTheEnd,
}
