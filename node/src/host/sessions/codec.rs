//! Sessions as bytes, for a snapshot: equal sessions, equal bytes.
//!
//! ```text
//! u64 time | u32 sessions | session...
//! session: u64 id | u64 last used | u64 acknowledged | u32 window_max | u32 reply_bytes_max
//!          | u32 slots | slot...
//! slot:    u64 sequence | u64 term | u64 index | u32 length + 1 of the reply, 0: none | reply
//! ```
//! All little-endian; sessions and slots in growing order.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use kontiki_raft::{Index, LogId, Term};

use super::{Session, SessionId, Sessions, Slot};
use crate::machine::View;

/// Bytes before the sessions; of a session before its slots; of a slot before its reply.
const HEAD_BYTES: usize = 12;
const SESSION_HEAD_BYTES: usize = 36;
const SLOT_HEAD_BYTES: usize = 28;

/// Bytes are not those of sessions; the text says what is wrong with them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sessions: {0}")]
pub struct DecodeError(&'static str);

impl Sessions {
    fn encode_head(&self, out: &mut Vec<u8>) {
        out.extend(self.time.to_le_bytes());
        out.extend((self.open.len() as u32).to_le_bytes());
    }

    fn encoded_bytes(&self) -> usize {
        let of = |session: &Arc<Session>| {
            let slots = SLOT_HEAD_BYTES * session.window.len();
            SESSION_HEAD_BYTES + slots + session.reply_bytes
        };
        HEAD_BYTES + self.open.values().map(of).sum::<usize>()
    }

    /// Reads back what a `SessionsView` wrote after the length, and nothing else.
    ///
    /// # Errors
    /// The bytes are cut short, too long, or break an invariant.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader(bytes);
        let mut sessions = Self {
            time: reader.u64()?,
            ..Self::default()
        };
        // No session has this id, and a view begins after it.
        let mut last = SessionId(0);
        for _ in 0..reader.u32()? {
            let id = SessionId(reader.u64()?);
            if id <= last {
                return Err(DecodeError("ids do not grow from 1 on"));
            }
            last = id;
            let session = reader.session()?;
            if session.last_used > sessions.time {
                return Err(DecodeError("a session was used in the future"));
            }
            sessions.bytes += session.bytes();
            sessions.idle.insert((session.last_used, id));
            sessions.open.insert(id, Arc::new(session));
        }
        match reader.0.is_empty() {
            true => Ok(sessions),
            false => Err(DecodeError("more bytes than sessions")),
        }
    }
}

impl Session {
    fn encode(&self, id: SessionId, out: &mut Vec<u8>) {
        for number in [id.0, self.last_used, self.acknowledged] {
            out.extend(number.to_le_bytes());
        }
        let slots = self.window.len() as u32;
        for number in [self.window_max, self.reply_bytes_max, slots] {
            out.extend(number.to_le_bytes());
        }
        for slot in &self.window {
            for number in [slot.sequence, slot.id.term.0, slot.id.index.0] {
                out.extend(number.to_le_bytes());
            }
            let reply = slot.reply.as_ref();
            let length = reply.map_or(0, |reply| reply.len() as u32 + 1);
            out.extend(length.to_le_bytes());
            out.extend_from_slice(slot.reply.as_deref().unwrap_or_default());
        }
    }
}

/// Writes sessions as they were when it was made, after their length in bytes, a u64. Cheap to make:
/// they are encoded as they are written, a session at a time.
#[derive(Debug)]
pub(in crate::host) struct SessionsView {
    sessions: Sessions,
    /// The last one that is written; `None`: nothing is.
    written: Option<SessionId>,
}

impl SessionsView {
    /// A view of these.
    pub(in crate::host) fn new(sessions: Sessions) -> Self {
        Self {
            sessions,
            written: None,
        }
    }
}

impl View for SessionsView {
    fn write(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        let before = out.len();
        let written = *self.written.get_or_insert_with(|| {
            out.extend((self.sessions.encoded_bytes() as u64).to_le_bytes());
            self.sessions.encode_head(out);
            SessionId(0)
        });
        let range = (Bound::Excluded(written), Bound::Unbounded);
        let mut rest = self.sessions.open.range(range).peekable();
        while out.len() - before < bytes_max
            && let Some((id, session)) = rest.next()
        {
            session.encode(*id, out);
            self.written = Some(*id);
        }
        rest.peek().is_some()
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(DecodeError("cut short"))?;
        self.0 = rest;
        Ok(head)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        let bytes = self.take(8)?.try_into().expect("8 bytes");
        Ok(u64::from_le_bytes(bytes))
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        let bytes = self.take(4)?.try_into().expect("4 bytes");
        Ok(u32::from_le_bytes(bytes))
    }

    fn session(&mut self) -> Result<Session, DecodeError> {
        let mut session = Session {
            last_used: self.u64()?,
            acknowledged: self.u64()?,
            window_max: self.u32()?,
            reply_bytes_max: self.u32()?,
            window: VecDeque::new(),
            reply_bytes: 0,
        };
        let mut last = session.acknowledged;
        for _ in 0..self.u32()? {
            let sequence = self.u64()?;
            let max = session
                .acknowledged
                .saturating_add(session.window_max.into());
            if sequence <= last || sequence > max {
                return Err(DecodeError("a sequence is out of its window"));
            }
            last = sequence;
            let (term, index) = (Term(self.u64()?), Index(self.u64()?));
            let reply = match self.u32()? {
                0 => None,
                length => Some(Bytes::copy_from_slice(self.take(length as usize - 1)?)),
            };
            session.reply_bytes += reply.as_ref().map_or(0, Bytes::len);
            let id = LogId { term, index };
            session.window.push_back(Slot {
                sequence,
                id,
                reply,
            });
        }
        if session.reply_bytes > session.reply_bytes_max as usize {
            return Err(DecodeError("more bytes of replies than a session keeps"));
        }
        Ok(session)
    }
}
