//! What members of the cluster say, made of fields: any message, with any numbers in it, and batches
//! that decode or do not.

use std::time::Duration;

use bytes::Bytes;
use kontiki_raft::{
    Append, AppendAck, AppendOutcome, Beat, BeatAck, ClusterId, Configuration, EntryKind,
    Freshness, Heartbeat, HeartbeatAck, Index, LogId, Message, Purpose, ReadIndex, ReadIndexReply,
    ServerId, SnapshotAck, SnapshotChunk, SnapshotId, SnapshotOutcome, Term, Time, TimeoutNow,
    Vote, VoteReply,
};

use super::codecs::written;
use super::fields::Fields;
use crate::config::MachineKind;
use crate::driver::fuzz::{Header, seal};
use crate::driver::{Envelope, HostReport, Settings, Status};
use crate::entry;
use crate::host::{Clock, Control, Digest, Host, Opening, SessionId, Stamp};

pub(super) const CLUSTER: ClusterId = ClusterId(0xc1);
/// The server that is real.
pub(super) const ME: ServerId = ServerId(1);
/// The voters it is bootstrapped with. Others are servers that a change may add.
pub(super) const VOTERS: [ServerId; 3] = [ME, ServerId(2), ServerId(3)];
/// Servers that have a name; any other id comes as a number.
const NAMED: u8 = 16;
/// Entries of one append.
const ENTRIES_MAX: u8 = 8;

/// Settings with which nothing fits, if it is one that says any.
fn extreme_settings(from: ServerId) -> Option<Box<Settings>> {
    let extreme = |is_most: bool| if is_most { u64::MAX } else { 0 };
    let is_odd = from.0 % 2 == 1;
    (from.0 % 4 < 2).then(|| {
        Box::new(Settings {
            heartbeat: Duration::from_nanos(extreme(is_odd)),
            election_timeout_min: Duration::from_nanos(extreme(!is_odd)),
            election_timeout_max: Duration::MAX,
            min_majority: extreme(is_odd) as u32,
            election_priority: extreme(!is_odd) as u8,
            lease_reads: is_odd,
            uncommitted_bytes_max: extreme(is_odd),
            command_bytes_max: extreme(!is_odd),
            state_bytes_max: is_odd.then_some(u64::MAX - 1),
            snapshot_bytes_max: extreme(!is_odd),
        })
    })
}

/// Kinds of messages by the byte that names them; others are nothing.
pub(super) mod kind {
    pub(in crate::fuzz) const VOTE: u8 = 0;
    pub(in crate::fuzz) const VOTE_REPLY: u8 = 1;
    pub(in crate::fuzz) const APPEND: u8 = 2;
    pub(in crate::fuzz) const APPEND_ACCEPTED: u8 = 3;
    pub(in crate::fuzz) const APPEND_REJECTED: u8 = 4;
    pub(in crate::fuzz) const HEARTBEAT: u8 = 5;
    pub(in crate::fuzz) const HEARTBEAT_ACK: u8 = 6;
    pub(in crate::fuzz) const TIMEOUT_NOW: u8 = 7;
    pub(in crate::fuzz) const SNAPSHOT_CHUNK: u8 = 8;
    pub(in crate::fuzz) const SNAPSHOT_RECEIVED: u8 = 9;
    pub(in crate::fuzz) const SNAPSHOT_REFUSED: u8 = 10;
    pub(in crate::fuzz) const READ_INDEX: u8 = 11;
    pub(in crate::fuzz) const READ_INDEX_REPLY: u8 = 12;
}

/// Says what comes from members, near what a server knows.
pub(super) struct Speaker<'a, 'b> {
    pub(super) fields: &'a mut Fields<'b>,
    pub(super) status: &'a Status,
    /// How often this step was taken before: a number for a server is another one each time.
    pub(super) repeats: u64,
}

impl Speaker<'_, '_> {
    pub(super) fn server(&mut self) -> ServerId {
        match self.fields.byte() {
            named if named < NAMED => ServerId(named.into()),
            _ => ServerId(self.fields.number(&[2]).wrapping_add(self.repeats)),
        }
    }

    pub(super) fn term(&mut self) -> Term {
        Term(self.fields.number(&[self.status.standing.term.0]))
    }

    pub(super) fn index(&mut self) -> Index {
        let status = self.status;
        let near = [
            status.last.index,
            status.commit,
            status.applied,
            status.first,
        ];
        Index(self.fields.number(&near.map(|index| index.0)))
    }

    pub(super) fn id(&mut self) -> LogId {
        let status = self.status;
        let index = self.index();
        let near = [status.last.term.0, status.standing.term.0];
        let term = Term(self.fields.number(&near));
        LogId { term, index }
    }

