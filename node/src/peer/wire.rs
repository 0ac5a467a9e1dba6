//! Between [`Envelope`] and `kontiki.raft.v1.PeerMessage`.

use bytes::Bytes;
use kontiki_proto::raft;
use kontiki_proto::raft::PeerMessage;
use kontiki_proto::raft::peer_message::Body;
use kontiki_raft::{
    Append, AppendAck, AppendOutcome, ClusterId, Heartbeat, HeartbeatAck, Index, LogId, Message,
    ReadIndex, ReadIndexReply, ServerId, SnapshotAck, SnapshotChunk, SnapshotId, SnapshotOutcome,
    Term, Time, TimeoutNow, Vote, VoteReply,
};

use crate::driver::{Envelope, HostReport};
use crate::host::Digest;

mod beat;
mod settings;

/// A message that makes no sense; the text says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

/// For the wire. Shares the batch.
pub fn encode(envelope: Envelope) -> PeerMessage {
    let host = envelope.host;
    let body = match envelope.message {
        Message::Vote(vote) => Body::Vote(raft::Vote {
            term: vote.term.0,
            last: Some(wire_id(vote.last)),
            pre: vote.pre,
            forced: vote.forced,
            released: vote.released.map_or(0, |term| term.0),
        }),
        Message::VoteReply(reply) => Body::VoteReply(raft::VoteReply {
            term: reply.term.0,
            granted: reply.granted,
            pre: reply.pre,
        }),
        Message::Append(append) => Body::Append(raft::Append {
            term: append.term.0,
            prev: Some(wire_id(append.prev)),
            commit: append.commit.0,
            batch: envelope.batch,
            last: append.last.0,
        }),
        Message::AppendAck(ack) => Body::AppendAck(wire_ack(ack)),
        Message::Heartbeat(heartbeat) => Body::Heartbeat(raft::Heartbeat {
            term: heartbeat.term.0,
            commit: heartbeat.commit.0,
            round: heartbeat.round,
            beat: heartbeat.beat.map(beat::encode),
        }),
        Message::HeartbeatAck(ack) => Body::HeartbeatAck(raft::HeartbeatAck {
            term: ack.term.0,
            round: ack.round,
            beat: ack.beat.map(beat::encode_ack),
            digest: host.digest.map(|digest| raft::Digest {
                index: digest.index.0,
                value: digest.value,
            }),
            applied: host.applied.map(|index| index.0),
            settings: host.settings.map(|settings| settings::encode(*settings)),
        }),
        Message::TimeoutNow(now) => Body::TimeoutNow(raft::TimeoutNow {
            term: now.term.0,
            last: Some(wire_id(now.last)),
            sent: now.sent.0,
        }),
        Message::SnapshotChunk(chunk) => Body::SnapshotChunk(raft::SnapshotChunk {
            term: chunk.term.0,
            number: chunk.id.number,
            last: Some(wire_id(chunk.id.last)),
            offset: chunk.offset,
            end: chunk.is_end,
            bytes: envelope.batch,
        }),
        Message::SnapshotAck(ack) => Body::SnapshotAck(wire_snapshot_ack(ack)),
        Message::ReadIndex(asked) => Body::ReadIndex(raft::ReadIndex { id: asked.id }),
        Message::ReadIndexReply(reply) => Body::ReadIndexReply(raft::ReadIndexReply {
            id: reply.id,
            index: reply.index.map(|index| index.0),
        }),
    };
    PeerMessage {
        cluster: envelope.cluster.0,
        from: envelope.from.0,
        to: envelope.to.0,
        body: Some(body),
        versions_min: host.versions.as_ref().map_or(0, |runs| *runs.start()),
        versions_max: host.versions.as_ref().map_or(0, |runs| *runs.end()),
        quarantined: host.is_quarantined,
        election_priority: host.election_priority.into(),
        origin: host.origin,
    }
}

fn wire_ack(ack: AppendAck) -> raft::AppendAck {
    match ack.outcome {
        AppendOutcome::Accepted(index) => raft::AppendAck {
            term: ack.term.0,
            index: index.0,
            rejected: false,
            hint: None,
        },
        AppendOutcome::Rejected { prev, hint } => raft::AppendAck {
            term: ack.term.0,
            index: prev.0,
            rejected: true,
            hint: Some(wire_id(hint)),
        },
    }
}

fn wire_snapshot_ack(ack: SnapshotAck) -> raft::SnapshotAck {
    let (received, refused) = match ack.outcome {
        SnapshotOutcome::Received(offset) => (offset, false),
        SnapshotOutcome::Refused => (0, true),
    };
    raft::SnapshotAck {
        term: ack.term.0,
        number: ack.id.number,
        last: Some(wire_id(ack.id.last)),
        received,
        refused,
    }
}

