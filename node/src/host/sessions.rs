//! Sessions: exactly-once writes by (session, sequence), Raft thesis section 6.3.
//!
//! A session is opened by an entry, whose index is its id. A client numbers its writes, and repeats
//! one under the same number until it knows the outcome; what was applied already is answered from
//! here, and the machine is not asked again. Every decision follows from the entries alone: the
//! bounds and the time are the leader's, written into them, so that all servers decide alike.
//!
//! Whether a command is admitted depends on sequences only, never on the bytes of replies: a host
//! that applies in batches of another size decides the same.

mod codec;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use kontiki_raft::LogId;

pub use codec::DecodeError;
pub(super) use codec::SessionsView;

/// What a session is counted as, besides its window.
const SESSION_BYTES: usize = 192;
/// What a sequence in a window is counted as, besides its reply.
const SLOT_BYTES: usize = 64;

/// A session: the index of the entry that opened it, so it is unique for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What a client puts on a write in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which session.
    pub session: SessionId,
    /// Number of the write, from 1; the same however often it is sent.
    pub sequence: u64,
    /// The client will never again send this sequence or a smaller one: it knows their outcome, or
    /// does not care.
    pub acknowledged: u64,
}

/// Opens a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Of the leader, in milliseconds of replicated time.
    pub time: u64,
    /// Sessions that there may be with this one; those idle longest give way.
    pub sessions_max: u32,
    /// How far above the acknowledged sequence the session's sequences may go.
    pub window_max: u32,
    /// Bytes of replies that the session keeps; past it the replies of its smallest sequences are
    /// forgotten.
    pub reply_bytes_max: u32,
}

/// Moves the time on, and ends what is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Of the leader, in milliseconds of replicated time.
    pub time: u64,
    /// Sessions idle for so many milliseconds expire.
    pub ttl: u64,
    /// Bytes of all sessions; while there are more, the one idle longest expires.
    pub bytes_max: u64,
}

/// Whether a command is to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is new. What the machine answers is to be [remembered](Sessions::remember).
    Apply,
    /// It was applied, or will be with the batch that is being gathered.
    Repeated,
    /// It is not applied.
    Refused(SessionRefusal),
}

/// Why a command of a session is not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionRefusal {
    /// There is no such session (any more).
    #[error(
        "session {} is not open: it expired or was closed; the command was not applied now, and may \
         have been if it was sent before",
        .0.0
    )]
    Expired(SessionId),
    /// The sequence goes backwards.
    #[error(
        "sequence {sequence}: the client has acknowledged everything through {acknowledged}; the \
         command was not applied"
    )]
    AlreadyAcknowledged {
        /// Of the command.
        sequence: u64,
        /// What the session's client has said.
        acknowledged: u64,
    },
    /// The client must acknowledge first.
    #[error(
        "sequence {sequence} is more than {window_max} above the acknowledged {acknowledged}: \
         acknowledge more, then send it again"
    )]
    WindowFull {
        /// Of the command.
        sequence: u64,
        /// What the session's client has said.
        acknowledged: u64,
        /// The bound.
        window_max: u32,
    },
}

/// What became of a command that was applied before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The entry with which it was applied.
    pub id: LogId,
    /// The machine's reply; `None` if it is forgotten.
    pub reply: Option<Bytes>,
}

/// How many sessions there are, and what they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionsStatus {
    /// Open.
    pub open: usize,
    /// Roughly, in memory.
    pub bytes: usize,
    /// Replicated time, in milliseconds.
    pub time: u64,
}

/// All sessions of a cluster. A clone costs nothing: it shares everything until one of them changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    /// Milliseconds that leaders have seen pass. Invariant: never falls.
    time: u64,
    open: OrdMap<SessionId, Arc<Session>>,
    /// By when they were last used. Invariant: exactly the sessions of `open`.
    idle: OrdSet<(u64, SessionId)>,
    bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    last_used: u64,
    acknowledged: u64,
    window_max: u32,
    reply_bytes_max: u32,
    /// Invariant: sequences grow, from above `acknowledged` to at most `window_max` above it.
    window: VecDeque<Slot>,
    reply_bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    sequence: u64,
    id: LogId,
    /// `None` while the machine is being asked, and once it is forgotten.
    reply: Option<Bytes>,
}

impl Session {
    fn position(&self, sequence: u64) -> Result<usize, usize> {
        self.window
            .binary_search_by_key(&sequence, |slot| slot.sequence)
    }

    fn bytes(&self) -> usize {
        SESSION_BYTES + SLOT_BYTES * self.window.len() + self.reply_bytes
    }

    fn acknowledge(&mut self, sequence: u64) {
        self.acknowledged = self.acknowledged.max(sequence);
        let acknowledged = self.acknowledged;
        while let Some(slot) = self
            .window
            .pop_front_if(|slot| slot.sequence <= acknowledged)
        {
            self.reply_bytes -= slot.reply.map_or(0, |reply| reply.len());
        }
    }

