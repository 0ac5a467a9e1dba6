//! What is asked of a host, and what comes back.

use bytes::Bytes;
use kontiki_raft::{ClusterId, Index, LogId, Role, ServerId};

use super::{Digest, Discarded, HostView, Quarantine, SessionId, SessionsStatus};
use crate::driver::{Answer, Refusal};
use crate::machine::{Effects, StopReason, Version};

/// Something for the host to do. Jobs are done in the order in which they are given.
#[derive(Debug)]
pub enum Job<R> {
    /// Apply encoded entries, which follow those applied before.
    Apply {
        /// Whole entries, as the log stores them.
        batch: Bytes,
        /// How many.
        count: usize,
    },
    /// Answer a query.
    Read {
        /// For the machine.
        query: Bytes,
        /// Who asks.
        reply: R,
    },
    /// Hash a piece of the state at the last checkpoint.
    Digest,
    /// The role of this server changed.
    Role(Role),
    /// Freeze the state, to be sent.
    Snapshot {
        /// To whom.
        to: ServerId,
    },
    /// Take in the next piece of a snapshot, beside the state that is in use.
    Receive {
        /// Which snapshot: what was taken in of another one is dropped.
        attempt: u64,
        /// The next bytes of what a [`HostView`] wrote.
        piece: Bytes,
    },
    /// Drop what was taken in of a snapshot.
    GiveUp,
    /// All of a snapshot was taken in, and verified: use that state from here on.
    Restore {
        /// The last entry that it covers.
        last: LogId,
    },
    /// The server ends.
    Stop(StopReason),
}

/// What a job came to.
#[derive(Debug)]
pub enum Done<R> {
    /// Entries were applied.
    Applied(Box<Batch>),
    /// A query was answered.
    Read {
        /// Who asked.
        reply: R,
        /// The answer.
        result: Result<Answer, Refusal>,
        /// The machine is in quarantine.
        quarantine: Option<Quarantine>,
    },
    /// A piece of the state was hashed; where that leaves the host.
    Digested(HostStatus),
    /// The machine was told its role; these effects run whatever it is.
    Told(Effects),
    /// The state is frozen.
    Snapshot {
        /// To whom it is to be sent.
        to: ServerId,
        /// As it is.
        view: HostView,
    },
    /// A piece of a snapshot was taken in.
    Received {
        /// Which snapshot.
        attempt: u64,
        /// Bytes that are held of it; or why it cannot be taken in.
        result: Result<usize, String>,
    },
    /// A snapshot was given up; this is left of it.
    GaveUp(Discarded),
    /// The state is taken over; or it could not be, the text says why, and the own is still there.
    Restored(Result<HostStatus, String>),
    /// The machine was told that the server ends.
    Stopped,
    /// The machine panicked, now or before.
    Quarantined(Quarantine),
}

/// Entries that were applied, in order.
#[derive(Debug, Default)]
pub struct Batch {
    /// Each with what it came to.
    pub entries: Vec<Applied>,
    /// To be run where the entry's leader is.
    pub effects: Effects,
    /// Afterwards.
    pub status: HostStatus,
    /// Why the rest of what was to be applied is not, if so.
    pub quarantine: Option<Quarantine>,
}

/// An entry that was applied.
#[derive(Debug)]
pub struct Applied {
    /// Which.
    pub id: LogId,
    /// What it came to.
    pub outcome: Outcome,
}

impl Applied {
    /// Whether it is a command that was applied before, and so not again.
    pub fn is_repeated(&self) -> bool {
        let forgotten = matches!(&self.outcome, Outcome::Refused(Refusal::ReplyForgotten(_)));
        forgotten || matches!(&self.outcome, Outcome::Repeated { .. })
    }

    /// For whoever waits for the entry, at the leader of this cluster.
    pub fn into_answer(self, cluster: Option<ClusterId>) -> Result<Answer, Refusal> {
        Ok(match self.outcome {
            Outcome::Reply(reply) => Answer::Written { reply, id: self.id },
            // The place of the first: that is where it was applied.
            Outcome::Repeated { reply, id } => Answer::Written { reply, id },
            Outcome::Refused(why) => return Err(why),
            Outcome::Activated(index) => Answer::Activated(index),
            Outcome::SessionOpened(session) => Answer::SessionOpened {
                cluster: cluster.expect("a leader has a cluster"),
                session,
            },
            Outcome::Nothing => Answer::Done,
        })
    }
}

/// What an entry came to.
#[derive(Debug)]
pub enum Outcome {
    /// The machine's reply.
    Reply(Vec<u8>),
    /// The machine's reply to an earlier entry, which this one repeats.
    Repeated {
        /// What it answered then.
        reply: Vec<u8>,
        /// That entry.
        id: LogId,
    },
    /// A command of a session that was not applied.
    Refused(Refusal),
    /// A session is open.
    SessionOpened(SessionId),
    /// Client writes are accepted since this entry.
    Activated(Index),
    /// Nothing to tell.
    Nothing,
}

/// Where a host stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostStatus {
    /// The last entry applied.
    pub applied: LogId,
    /// The first Activate entry, once applied.
    pub activated: Option<Index>,
    /// Reads under a lease are on.
    pub lease_reads: bool,
    /// Version of the machine in force; 0 before the first is.
    pub version: Version,
    /// Commands and configurations applied since the last checkpoint.
    pub unchecked: u64,
    /// The state at a checkpoint is being hashed: [`Job::Digest`] goes on with it.
    pub hashing: bool,
    /// What the last checkpoint that was hashed came to.
    pub digest: Option<Digest>,
    /// Open sessions.
    pub sessions: SessionsStatus,
    /// Bytes of the machine's state, as it says.
    pub machine_bytes: usize,
}
