//! One encoded thing, of any kind. What decodes is encoded again and must be the same; what it takes
//! to find out is bounded by what came in.

use bytes::Bytes;
use kontiki_proto::raft::PeerMessage;
use kontiki_raft::{ClusterId, LogId};
use prost::Message;

use super::heap;
use crate::api::fuzz::{Continuation, grpc_timeout};
use crate::config::{MachineKind, is_address};
use crate::driver::fuzz::{Header, open, seal};
use crate::entry;
use crate::host::{Control, Done, Host, Job, Sessions};
use crate::machine::View;
use crate::machine::kv::{KvCommand, KvQuery, KvReply};
use crate::peer::fuzz as wire;

/// Bytes of memory for every byte that is decoded: a map's entry of a few bytes becomes a node.
const BYTES_PER_BYTE_MAX: usize = 128;
/// And for none at all: a header of a snapshot names up to 64 KiB before they are read.
const BYTES_MAX: usize = 256 << 10;

/// The cluster whose tokens are right.
pub(super) const CLUSTER: ClusterId = ClusterId(0xc1);

/// What is decoded, by the first byte of an input.
pub(super) mod kind {
    pub(in crate::fuzz) const ENTRIES: u8 = 0;
    pub(in crate::fuzz) const CONFIGURATION: u8 = 1;
    pub(in crate::fuzz) const PIECE: u8 = 2;
    pub(in crate::fuzz) const HEADER: u8 = 3;
    pub(in crate::fuzz) const CONTROL: u8 = 4;
    pub(in crate::fuzz) const SESSIONS: u8 = 5;
    pub(in crate::fuzz) const STATE_OF_KV: u8 = 6;
    pub(in crate::fuzz) const STATE_OF_COUNTER: u8 = 7;
    pub(in crate::fuzz) const KV_COMMAND: u8 = 8;
    pub(in crate::fuzz) const KV_QUERY: u8 = 9;
    pub(in crate::fuzz) const KV_REPLY: u8 = 10;
    pub(in crate::fuzz) const CONTINUATION: u8 = 11;
    pub(in crate::fuzz) const TIMEOUT: u8 = 12;
    pub(in crate::fuzz) const PEER_MESSAGE: u8 = 13;
    pub(in crate::fuzz) const ADDRESS: u8 = 14;
    /// With the checksum put right: what lies behind it is reached.
    pub(in crate::fuzz) const SEALED_ENTRY: u8 = 15;
    pub(in crate::fuzz) const SEALED_CONTINUATION: u8 = 16;
}

pub(super) fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    // What a host takes with nothing in it is not the input's.
    let max = BYTES_PER_BYTE_MAX * bytes.len() + BYTES_MAX;
    let ((), peak) = heap::peak_of(|| decode(*kind, bytes));
    assert!(peak <= max, "{} bytes cost {peak} of memory", bytes.len());
}

fn decode(kind: u8, bytes: &[u8]) {
    match kind {
        kind::ENTRIES => entries(bytes),
        kind::CONFIGURATION => configuration(bytes),
        kind::PIECE => {
            if let Some(opened) = open(bytes) {
                assert_eq!(seal(opened), bytes);
            }
        }
        kind::HEADER => header(bytes),
        kind::CONTROL => {
            if let Some(control) = Control::decode(bytes) {
                assert_eq!(control.encode(), bytes);
            }
        }
        kind::SESSIONS => {
            // As part of a state, which is written again.
            let _ = Sessions::decode(bytes);
            state(MachineKind::Counter, &with_sessions(bytes));
        }
        kind::STATE_OF_KV => state(MachineKind::Kv, bytes),
        kind::STATE_OF_COUNTER => state(MachineKind::Counter, bytes),
        kind::KV_COMMAND => {
            if let Some(command) = KvCommand::decode(bytes) {
                assert_eq!(command.encode(), bytes);
            }
        }
        kind::KV_QUERY => {
            if let Some(query) = KvQuery::decode(bytes) {
                assert_eq!(query.encode(), bytes);
            }
        }
        kind::KV_REPLY => {
            if let Some(reply) = KvReply::decode(Bytes::copy_from_slice(bytes)) {
                let again = reply.encode();
                assert_eq!(KvReply::decode(again.into()), Some(reply));
            }
        }
        kind::CONTINUATION => continuation(bytes),
        kind::TIMEOUT => {
            let text = std::str::from_utf8(bytes);
            let _ = text.map(grpc_timeout);
        }
        kind::PEER_MESSAGE => peer_message(bytes),
        kind::ADDRESS => {
            let _ = std::str::from_utf8(bytes).map(is_address);
        }
        kind::SEALED_ENTRY => entries(&sealed_entry(bytes)),
        kind::SEALED_CONTINUATION => {
            let checksum = crc32c::crc32c(bytes).to_le_bytes();
            continuation(&[bytes, &checksum].concat());
        }
        _ => {}
    }
}

