//! Entries that are neither the engine's nor the machine's.
//!
//! A payload begins with a tag of one byte; numbers are little-endian.

use kontiki_raft::Index;

use super::Digest;
use super::sessions::{Clock, Opening, SessionId, Stamp};
use crate::machine::Version;

const ACTIVATE: u8 = 1;
const VERSION: u8 = 2;
const CHECKPOINT: u8 = 3;
const VERDICT: u8 = 4;
const OPEN_SESSION: u8 = 5;
const CLOSE_SESSION: u8 = 6;
const CLOCK: u8 = 7;
const IN_SESSION: u8 = 8;
const LEASE_READS: u8 = 9;

/// What a control entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control<'a> {
    /// Client writes are accepted from here on. A version entry comes before it.
    Activate,
    /// Commands after this entry are applied under this version of the machine.
    Version(Version),
    /// Every server takes a digest of its state as it is here.
    Checkpoint,
    /// A majority of voters found this digest at the checkpoint that it names.
    Verdict(Digest),
    /// Opens a session, whose id is the index of the entry.
    OpenSession(Opening),
    /// Closes one.
    CloseSession(SessionId),
    /// Time has passed.
    Clock(Clock),
    /// Reads under a lease are on from here on, or off.
    LeaseReads(bool),
    /// A command of the machine, to be applied once.
    InSession {
        /// Of the leader, in milliseconds of replicated time.
        time: u64,
        /// Which one.
        stamp: Stamp,
        /// For the machine.
        command: &'a [u8],
    },
}

impl<'a> Control<'a> {
    /// The payload of the entry.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Activate => vec![ACTIVATE],
            Self::Version(version) => {
                let mut out = vec![VERSION];
                out.extend(version.to_le_bytes());
                out
            }
            Self::Checkpoint => vec![CHECKPOINT],
            Self::Verdict(Digest { index, value }) => tagged(VERDICT, &[index.0, *value]),
            Self::OpenSession(opening) => {
                let mut out = tagged(OPEN_SESSION, &[opening.time]);
                for bound in [
                    opening.sessions_max,
                    opening.window_max,
                    opening.reply_bytes_max,
                ] {
                    out.extend(bound.to_le_bytes());
                }
                out
            }
            Self::CloseSession(session) => tagged(CLOSE_SESSION, &[session.0]),
            Self::Clock(clock) => tagged(CLOCK, &[clock.time, clock.ttl, clock.bytes_max]),
            Self::LeaseReads(are_on) => vec![LEASE_READS, u8::from(*are_on)],
            Self::InSession {
                time,
                stamp,
                command,
            } => {
                let numbers = [*time, stamp.session.0, stamp.sequence, stamp.acknowledged];
                let mut out = Vec::with_capacity(1 + 8 * numbers.len() + command.len());
                out.push(IN_SESSION);
                out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
                out.extend_from_slice(command);
                out
            }
        }
    }

    /// Reads a payload back. `None` if this program knows no such entry.
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let (tag, mut rest) = payload.split_first()?;
        let rest = &mut rest;
        let control = match *tag {
            ACTIVATE => Self::Activate,
            VERSION => Self::Version(u32(rest)?),
            CHECKPOINT => Self::Checkpoint,
            VERDICT => Self::Verdict(Digest {
                index: Index(u64(rest)?),
                value: u64(rest)?,
            }),
            OPEN_SESSION => Self::OpenSession(Opening {
                time: u64(rest)?,
                sessions_max: u32(rest)?,
                window_max: u32(rest)?,
                reply_bytes_max: u32(rest)?,
            }),
            CLOSE_SESSION => Self::CloseSession(SessionId(u64(rest)?)),
            CLOCK => Self::Clock(Clock {
                time: u64(rest)?,
                ttl: u64(rest)?,
                bytes_max: u64(rest)?,
            }),
            LEASE_READS => match rest.split_off_first()? {
                0 => Self::LeaseReads(false),
                1 => Self::LeaseReads(true),
                _ => return None,
            },
            IN_SESSION => Self::InSession {
                time: u64(rest)?,
                stamp: Stamp {
                    session: SessionId(u64(rest)?),
                    sequence: u64(rest)?,
                    acknowledged: u64(rest)?,
                },
                command: std::mem::take(rest),
            },
            _ => return None,
        };
        rest.is_empty().then_some(control)
    }
}

fn tagged(tag: u8, numbers: &[u64]) -> Vec<u8> {
    let numbers = numbers.iter().flat_map(|number| number.to_le_bytes());
    std::iter::once(tag).chain(numbers).collect()
}

fn u64(bytes: &mut &[u8]) -> Option<u64> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*head))
}

fn u32(bytes: &mut &[u8]) -> Option<u32> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_comes_back_as_it_was_and_nothing_shorter_does() {
        let stamp = Stamp {
            session: SessionId(7),
            sequence: 8,
            acknowledged: 6,
        };
        let entries = [
            Control::Activate,
            Control::Version(7),
            Control::Checkpoint,
            Control::Verdict(Digest {
                index: Index(1 << 40),
                value: 0x0123_4567_89ab_cdef,
            }),
            Control::OpenSession(Opening {
                time: 1 << 40,
                sessions_max: 2,
                window_max: 3,
                reply_bytes_max: 4,
            }),
            Control::CloseSession(SessionId(9)),
            Control::Clock(Clock {
                time: 1,
                ttl: 2,
                bytes_max: 3,
            }),
            Control::LeaseReads(true),
            Control::LeaseReads(false),
            Control::InSession {
                time: 5,
                stamp,
                command: b"",
            },
        ];
        for entry in entries {
            let payload = entry.encode();
            assert_eq!(Control::decode(&payload), Some(entry));
            let longer = [&payload[..], b"x"].concat();
            let takes_more = matches!(entry, Control::InSession { .. });
            assert_eq!(Control::decode(&longer).is_some(), takes_more, "{entry:?}");
            for cut in 0..payload.len() {
                assert_eq!(Control::decode(&payload[..cut]), None, "{payload:?}");
            }
        }
        let with_command = Control::InSession {
            time: 5,
            stamp,
            command: b"hello",
        };
        assert_eq!(Control::decode(&with_command.encode()), Some(with_command));
        assert_eq!(Control::decode(b"\xffof a later program"), None);
    }
}
