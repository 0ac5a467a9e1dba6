//! What travels between servers: a message, and what its sender says of itself.

use std::ops::RangeInclusive;

use bytes::Bytes;
use kontiki_raft::{ClusterId, Index, Message, ServerId};

use super::settings::Settings;
use crate::host::Digest;
use crate::machine::Version;

/// A message between two servers of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Cluster of the sender.
    pub cluster: ClusterId,
    /// The sender.
    pub from: ServerId,
    /// The exact incarnation that it is meant for; any other drops it.
    pub to: ServerId,
    /// What is said.
    pub message: Message,
    /// With an append: its entries as the log stores them. With a piece of a snapshot: its bytes,
    /// with a checksum. Empty otherwise.
    pub batch: Bytes,
    /// What the sender says of its host.
    pub host: HostReport,
}

/// What a server tells the others of its host, beside whatever it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostReport {
    /// Versions of the machine that it runs, if it says.
    pub versions: Option<RangeInclusive<Version>>,
    /// With the acknowledgement of a heartbeat: its last digest, if it has one.
    pub digest: Option<Digest>,
    /// With the acknowledgement of a regular heartbeat: what it is configured with.
    pub settings: Option<Box<Settings>>,
    /// It has stopped applying.
    pub is_quarantined: bool,
    /// See [`kontiki_raft::Config::election_priority`].
    pub election_priority: u8,
    /// With the acknowledgement of a heartbeat: its machine has applied everything through here. A
    /// program from before this was reported does not say.
    pub applied: Option<Index>,
    /// Hash of the initial voters of its cluster; 0: it does not know. See `driver/origin`.
    pub origin: u64,
}

/// How a connection to a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The stream broke; whether the peer lives is not known.
    Broken,
    /// A redial was refused, or another server answered at the address: the incarnation is gone,
    /// or its process is.
    Gone,
}
