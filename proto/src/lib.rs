//! The gRPC contract: types and services generated from `proto/`, nothing else. The comments in the
//! `.proto` files are the reference for units, bounds and errors.
//!
//! `bytes` fields are [`prost::bytes::Bytes`] and alias the receive buffer: copy what is kept.

// Generated code refers to other packages by their path from a common root.
#[allow(missing_docs, clippy::all)] // generated; documented in the proto files
mod kontiki {
    pub mod v1 {
        tonic::include_proto!("kontiki.v1");
    }
    pub mod kv {
        pub mod v1 {
            tonic::include_proto!("kontiki.kv.v1");
        }
    }
    pub mod raft {
        pub mod v1 {
            tonic::include_proto!("kontiki.raft.v1");
        }
    }
}

/// `kontiki.kv.v1`: the `kv` machine.
pub use kontiki::kv::v1 as kv;
/// `kontiki.raft.v1`: between servers.
pub use kontiki::raft::v1 as raft;
/// `kontiki.v1`: `Data` and `Admin`.
pub use kontiki::v1;

/// The encoded descriptors of all files, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kontiki.bin"));

/// `ErrorInfo.domain` of every error from Kontiki.
pub const ERROR_DOMAIN: &str = "kontiki.dev";

/// Values of `ErrorInfo.reason`, the same in every service.
pub mod reason {
    /// This server does not lead; the metadata name the leader.
    pub const NOT_LEADER: &str = "NOT_LEADER";
    /// No leader is known.
    pub const NO_LEADER: &str = "NO_LEADER";
    /// The leader has lost its quorum for now.
    pub const QUORUM_LOST: &str = "QUORUM_LOST";
    /// Leadership is being handed over.
    pub const TRANSFERRING: &str = "TRANSFERRING";
    /// The process is going down.
    pub const STOPPING: &str = "STOPPING";
    /// A bounded queue is full.
    pub const QUEUE_FULL: &str = "QUEUE_FULL";
    /// The command may make the state larger, and the leader holds as much as it may; the metadata say how
    /// much that is. Commands that do not, such as deletes, and reads are taken.
    pub const STATE_LIMIT: &str = "STATE_LIMIT";
    /// The cluster accepts no client writes before it is activated.
    pub const NOT_ACTIVATED: &str = "NOT_ACTIVATED";
    /// This server belongs to no cluster yet.
    pub const NOT_A_MEMBER: &str = "NOT_A_MEMBER";
    /// The write may or may not be applied.
    pub const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";
    /// There is no such session (any more). The command was not applied now; if it was sent before,
    /// it may have been applied then.
    pub const SESSION_EXPIRED: &str = "SESSION_EXPIRED";
    /// The sequence goes backwards: the client has said that it would not send it again.
    pub const SEQUENCE_ALREADY_ACKNOWLEDGED: &str = "SEQUENCE_ALREADY_ACKNOWLEDGED";
    /// The sequence is too far above what the client has acknowledged.
    pub const SESSION_WINDOW_FULL: &str = "SESSION_WINDOW_FULL";
    /// The command was applied once, before; its reply is not kept any more.
    pub const REPLY_FORGOTTEN: &str = "REPLY_FORGOTTEN";
    /// The machine refused the command or query.
    pub const REFUSED_BY_MACHINE: &str = "REFUSED_BY_MACHINE";
    /// A field is out of its bounds; the message names it.
    pub const INVALID: &str = "INVALID";
    /// The continuation token of a range was changed or cut short.
    pub const BAD_CONTINUATION: &str = "BAD_CONTINUATION";
    /// The revision is not kept for watchers any more; the metadata name the oldest that is.
    pub const COMPACTED: &str = "COMPACTED";
    /// Above the bound in bytes.
    pub const TOO_LARGE: &str = "TOO_LARGE";
    /// The bytes are not the message that the method takes.
    pub const MALFORMED: &str = "MALFORMED";
    /// The `kv` service on a server whose machine is another.
    pub const WRONG_MACHINE: &str = "WRONG_MACHINE";
    /// The request, its continuation token or its session is of another cluster.
    pub const WRONG_CLUSTER: &str = "WRONG_CLUSTER";
    /// The request names another server.
    pub const WRONG_SERVER: &str = "WRONG_SERVER";
    /// Bootstrapped before, otherwise.
    pub const ALREADY_BOOTSTRAPPED: &str = "ALREADY_BOOTSTRAPPED";
    /// No entry of the leader's term is committed yet (ExRaft's `no_commit`).
    pub const NO_COMMIT: &str = "NO_COMMIT";
    /// Another membership change is in flight (ExRaft's `unstable_config`).
    pub const UNSTABLE_CONFIG: &str = "UNSTABLE_CONFIG";
    /// The configuration is not the one that the caller saw.
    pub const STALE_CONFIG: &str = "STALE_CONFIG";
    /// The last voter cannot be removed (ExRaft's `last_server`).
    pub const LAST_SERVER: &str = "LAST_SERVER";
    /// Fewer voters than `min_majority` would be left.
    pub const BELOW_MIN_MAJORITY: &str = "BELOW_MIN_MAJORITY";
    /// The change could not be committed: too few of the voters that would be left are heard and hold
    /// the log. It may be asked for again once they are back.
    pub const NO_QUORUM_AFTERWARDS: &str = "NO_QUORUM_AFTERWARDS";
    /// A server that the change names is not what the change takes it for; the message says what it is.
    pub const WRONG_ROLE: &str = "WRONG_ROLE";
    /// Not a voter of the configuration in force.
    pub const NOT_A_VOTER: &str = "NOT_A_VOTER";
    /// Nobody took over within an election timeout.
    pub const TRANSFER_FAILED: &str = "TRANSFER_FAILED";
    /// This server knows a leader, so its cluster has not lost its quorum.
    pub const HAS_LEADER: &str = "HAS_LEADER";
    /// This server has stopped applying and serving; others may serve.
    pub const QUARANTINED: &str = "QUARANTINED";
    /// This server is set to answer no stale reads (ExRaft's `dirty_read: false`).
    pub const DIRTY_READ_DISABLED: &str = "DIRTY_READ_DISABLED";
    /// The server is too old for a read of bounded staleness; another may not be, or it later.
    pub const TOO_STALE: &str = "TOO_STALE";
    /// The server has promised its vote to the leader, for reads under a lease: it begins no election.
    pub const PROMISED: &str = "PROMISED";
    /// A server does not run a version of the machine that is needed.
    pub const UNSUPPORTED_VERSION: &str = "UNSUPPORTED_VERSION";
    /// The servers' states differ, and no majority agrees: no write is accepted.
    pub const DIVERGED: &str = "DIVERGED";
    /// The caller's deadline had passed when the request came; it was not begun.
    pub const TOO_LATE: &str = "TOO_LATE";
    /// The wait was given up; what was asked may still happen.
    pub const TIMED_OUT: &str = "TIMED_OUT";
}

