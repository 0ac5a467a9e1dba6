//! Between servers: streams in and out, bounded queues, wire <-> message.
//!
//! Each pair of servers has three *lanes*, liveness, entries and snapshots, and each lane up to two streams, one
//! dialled by either side. A request goes out on the stream that this server dialled; its answer
//! comes back on a stream of that lane that the other side dialled, or on any other of its streams if there
//! is none. Whatever does not fit into a queue is dropped and counted: Raft sends
//! it again.

mod dial;
mod hello;
mod inbound;
mod links;
mod outbox;
mod wire;

/// What is fuzzed by itself.
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz {
    pub(crate) use super::hello::greeted;
    pub(crate) use super::wire::{decode, encode};
}

pub(crate) use dial::endpoint;
pub use inbound::PeerService;
pub use links::Links;
use outbox::Outbox;

use kontiki_raft::{Message, ServerId};

use crate::driver::{COMMAND_BYTES_SAFE, Loss};

/// Traffic that has a connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Votes, heartbeats, transfer.
    Liveness = 0,
    /// Appends and their acknowledgements.
    Entries = 1,
    /// Snapshots in pieces. That it is down says nothing of the peer.
    Snapshots = 2,
}

impl Lane {
    /// All.
    pub const ALL: [Self; 3] = [Self::Liveness, Self::Entries, Self::Snapshots];

    /// Of a message.
    pub fn of(message: &Message) -> Self {
        if message.is_of_snapshot() {
            Self::Snapshots
        } else if message.is_bulk() {
            Self::Entries
        } else {
            Self::Liveness
        }
    }

    /// As metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Liveness => "liveness",
            Self::Entries => "entries",
            Self::Snapshots => "snapshots",
        }
    }
}

/// What happened to a stream, for the owner of all of them.
#[derive(Debug)]
pub enum LinkEvent {
    /// The lane that this server dials is up.
    Up(ServerId, Lane),
    /// It is down, or could not be brought up; the next attempt sends what is put into this outbox.
    /// The loss is told once for every time it gets worse.
    Down(ServerId, Lane, Option<Loss>, Outbox),
    /// A peer dialled in: its answers go here.
    Accepted(ServerId, Lane, u64, Outbox),
    /// That stream ended.
    Closed(ServerId, Lane, u64),
}

/// Largest message on a peer connection: a batch of one entry at the bound of a command, or a full
/// batch, and some room around it.
pub(crate) fn message_bytes_max(command_bytes_max: usize) -> usize {
    command_bytes_max.max(COMMAND_BYTES_SAFE) + (1 << 20)
}