/// From the wire. The batch aliases the receive buffer; the driver copies what it keeps.
///
/// # Errors
/// A field is missing, or the message is none of the protocol (a second Hello, say).
pub fn decode(message: PeerMessage) -> Result<Envelope, Malformed> {
    let mut batch = Bytes::new();
    let (low, high) = (message.versions_min, message.versions_max);
    let mut host = HostReport {
        versions: (1 <= low && low <= high).then_some(low..=high),
        digest: None,
        settings: None,
        is_quarantined: message.quarantined,
        // What is above the highest is no priority of this protocol; it harms nobody.
        election_priority: u8::try_from(message.election_priority).unwrap_or(u8::MAX),
        applied: None,
        origin: message.origin,
    };
    let body = message.body.ok_or(Malformed("no body that is known"))?;
    let decoded = match body {
        Body::Hello(_) => return Err(Malformed("a Hello that is not the first message")),
        Body::Vote(vote) => Message::Vote(Vote {
            term: Term(vote.term),
            last: id(vote.last)?,
            pre: vote.pre,
            forced: vote.forced,
            released: (vote.released != 0).then_some(Term(vote.released)),
        }),
        Body::VoteReply(reply) => Message::VoteReply(VoteReply {
            term: Term(reply.term),
            granted: reply.granted,
            pre: reply.pre,
        }),
        Body::Append(append) => {
            let prev = id(append.prev)?;
            batch = append.batch;
            Message::Append(Append {
                term: Term(append.term),
                prev,
                last: Index(append.last),
                commit: Index(append.commit),
            })
        }
        Body::AppendAck(ack) => Message::AppendAck(AppendAck {
            term: Term(ack.term),
            outcome: match ack.rejected {
                false => AppendOutcome::Accepted(Index(ack.index)),
                true => AppendOutcome::Rejected {
                    prev: Index(ack.index),
                    hint: id(ack.hint)?,
                },
            },
        }),
        Body::Heartbeat(heartbeat) => Message::Heartbeat(Heartbeat {
            term: Term(heartbeat.term),
            commit: Index(heartbeat.commit),
            round: heartbeat.round,
            beat: heartbeat.beat.map(beat::decode),
        }),
        Body::HeartbeatAck(ack) => {
            host.digest = ack.digest.map(|digest| Digest {
                index: Index(digest.index),
                value: digest.value,
            });
            host.applied = ack.applied.map(Index);
            host.settings = ack.settings.map(settings::decode).map(Box::new);
            Message::HeartbeatAck(HeartbeatAck {
                term: Term(ack.term),
                round: ack.round,
                beat: ack.beat.map(beat::decode_ack),
            })
        }
        Body::TimeoutNow(now) => Message::TimeoutNow(TimeoutNow {
            term: Term(now.term),
            last: id(now.last)?,
            sent: Time(now.sent),
        }),
        Body::SnapshotChunk(chunk) => {
            batch = chunk.bytes;
            Message::SnapshotChunk(SnapshotChunk {
                term: Term(chunk.term),
                id: snapshot_id(chunk.number, chunk.last)?,
                offset: chunk.offset,
                is_end: chunk.end,
            })
        }
        Body::SnapshotAck(ack) => Message::SnapshotAck(SnapshotAck {
            term: Term(ack.term),
            id: snapshot_id(ack.number, ack.last)?,
            outcome: match ack.refused {
                false => SnapshotOutcome::Received(ack.received),
                true => SnapshotOutcome::Refused,
            },
        }),
        Body::ReadIndex(asked) => Message::ReadIndex(ReadIndex { id: asked.id }),
        Body::ReadIndexReply(reply) => Message::ReadIndexReply(ReadIndexReply {
            id: reply.id,
            index: reply.index.map(Index),
        }),
    };
    Ok(Envelope {
        cluster: ClusterId(message.cluster),
        from: ServerId(message.from),
        to: ServerId(message.to),
        message: decoded,
        batch,
        host,
    })
}

fn wire_id(id: LogId) -> raft::LogId {
    raft::LogId {
        term: id.term.0,
        index: id.index.0,
    }
}

fn id(id: Option<raft::LogId>) -> Result<LogId, Malformed> {
    let id = id.ok_or(Malformed("a log id is missing"))?;
    Ok(LogId {
        term: Term(id.term),
        index: Index(id.index),
    })
}