    /// `None`: a kind that means nothing.
    pub(super) fn envelope(&mut self) -> Option<Envelope> {
        let kind = self.fields.byte();
        let from = self.server();
        let flags = self.fields.byte();
        let term = self.term();
        let mut batch = Bytes::new();
        let message = match kind {
            kind::VOTE => Message::Vote(Vote {
                term,
                last: self.id(),
                pre: flags & 1 != 0,
                forced: flags & 2 != 0,
                released: (flags & 128 != 0).then(|| self.term()),
            }),
            kind::VOTE_REPLY => Message::VoteReply(VoteReply {
                term,
                granted: flags & 1 == 0,
                pre: flags & 2 != 0,
            }),
            kind::APPEND => {
                let (append, entries) = self.append(term, flags);
                batch = entries;
                Message::Append(append)
            }
            kind::APPEND_ACCEPTED => self.append_ack(term, true),
            kind::APPEND_REJECTED => self.append_ack(term, false),
            kind::HEARTBEAT => Message::Heartbeat(Heartbeat {
                term,
                commit: self.index(),
                round: self.fields.number(&[1]),
                beat: (flags & 128 != 0).then(|| self.beat()),
            }),
            kind::HEARTBEAT_ACK => Message::HeartbeatAck(HeartbeatAck {
                term,
                round: self.fields.number(&[1]),
                beat: (flags & 128 != 0).then(|| self.beat_ack()),
            }),
            kind::TIMEOUT_NOW => Message::TimeoutNow(TimeoutNow {
                term,
                last: self.id(),
                sent: Time(self.fields.number(&[1])),
            }),
            kind::SNAPSHOT_CHUNK => {
                let (chunk, bytes) = self.chunk(term);
                batch = bytes;
                Message::SnapshotChunk(chunk)
            }
            kind::SNAPSHOT_RECEIVED => {
                let received = self.fields.number(&[64]);
                self.snapshot_ack(term, SnapshotOutcome::Received(received))
            }
            kind::SNAPSHOT_REFUSED => self.snapshot_ack(term, SnapshotOutcome::Refused),
            kind::READ_INDEX => Message::ReadIndex(ReadIndex {
                id: self.fields.number(&[1]),
            }),
            kind::READ_INDEX_REPLY => Message::ReadIndexReply(ReadIndexReply {
                id: self.fields.number(&[1]),
                index: (flags & 128 == 0).then(|| self.index()),
            }),
            _ => return None,
        };
        let digest = (flags & 4 != 0).then(|| Digest {
            index: self.index(),
            value: self
                .fields
                .number(&[self.status.digest.map_or(0, |own| own.value)]),
        });
        let versions = match flags & 8 {
            0 => Some(1..=1),
            _ => {
                let low = self.fields.number(&[1]) as u32;
                Some(low..=self.fields.number(&[1]) as u32)
            }
        };
        Some(Envelope {
            cluster: match flags & 16 {
                0 => CLUSTER,
                _ => ClusterId(self.fields.number(&[CLUSTER.0])),
            },
            from,
            to: match flags & 32 {
                0 => ME,
                _ => self.server(),
            },
            message,
            batch,
            host: HostReport {
                versions: versions.filter(|range| 1 <= *range.start() && !range.is_empty()),
                digest,
                settings: extreme_settings(from),
                is_quarantined: flags & 64 != 0,
                election_priority: from.0 as u8,
                applied: digest.map(|digest| digest.index),
                origin: 0,
            },
        })
    }

    fn beat(&mut self) -> Beat {
        Beat {
            sent: Time(self.fields.number(&[1])),
            lease: Duration::from_millis(self.fields.number(&[500])),
            fresh: Some(Freshness {
                as_of: Time(self.fields.number(&[1])),
                index: self.index(),
            }),
        }
    }

    fn beat_ack(&mut self) -> BeatAck {
        BeatAck {
            sent: Time(self.fields.number(&[1])),
            at: Time(self.fields.number(&[1])),
            promise: Duration::from_millis(self.fields.number(&[500])),
        }
    }

    fn append_ack(&mut self, term: Term, is_accepted: bool) -> Message {
        let index = self.index();
        let outcome = match is_accepted {
            true => AppendOutcome::Accepted(index),
            false => AppendOutcome::Rejected {
                prev: index,
                hint: self.id(),
            },
        };
        Message::AppendAck(AppendAck { term, outcome })
    }

    fn snapshot_ack(&mut self, term: Term, outcome: SnapshotOutcome) -> Message {
        Message::SnapshotAck(SnapshotAck {
            term,
            id: SnapshotId {
                number: self.fields.number(&[1]),
                last: self.id(),
            },
            outcome,
        })
    }

    /// With flag 128 the batch is any bytes.
    fn append(&mut self, term: Term, flags: u8) -> (Append, Bytes) {
        let prev = self.id();
        let commit = self.index();
        let mut index = prev.index;
        let mut batch = Vec::new();
        if flags & 128 != 0 {
            batch.extend_from_slice(self.fields.long_bytes());
        } else {
            for _ in 0..self.fields.byte() % ENTRIES_MAX {
                index = Index(index.0.wrapping_add(1));
                let near = [term.0, prev.term.0];
                let term = Term(self.fields.number(&near));
                self.entry(LogId { term, index }, &mut batch);
            }
        }
        let last = match self.fields.byte() {
            255 => self.index(),
            _ => index,
        };
        let append = Append {
            term,
            prev,
            last,
            commit,
        };
        (append, batch.into())
    }