    fn admit(&mut self, stamp: Stamp, id: LogId) -> Admission {
        let Stamp { sequence, .. } = stamp;
        self.acknowledge(stamp.acknowledged);
        let acknowledged = self.acknowledged;
        if sequence <= acknowledged {
            return Admission::Refused(SessionRefusal::AlreadyAcknowledged {
                sequence,
                acknowledged,
            });
        }
        if sequence - acknowledged > u64::from(self.window_max) {
            return Admission::Refused(SessionRefusal::WindowFull {
                sequence,
                acknowledged,
                window_max: self.window_max,
            });
        }
        match self.position(sequence) {
            Ok(_) => Admission::Repeated,
            Err(at) => {
                let reply = None;
                self.window.insert(
                    at,
                    Slot {
                        sequence,
                        id,
                        reply,
                    },
                );
                Admission::Apply
            }
        }
    }

    fn remember(&mut self, sequence: u64, reply: &[u8]) {
        // Not there: a later command of the same batch has acknowledged it.
        let Ok(at) = self.position(sequence) else {
            return;
        };
        self.window[at].reply = Some(Bytes::copy_from_slice(reply));
        self.reply_bytes += reply.len();
        let max = self.reply_bytes_max as usize;
        for slot in &mut self.window {
            if self.reply_bytes <= max {
                break;
            }
            self.reply_bytes -= slot.reply.take().map_or(0, |reply| reply.len());
        }
    }
}

impl Sessions {
    /// How many there are.
    pub fn status(&self) -> SessionsStatus {
        SessionsStatus {
            open: self.open.len(),
            bytes: self.bytes,
            time: self.time,
        }
    }

    /// Opens a session with the entry `id`; as many as stand in its way expire.
    pub fn open(&mut self, id: SessionId, opening: &Opening) {
        self.time = self.time.max(opening.time);
        while self.open.len() >= opening.sessions_max.max(1) as usize {
            self.expire_idle_longest();
        }
        let session = Session {
            last_used: self.time,
            acknowledged: 0,
            window_max: opening.window_max,
            reply_bytes_max: opening.reply_bytes_max,
            window: VecDeque::new(),
            reply_bytes: 0,
        };
        self.bytes += session.bytes();
        self.idle.insert((self.time, id));
        self.open.insert(id, Arc::new(session));
    }

    /// Closes a session, if it is open.
    pub fn close(&mut self, id: SessionId) {
        if let Some(session) = self.open.remove(&id) {
            self.idle.remove(&(session.last_used, id));
            self.bytes -= session.bytes();
        }
    }

    /// The only thing that makes sessions expire, besides the opening of one too many.
    pub fn tick(&mut self, clock: &Clock) {
        self.time = self.time.max(clock.time);
        let time = self.time;
        let is_over = |used: u64| used.saturating_add(clock.ttl) <= time;
        while self.idle.get_min().is_some_and(|(used, _)| is_over(*used)) {
            self.expire_idle_longest();
        }
        while self.bytes as u64 > clock.bytes_max && !self.open.is_empty() {
            self.expire_idle_longest();
        }
    }

    /// Decides on a command, the entry `id`, at the leader's `time`.
    pub fn admit(&mut self, time: u64, stamp: Stamp, id: LogId) -> Admission {
        self.time = self.time.max(time);
        let Some(session) = self.open.get_mut(&stamp.session) else {
            return Admission::Refused(SessionRefusal::Expired(stamp.session));
        };
        let session = Arc::make_mut(session);
        if session.last_used != self.time {
            self.idle.remove(&(session.last_used, stamp.session));
            self.idle.insert((self.time, stamp.session));
            session.last_used = self.time;
        }
        let before = session.bytes();
        let admission = session.admit(stamp, id);
        self.bytes = self.bytes + session.bytes() - before;
        admission
    }

    /// Keeps the machine's reply to a command that was admitted.
    pub fn remember(&mut self, session: SessionId, sequence: u64, reply: &[u8]) {
        if let Some(found) = self.open.get_mut(&session) {
            let found = Arc::make_mut(found);
            let before = found.bytes();
            found.remember(sequence, reply);
            self.bytes = self.bytes + found.bytes() - before;
        }
    }

    /// What became of a command that was applied before and is not acknowledged.
    pub fn remembered(&self, session: SessionId, sequence: u64) -> Option<Remembered> {
        let session = self.open.get(&session)?;
        let slot = &session.window[session.position(sequence).ok()?];
        Some(Remembered {
            id: slot.id,
            reply: slot.reply.clone(),
        })
    }

    fn expire_idle_longest(&mut self) {
        if let Some((_, id)) = self.idle.get_min().copied() {
            self.close(id);
        }
    }
}

#[cfg(test)]
mod tests;