fn snapshot_id(number: u64, last: Option<raft::LogId>) -> Result<SnapshotId, Malformed> {
    let last = id(last)?;
    Ok(SnapshotId { number, last })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kontiki_raft::{Beat, BeatAck, Freshness, Time};

    use super::super::hello;
    use super::*;
    use crate::address_book::ServerRef;

    fn id(term: u64, index: u64) -> LogId {
        LogId {
            term: Term(term),
            index: Index(index),
        }
    }

    fn snapshot() -> SnapshotId {
        SnapshotId {
            number: 4,
            last: id(2, 7),
        }
    }

    fn snapshot_ack(outcome: SnapshotOutcome) -> Message {
        Message::SnapshotAck(SnapshotAck {
            term: Term(3),
            id: snapshot(),
            outcome,
        })
    }

    fn messages() -> Vec<Message> {
        let (term, round) = (Term(3), 9);
        let ack = |outcome| Message::AppendAck(AppendAck { term, outcome });
        let vote = Vote {
            term,
            last: id(2, 7),
            pre: true,
            forced: false,
            released: None,
        };
        let fresh = Freshness {
            as_of: Time(1 << 50),
            index: Index(6),
        };
        let beat = Beat {
            sent: Time(1 << 51),
            lease: Duration::from_millis(500),
            fresh: None,
        };
        let beat_ack = BeatAck {
            sent: Time(1 << 51),
            at: Time(1 << 52),
            promise: Duration::from_millis(500),
        };
        let heartbeat = |beat| {
            Message::Heartbeat(Heartbeat {
                term,
                commit: Index(6),
                round,
                beat,
            })
        };
        vec![
            Message::Vote(vote),
            Message::VoteReply(VoteReply {
                term,
                granted: true,
                pre: false,
            }),
            Message::Append(Append {
                term,
                prev: id(2, 7),
                last: Index(9),
                commit: Index(6),
            }),
            ack(AppendOutcome::Accepted(Index(8))),
            ack(AppendOutcome::Rejected {
                prev: Index(8),
                hint: id(1, 4),
            }),
            heartbeat(None),
            Message::HeartbeatAck(HeartbeatAck {
                term,
                round,
                beat: None,
            }),
            heartbeat(Some(beat)),
            heartbeat(Some(Beat {
                fresh: Some(fresh),
                ..beat
            })),
            Message::HeartbeatAck(HeartbeatAck {
                term,
                round,
                beat: Some(beat_ack),
            }),
            Message::Vote(Vote {
                forced: true,
                released: Some(Term(2)),
                ..vote
            }),
            Message::ReadIndex(ReadIndex { id: 3 }),
            Message::ReadIndexReply(ReadIndexReply {
                id: 3,
                index: Some(Index(6)),
            }),
            Message::ReadIndexReply(ReadIndexReply { id: 3, index: None }),
            Message::TimeoutNow(TimeoutNow {
                term,
                last: id(2, 7),
                sent: Time(9),
            }),
            Message::SnapshotChunk(SnapshotChunk {
                term,
                id: snapshot(),
                offset: 11,
                is_end: true,
            }),
            snapshot_ack(SnapshotOutcome::Received(12)),
            snapshot_ack(SnapshotOutcome::Refused),
        ]
    }

    fn envelope(message: Message) -> Envelope {
        Envelope {
            cluster: ClusterId(1),
            from: ServerId(2),
            to: ServerId(3),
            message,
            batch: Bytes::new(),
            host: HostReport {
                versions: Some(2..=3),
                digest: None,
                settings: None,
                is_quarantined: true,
                election_priority: 7,
                applied: None,
                origin: 11,
            },
        }
    }

    #[test]
    fn every_message_survives_the_wire() {
        for message in messages() {
            let sent = envelope(message);
            assert_eq!(decode(encode(sent.clone())), Ok(sent));
        }
        let mut sent = envelope(messages().remove(6));
        sent.host.digest = Some(Digest {
            index: Index(5),
            value: 7,
        });
        sent.host.applied = Some(Index(6));
        assert_eq!(decode(encode(sent.clone())), Ok(sent.clone()));
        // A sender that does not say, or says nonsense.
        for (low, high) in [(0, 0), (0, 3), (3, 2)] {
            let mut message = encode(sent.clone());
            (message.versions_min, message.versions_max) = (low, high);
            assert_eq!(decode(message).expect("decodes").host.versions, None);
        }
    }

    #[test]
    fn what_makes_no_sense_is_malformed() {
        let whole = encode(envelope(messages().remove(0)));
        let without = |body| PeerMessage {
            body,
            ..whole.clone()
        };
        assert!(decode(without(None)).is_err());
        assert!(decode(without(Some(Body::Vote(raft::Vote::default())))).is_err());
        assert!(decode(without(Some(Body::Append(raft::Append::default())))).is_err());
        let chunk = raft::SnapshotChunk::default();
        assert!(decode(without(Some(Body::SnapshotChunk(chunk)))).is_err());
        let rejected = raft::AppendAck {
            rejected: true,
            ..raft::AppendAck::default()
        };
        assert!(decode(without(Some(Body::AppendAck(rejected)))).is_err());
        let me = ServerRef::unknown(ServerId(1));
        assert!(decode(hello::encode(None, &me, ServerId(2))).is_err());
    }
}
