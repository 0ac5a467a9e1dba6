//! Valid inputs of every kind, for fuzzers to begin with.

use kontiki_proto::raft;
use kontiki_proto::raft::peer_message::Body;
use kontiki_raft::{Configuration, EntryKind, Index, LogId, Purpose, ServerId, Term};

use super::faces::STRANGER;
use super::members::{CLUSTER, ME};
use crate::driver::fuzz::seal;
use crate::entry;
use crate::host::{Clock, Control, Digest, Opening, SessionId, Stamp};

mod codecs;
mod driver;
mod requests;

pub(super) use codecs::codecs;
pub(super) use driver::driver;
pub(super) use requests::{admin, client, peer};

type Seeds = Vec<(String, Vec<u8>)>;

fn last() -> LogId {
    LogId {
        term: Term(3),
        index: Index(9),
    }
}

fn configuration() -> Configuration {
    Configuration {
        voters: [ServerId(1), ServerId(2)].into(),
        outgoing: Some([ServerId(1)].into()),
        learners: [
            (ServerId(5), Purpose::Stay),
            (ServerId(7), Purpose::Replace(ServerId(1))),
        ]
        .into(),
    }
}

fn controls() -> Vec<Vec<u8>> {
    let stamp = Stamp {
        session: SessionId(3),
        sequence: 2,
        acknowledged: 1,
    };
    [
        Control::Activate,
        Control::Version(1),
        Control::Checkpoint,
        Control::Verdict(Digest {
            index: Index(3),
            value: 7,
        }),
        Control::OpenSession(Opening {
            time: 1,
            sessions_max: 2,
            window_max: 3,
            reply_bytes_max: 4,
        }),
        Control::CloseSession(SessionId(3)),
        Control::Clock(Clock {
            time: 1,
            ttl: 2,
            bytes_max: 3,
        }),
        Control::LeaseReads(true),
        Control::InSession {
            time: 5,
            stamp,
            command: b"7",
        },
    ]
    .iter()
    .map(Control::encode)
    .collect()
}

fn entries() -> Vec<u8> {
    let mut out = Vec::new();
    let configuration = EntryKind::Configuration(Box::new(configuration()));
    for kind in [EntryKind::Noop, EntryKind::Command, configuration] {
        entry::encode(last(), &kind, b"hello", &mut out);
    }
    for control in controls() {
        entry::encode(last(), &EntryKind::Control, &control, &mut out);
    }
    out
}

/// Names with a number, so that no two are the same.
fn named<'a>(seeds: impl Iterator<Item = (&'a str, Vec<u8>)>) -> Seeds {
    let numbered = seeds.enumerate();
    numbered
        .map(|(at, (name, bytes))| (format!("{at:02}-{name}"), bytes))
        .collect()
}

fn wire_id() -> Option<raft::LogId> {
    Some(raft::LogId { term: 1, index: 2 })
}

/// From a stranger to the server, one of each kind, the Hello first.
fn peer_messages() -> Vec<raft::PeerMessage> {
    let bodies = vec![
        Body::Hello(raft::Hello {
            node: "n".into(),
            peer_address: "a:1".into(),
            client_address: "a:2".into(),
        }),
        Body::Vote(raft::Vote {
            term: 2,
            last: wire_id(),
            pre: true,
            forced: true,
            released: 1,
        }),
        Body::VoteReply(raft::VoteReply {
            term: 2,
            granted: true,
            pre: false,
        }),
        Body::Append(raft::Append {
            term: 4,
            prev: Some(raft::LogId { term: 3, index: 8 }),
            commit: 8,
            batch: entries()[..30].to_vec().into(),
            last: 9,
        }),
        Body::AppendAck(raft::AppendAck {
            term: 2,
            index: 2,
            rejected: true,
            hint: wire_id(),
        }),
        Body::Heartbeat(raft::Heartbeat {
            term: 2,
            commit: 1,
            round: 3,
            beat: Some(raft::Beat {
                sent: 1,
                lease_milliseconds: 500,
                fresh_as_of: 1,
                fresh_index: 2,
            }),
        }),
        Body::HeartbeatAck(raft::HeartbeatAck {
            settings: Some(raft::Settings {
                heartbeat_milliseconds: 100,
                election_timeout_milliseconds: 1000,
                state_bytes_max: Some(1 << 30),
                ..raft::Settings::default()
            }),
            term: 2,
            round: 3,
            digest: Some(raft::Digest { index: 2, value: 5 }),
            applied: Some(2),
            beat: Some(raft::BeatAck {
                sent: 1,
                at: 1,
                promise_milliseconds: 500,
            }),
        }),
        Body::TimeoutNow(raft::TimeoutNow {
            term: 2,
            last: wire_id(),
            sent: 1,
        }),
        Body::SnapshotChunk(raft::SnapshotChunk {
            term: 2,
            number: 1,
            last: wire_id(),
            offset: 0,
            end: true,
            bytes: seal(b"piece"),
        }),
        Body::SnapshotAck(raft::SnapshotAck {
            term: 2,
            number: 1,
            last: wire_id(),
            received: 9,
            refused: false,
        }),
        Body::ReadIndex(raft::ReadIndex { id: 1 }),
        Body::ReadIndexReply(raft::ReadIndexReply {
            id: 1,
            index: Some(2),
        }),
    ];
    let message = |body| raft::PeerMessage {
        cluster: CLUSTER.0,
        from: STRANGER.0,
        to: ME.0,
        body: Some(body),
        versions_min: 1,
        versions_max: 1,
        ..raft::PeerMessage::default()
    };
    bodies.into_iter().map(message).collect()
}