    fn entry(&mut self, id: LogId, batch: &mut Vec<u8>) {
        let (kind, payload) = match self.fields.byte() {
            0 => (EntryKind::Noop, Vec::new()),
            1 => (EntryKind::Command, self.fields.bytes().to_vec()),
            2 => {
                let configuration = self.configuration();
                (
                    EntryKind::Configuration(Box::new(configuration)),
                    Vec::new(),
                )
            }
            3 => (EntryKind::Control, self.control()),
            4 => (EntryKind::Control, self.fields.bytes().to_vec()),
            // Many bytes for two.
            5 => {
                let bytes = usize::from(self.fields.byte()) * 16;
                (EntryKind::Command, vec![b'0'; bytes])
            }
            _ => (EntryKind::Command, vec![b'7']),
        };
        entry::encode(id, &kind, &payload, batch);
    }

    pub(super) fn configuration(&mut self) -> Configuration {
        let mut configuration = Configuration::of(self.servers());
        if self.fields.byte() & 1 != 0 {
            configuration.outgoing = Some(self.servers().into_iter().collect());
        }
        for learner in self.servers() {
            let purpose = self.purpose();
            configuration.learners.insert(learner, purpose);
        }
        configuration
    }

    /// A bit for each of the first eight.
    pub(super) fn servers(&mut self) -> Vec<ServerId> {
        let bits = self.fields.byte();
        let named = (0..8).filter(|at| bits & (1 << at) != 0);
        named.map(|at| ServerId(at + 1)).collect()
    }

    pub(super) fn purpose(&mut self) -> Purpose {
        match self.fields.byte() % 3 {
            0 => Purpose::Stay,
            1 => Purpose::Join,
            _ => Purpose::Replace(self.server()),
        }
    }

    fn control(&mut self) -> Vec<u8> {
        let time = self.status.sessions.time;
        let control = match self.fields.byte() {
            0 => Control::Activate,
            1 => Control::Version(self.fields.number(&[1]) as u32),
            2 => Control::Checkpoint,
            3 => Control::Verdict(Digest {
                index: self.index(),
                value: self
                    .fields
                    .number(&[self.status.digest.map_or(0, |own| own.value)]),
            }),
            4 => Control::OpenSession(Opening {
                time: self.fields.number(&[time]),
                sessions_max: self.fields.number(&[2]) as u32,
                window_max: self.fields.number(&[4]) as u32,
                reply_bytes_max: self.fields.number(&[16]) as u32,
            }),
            5 => Control::CloseSession(SessionId(self.index().0)),
            6 => Control::Clock(Clock {
                time: self.fields.number(&[time]),
                ttl: self.fields.number(&[1000]),
                bytes_max: self.fields.number(&[1000]),
            }),
            _ => {
                let stamp = self.stamp();
                let time = self.fields.number(&[time]);
                let command = self.fields.bytes();
                return Control::InSession {
                    time,
                    stamp,
                    command,
                }
                .encode();
            }
        };
        control.encode()
    }

    pub(super) fn stamp(&mut self) -> Stamp {
        Stamp {
            session: SessionId(self.index().0),
            sequence: self.fields.number(&[1]),
            acknowledged: self.fields.number(&[0]),
        }
    }

    /// A piece of a snapshot that is made here: whole, cut in two, or of any bytes.
    fn chunk(&mut self, term: Term) -> (SnapshotChunk, Bytes) {
        let number = self.fields.number(&[1]);
        let last = self.id();
        let cut = self.fields.byte();
        let id = SnapshotId { number, last };
        if cut == 3 {
            let offset = self.fields.number(&[0]);
            let is_end = self.fields.byte() & 1 != 0;
            let raw = self.fields.long_bytes();
            let bytes = match self.fields.byte() & 1 {
                0 => seal(raw),
                _ => Bytes::copy_from_slice(raw),
            };
            return (chunk(term, id, offset, is_end), bytes);
        }
        let whole = self.snapshot(last);
        let middle = whole.len() / 2;
        match cut {
            1 => (chunk(term, id, 0, false), seal(&whole[..middle])),
            2 => (chunk(term, id, middle as u64, true), seal(&whole[middle..])),
            _ => (chunk(term, id, 0, true), seal(&whole)),
        }
    }

    fn snapshot(&mut self, named: LogId) -> Vec<u8> {
        let last = match self.fields.byte() & 1 {
            0 => named,
            _ => self.id(),
        };
        let configuration = (self.index(), self.configuration());
        let mut whole = Header {
            last,
            configuration,
        }
        .encode();
        match self.fields.byte() & 3 {
            0..=2 => whole.extend(written(&mut Host::new(MachineKind::Counter.build()))),
            _ => whole.extend_from_slice(self.fields.long_bytes()),
        }
        let checksum = crc32c::crc32c(&whole);
        whole.extend(checksum.to_le_bytes());
        whole
    }
}

fn chunk(term: Term, id: SnapshotId, offset: u64, is_end: bool) -> SnapshotChunk {
    SnapshotChunk {
        term,
        id,
        offset,
        is_end,
    }
}
