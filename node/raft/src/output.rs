//! What the engine wants done or answered.

use std::time::Duration;

use crate::configuration::MemberRole;
use crate::message::Message;
use crate::types::{Index, ServerId};

/// Names a read until it is answered; chosen by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// Something for the driver to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this. It may get lost, and may come twice or late.
    Send {
        /// The exact server that it is for.
        to: ServerId,
        /// What to say. An append names a range of the log as it is now.
        message: Message,
    },
    /// This server lacks entries that are compacted: send it a snapshot of what is applied, and say
    /// so by [`crate::Raft::snapshot_started`] at once. Asked again in later turns until then.
    StartSnapshot {
        /// Who needs it.
        to: ServerId,
    },
    /// The read may be answered once everything through this index is applied.
    ReadReady {
        /// Which.
        id: ReadId,
        /// Applied through here, the state reflects every write acknowledged before the read.
        index: Index,
    },
    /// Leadership was lost before it was confirmed: ask another server.
    ReadFailed {
        /// Which.
        id: ReadId,
    },
}

/// Why something was not done: nothing of it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// This server does not lead; the leader, if known.
    NotLeader(Option<ServerId>),
    /// The leader does not hear from a quorum.
    QuorumLost,
    /// Leadership is being handed over.
    Transferring,
    /// A bound is reached.
    Full {
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// No entry of the leader's term is committed yet: it does not know what is committed.
    NoCommit,
    /// Another change of the configuration is in flight.
    UnstableConfig,
    /// The caller saw another configuration than the one in force.
    StaleConfig {
        /// Entry of the configuration in force.
        in_force: Index,
        /// What the caller said.
        seen: Index,
    },
    /// The last voter cannot be removed.
    LastServer,
    /// Fewer voters than `min_majority` would be left.
    BelowMinMajority {
        /// How many would be left.
        left: usize,
        /// The bound.
        min_majority: usize,
    },
    /// The change could not be committed: too few of the voters that would be left are heard and hold
    /// the log.
    NoQuorumAfterwards {
        /// How many voters there would be.
        voters: usize,
        /// How many of them are needed.
        needed: usize,
        /// Those that are silent, unreachable, or do not acknowledge entries: they are refilled, say.
        missing: Vec<ServerId>,
    },
    /// A server that a change names is not what the change takes it for.
    WrongRole {
        /// Which server.
        server: ServerId,
        /// What it is in the configuration in force.
        role: MemberRole,
        /// What the change takes it for, in words.
        named_as: &'static str,
    },
    /// Not a voter of the configuration in force.
    NotAVoter(ServerId),
    /// This server never campaigns again.
    Retired,
    /// It has promised its vote to the leader for so long, for reads under a lease.
    Promised(Duration),
}
