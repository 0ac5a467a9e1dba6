//! The Raft algorithm: no sockets, no clock, no threads, no logging, no randomness but from a seed.
//!
//! [`Raft`] is one server. Everything it learns comes in by a call, with the time; everything it
//! wants comes out as data. It keeps the *metadata* of the log (index, term, kind, size); the
//! payloads are its driver's, and outputs name ranges of the log.
//!
//! # What the driver must do
//!
//! 1. Begin every turn with [`Raft::tick`], and take one at the latest when the last one's
//!    [`Raft::finish`] said so.
//! 2. After *every* call, perform [`Raft::take_log_changes`] on its own log, in order, before the
//!    next call. What is proposed with [`Raft::propose`] it appends itself. Say by [`Raft::created`]
//!    how large an entry of the engine's is.
//! 3. Tell [`Raft::persisted`] what of the log has become persistent, with the
//!    [`Raft::generation`] that was in force when it was written. In memory mode that is at once.
//! 4. Hand in only messages of this cluster that are addressed to exactly this [`ServerId`].
//! 5. End the turn with [`Raft::finish`], and perform its outputs in order: encode the range that an
//!    append names before the next turn changes the log.
//! 6. Apply what [`Raft::commit`] covers, in order; answer a read when what its output names is
//!    applied.
//! 7. Compact with [`Raft::compact`], as far as [`Raft::compactable`] says and after the outputs
//!    are performed. Keep the state that covers what is compacted, and the configuration with it.
//! 8. When [`Output::StartSnapshot`] asks, take the state as it is, name what it covers to
//!    [`Raft::snapshot_started`], and send it in pieces for as long as [`Raft::snapshot_for`] says so.
//!    Say by [`Raft::snapshot_delivered`] when all of it is acknowledged.
//!    Assemble the pieces that [`Raft::wants_snapshot`], acknowledge each, verify the whole, restore
//!    the state, and tell [`Raft::install_snapshot`].
//! 9. Never start a server with a [`ServerId`] whose log and vote are lost. Started with durable ones
//!    it may have promised its vote away: call [`Raft::hold_votes`] first.
//! 10. Say by [`Raft::set_lease_reads`] what the log says of leases, once that is applied. Take in what
//!     is asked before the clock is read for [`Raft::tick`]: a lease is judged by that time.
//!
//! ```
//! use kontiki_raft::*;
//! use std::time::Duration;
//!
//! let id = ServerId(1);
//! let mut now = Time(0);
//! let mut raft = Raft::new(id, Config::default(), now);
//! raft.bootstrap(now, Configuration::of([id]));
//! let mut outputs = Vec::new();
//! while raft.commit() < Index(3) {
//!     raft.tick(now);
//!     if raft.role() == Role::Leader && raft.last().index < Index(3) {
//!         raft.propose(now, [(EntryKind::Command, 5)]).unwrap();
//!     }
//!     loop {
//!         let changes = raft.take_log_changes(); // a real driver changes its own log
//!         raft.persisted(now, raft.last(), raft.generation());
//!         if changes.is_empty() {
//!             break;
//!         }
//!     }
//!     let due = raft.finish(now, &mut outputs); // a real driver sends and answers
//!     now = due.min(now + Duration::from_millis(10));
//! }
//! assert_eq!(raft.leader(), Some(id));
//! ```
//!
//! # Where what is
//!
//! `raft` the state, the inputs, the end of a turn; `view` what others may see; `propose` new entries; `election`,
//! `stand_in`, `nomination`, `replication`, `membership`, `reads`, `follower_reads`, `freshness`, `lease`,
//! `transfer`, `snapshot` the handlers by topic; `log`, `progress`, `catch_up`, `refill`, `quorum`,
//! `configuration` leaves that know no messages; `invariant` what
//! always holds.
//!
//! # Caveats
//!
//! - A snapshot is sent by the leader only, never by a follower.
//! - Votes and terms are persistent only as far as the server itself: an incarnation that loses its
//!   memory must never come back under the same id (duty 9). A durable driver needs an output that
//!   says when they change, which comes with durable storage.
//! - Reads confirm leadership by a round of heartbeats. Only reads under a lease (thesis section 6.4.1)
//!   and the age of bounded ones depend on clocks: each may run fast or slow by at most
//!   [`CLOCK_DRIFT_PPM_MAX`].

#![deny(missing_docs)]

mod catch_up;
mod config;
mod configuration;
mod election;
mod follower_reads;
mod freshness;
mod invariant;
mod lease;
mod log;
mod membership;
mod message;
mod nomination;
mod output;
mod progress;
#[cfg(test)]
mod properties;
mod propose;
mod quorum;
mod raft;
mod random;
mod reads;
mod refill;
mod replication;
mod snapshot;
mod stand_in;
mod transfer;
mod types;
mod view;

pub use config::{Config, ELECTION_PRIORITY_MAX};
pub use configuration::{Configuration, MemberRole, Purpose};
pub use lease::CLOCK_DRIFT_PPM_MAX;
pub use log::{EntryKind, EntryMeta, LogChange};
pub use membership::{ChangeRequest, SERVERS_MAX};
pub use message::{
    Append, AppendAck, AppendOutcome, Beat, BeatAck, Freshness, Heartbeat, HeartbeatAck, Message,
    ReadIndex, ReadIndexReply, SnapshotAck, SnapshotChunk, SnapshotId, SnapshotOutcome, TimeoutNow,
    Vote, VoteReply,
};
pub use output::{Output, ReadId, Refused};
pub use raft::Raft;
pub use transfer::Eligibility;
pub use types::{ClusterId, Index, LogId, ServerId, Term, Time};
pub use view::{PeerProgress, PeerRefill, Role};