fn entries(bytes: &[u8]) {
    let mut rest = bytes;
    while let Some(decoded) = entry::decode(rest) {
        let (encoded, after) = rest.split_at(decoded.size);
        let mut again = Vec::new();
        entry::encode(decoded.id, &decoded.kind, decoded.payload, &mut again);
        // A set that named a server twice names it once now; anything else is as it was.
        if again.len() == encoded.len() {
            assert_eq!(
                entry::decode(&again).map(|entry| entry.id),
                Some(decoded.id)
            );
        }
        rest = after;
    }
}

/// An entry with these bytes after its checksum.
fn sealed_entry(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len().saturating_sub(entry::HEADER_BYTES - 8) as u32;
    let checksum = crc32c::crc32c(bytes);
    [&length.to_le_bytes(), &checksum.to_le_bytes(), bytes].concat()
}

fn configuration(bytes: &[u8]) {
    if let Some(configuration) = entry::decode_configuration(bytes) {
        let mut again = Vec::new();
        entry::encode_configuration(&configuration, &mut again);
        assert_eq!(entry::decode_configuration(&again), Some(configuration));
    }
}

/// The first byte says how much of it is there.
fn header(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else {
        return;
    };
    let whole = Header::read(bytes);
    let part = Header::read(&bytes[..bytes.len().min(usize::from(*size))]);
    assert!(
        part == whole || matches!(part, Ok(None)),
        "{part:?} of {whole:?}"
    );
    if let Ok(Some((header, length))) = whole {
        assert!(length <= bytes.len());
        let again = header.encode();
        assert_eq!(Header::read(&again), Ok(Some((header, again.len()))));
    }
}

/// A state that is restored is written as the same bytes, and one that is refused changes nothing.
fn state(kind: MachineKind, bytes: &[u8]) {
    let mut host = Host::new(kind.build());
    let before = written(&mut host);
    let attempt = 1;
    for piece in bytes.chunks(64) {
        let piece = Bytes::copy_from_slice(piece);
        let done = host.run::<()>(Job::Receive { attempt, piece });
        assert!(matches!(done, Done::Received { .. }), "{done:?}");
        assert_eq!(written(&mut host), before, "nothing is used yet");
    }
    let last = LogId::default();
    match host.run::<()>(Job::Restore { last }) {
        Done::Restored(Ok(_)) => assert_eq!(written(&mut host), bytes),
        Done::Restored(Err(_)) => assert_eq!(written(&mut host), before),
        other => panic!("restoring came to {other:?}"),
    }
}

/// A state of the counter with these sessions.
fn with_sessions(sessions: &[u8]) -> Vec<u8> {
    let state = written(&mut Host::new(MachineKind::Counter.build()));
    let own = sessions_of(&state);
    let at = own.as_ptr() as usize - state.as_ptr() as usize;
    let length = (sessions.len() as u64).to_le_bytes();
    [
        &state[..at - 8],
        &length,
        sessions,
        &state[at + own.len()..],
    ]
    .concat()
}

/// The sessions in a state: see `host::snapshot` for where they are.
pub(super) fn sessions_of(state: &[u8]) -> &[u8] {
    let head = u32::from_le_bytes(state[..4].try_into().expect("4 bytes")) as usize;
    let (length, rest) = state[4 + head..].split_at(8);
    let length = u64::from_le_bytes(length.try_into().expect("8 bytes"));
    &rest[..length as usize]
}

pub(super) fn written(host: &mut Host) -> Vec<u8> {
    let to = kontiki_raft::ServerId(1);
    let Done::Snapshot { mut view, .. } = host.run::<()>(Job::Snapshot { to }) else {
        panic!("no view");
    };
    let mut out = Vec::new();
    while view.write(&mut out, 4096) {}
    out
}

fn continuation(bytes: &[u8]) {
    let token = Bytes::copy_from_slice(bytes);
    if let Ok(continuation) = Continuation::decode(&token, CLUSTER) {
        assert_eq!(continuation.encode(CLUSTER), token);
    }
}

fn peer_message(bytes: &[u8]) {
    let Ok(message) = PeerMessage::decode(bytes) else {
        return;
    };
    let _ = wire::greeted(&message);
    if let Ok(envelope) = wire::decode(message) {
        let again = wire::encode(envelope.clone()).encode_to_vec();
        let again = PeerMessage::decode(&again[..]).map(wire::decode);
        assert_eq!(again, Ok(Ok(envelope)));
    }
}
