//! A description of a server.

use std::ops::RangeInclusive;
use std::time::Duration;

use kontiki_raft::{ClusterId, Configuration, Index, LogId, PeerRefill, Purpose, ServerId, Time};

use super::interface::Standing;
use super::settings::Settings;
use super::state_bytes::StateBytes;
use super::warnings::Warning;
use crate::host::{Digest, Quarantine, SessionsStatus};
use crate::machine::Version;

/// A configuration and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigurationStatus {
    /// Its entry; 0 if there is none.
    pub index: Index,
    /// Whether that is committed.
    pub committed: bool,
    /// Who is what.
    pub configuration: Configuration,
}

/// A description of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// `None` before bootstrap.
    pub cluster: Option<ClusterId>,
    /// This incarnation.
    pub server: ServerId,
    /// Role, term, leader.
    pub standing: Standing,
    /// First entry still held.
    pub first: Index,
    /// End of the log.
    pub last: LogId,
    /// Committed through here.
    pub commit: Index,
    /// Applied through here.
    pub applied: Index,
    /// In force.
    pub configuration: ConfigurationStatus,
    /// Of the others; empty unless it leads.
    pub progress: Vec<PeerStatus>,
    /// Client writes are accepted.
    pub activated: bool,
    /// An activated voter that has caught up once since it started, and whose machine does not stand
    /// still while those of others go on.
    pub ready: bool,
    /// This server's own.
    pub min_majority: usize,
    /// This server's own.
    pub election_priority: u8,
    /// It leads, and hears from a quorum.
    pub serving: bool,
    /// It leads, and is handing over.
    pub transferring: bool,
    /// It leads, and has committed an entry of its term.
    pub term_committed: bool,
    /// Bytes held of a snapshot that this server is receiving or restoring.
    pub receiving: Option<u64>,
    /// Why it refused the last snapshot, if it has not restored one since.
    pub snapshot_refusal: Option<String>,
    /// Bytes of the log.
    pub log_bytes: usize,
    /// What it holds of the cluster's data, in bytes.
    pub state_bytes: StateBytes,
    /// The limit of that, if there is one.
    pub state_bytes_max: Option<u64>,
    /// Name of the machine.
    pub machine: &'static str,
    /// Version of the machine in force; 0 before the first is.
    pub version: Version,
    /// Open sessions.
    pub sessions: SessionsStatus,
    /// Versions that this program can run.
    pub versions: RangeInclusive<Version>,
    /// Why this server is quarantined, if it is.
    pub quarantine: Option<Quarantine>,
    /// It leads, and refuses writes because the servers' states differ and no majority agrees: where.
    pub diverged: Option<String>,
    /// A server of this cluster that began it with other initial voters; the two take nothing from each other.
    pub bootstrap_conflict: Option<ServerId>,
    /// What the last checkpoint that was hashed here came to.
    pub digest: Option<Digest>,
    /// That this server's machine stands still while those of others go on, if it does, and where.
    pub standstill: Option<String>,
    /// What this server is configured with, as far as it has to fit the others.
    pub settings: Settings,
    /// What does not fit of the settings of the members, if it leads; otherwise of its own alone.
    pub warnings: Vec<Warning>,
    /// It leads: the longest that a round trip to another member takes, of late.
    pub round_trip: Option<Duration>,
}

/// What a leader knows of another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Which.
    pub server: ServerId,
    /// Replicated there through here.
    pub matched: Index,
    /// When it last acknowledged anything.
    pub heard: Option<Time>,
    /// Its connection is up.
    pub reachable: bool,
    /// Why it is a learner, if it is.
    pub learner: Option<Purpose>,
    /// Did not catch up within its rounds.
    pub stalled: bool,
    /// It lacks entries that are compacted, and needs a snapshot or is being sent one.
    pub refill: Option<PeerRefill>,
}