/// Keys of `ErrorInfo.metadata`.
pub mod metadata {
    /// `FAILED` or `UNKNOWN`.
    pub const OUTCOME: &str = "outcome";
    /// Server id of the leader.
    pub const LEADER_ID: &str = "leader_id";
    /// Client address of the leader, HOST:PORT.
    pub const LEADER_ADDRESS: &str = "leader_address";
    /// With `WRONG_CLUSTER` for a session: the cluster of the server that refused it.
    pub const CLUSTER_ID: &str = "cluster_id";
    /// With `STATE_LIMIT`: bytes that the leader holds.
    pub const STATE_BYTES: &str = "state_bytes";
    /// With `STATE_LIMIT`: how many it may hold.
    pub const STATE_BYTES_MAX: &str = "state_bytes_max";
    /// Peer and admin address of the leader, HOST:PORT.
    pub const LEADER_PEER_ADDRESS: &str = "leader_peer_address";
    /// Of a watch that ended: the revision through which it was complete. It is resumed, at any
    /// server of the cluster, from the next one.
    pub const COMPLETE_REVISION: &str = "complete_revision";
    /// The oldest revision that can be watched at this server.
    pub const OLDEST_REVISION: &str = "oldest_revision";
    /// With `TOO_STALE`: how old the answer may be.
    pub const STALENESS_MILLISECONDS: &str = "staleness_milliseconds";
    /// With `TOO_STALE`: how old the server is at most, if it knows.
    pub const AGE_MILLISECONDS: &str = "age_milliseconds";
}
