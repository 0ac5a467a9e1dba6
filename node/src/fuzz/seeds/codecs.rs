//! Encoded things, one of each kind.

use kontiki_raft::{EntryKind, Index, LogId, Term};
use prost::Message;

use super::{Seeds, configuration, controls, entries, last, named, peer_messages};
use crate::api::fuzz::Continuation;
use crate::config::MachineKind;
use crate::driver::fuzz::{Header, seal};
use crate::entry;
use crate::fuzz::codecs::{self, kind};
use crate::host::{Control, Host, Opening, SessionId, Stamp};
use crate::machine::kv::{KvCommand, KvQuery, KvRecord, KvReply};

/// A host that applied a few commands, some of them in a session.
fn state(machine: MachineKind, command: &[u8]) -> Vec<u8> {
    let stamp = |sequence| Stamp {
        session: SessionId(3),
        sequence,
        acknowledged: 0,
    };
    let opening = Opening {
        time: 1,
        sessions_max: 2,
        window_max: 8,
        reply_bytes_max: 64,
    };
    let in_session = |sequence| Control::InSession {
        time: 2,
        stamp: stamp(sequence),
        command,
    };
    let controls = [
        Control::Version(1),
        Control::Activate,
        Control::OpenSession(opening),
        in_session(1),
        in_session(3),
    ];
    let mut batch = Vec::new();
    for (at, control) in controls.iter().enumerate() {
        let id = LogId {
            term: Term(1),
            index: Index(at as u64 + 1),
        };
        entry::encode(id, &EntryKind::Control, &control.encode(), &mut batch);
    }
    let mut host = Host::new(machine.build());
    host.run::<()>(crate::host::Job::Apply {
        batch: batch.into(),
        count: controls.len(),
    });
    codecs::written(&mut host)
}

pub(in crate::fuzz) fn codecs() -> Seeds {
    let mut configured = Vec::new();
    entry::encode_configuration(&configuration(), &mut configured);
    let header = Header {
        last: last(),
        configuration: (Index(4), configuration()),
    };
    let continuation = Continuation {
        next: "next".into(),
        end: "over".into(),
    };
    let token = continuation.encode(codecs::CLUSTER);
    let put = KvCommand::Put {
        key: b"key",
        value: b"value",
        if_mod_revision: Some(0),
    };
    let delete = KvCommand::Delete {
        key: b"key",
        if_mod_revision: None,
    };
    let range = KvQuery::Range {
        start: b"a",
        end: b"b",
        limit: 3,
    };
    let record = KvRecord {
        key: "key".into(),
        value: "value".into(),
        create_revision: 1,
        mod_revision: 2,
    };
    let page = KvReply::Range {
        revision: 3,
        next: "next".into(),
        records: vec![record.clone()],
    };
    let nameless = KvRecord {
        key: Default::default(),
        ..record
    };
    let got = KvReply::Get {
        revision: 3,
        record: Some(nameless),
    };
    let kv_state = state(MachineKind::Kv, &put.encode());
    let counter_state = state(MachineKind::Counter, b"7");
    let sessions = codecs::sessions_of(&kv_state).to_vec();
    let mut seeds = vec![
        ("entries", kind::ENTRIES, entries()),
        ("entry", kind::SEALED_ENTRY, entries()[8..][..17].to_vec()),
        ("configuration", kind::CONFIGURATION, configured),
        ("piece", kind::PIECE, seal(b"piece").to_vec()),
        (
            "header",
            kind::HEADER,
            [&[5], &header.encode()[..]].concat(),
        ),
        ("sessions", kind::SESSIONS, sessions),
        ("kv-state", kind::STATE_OF_KV, kv_state),
        ("counter-state", kind::STATE_OF_COUNTER, counter_state),
        ("put", kind::KV_COMMAND, put.encode().to_vec()),
        ("delete", kind::KV_COMMAND, delete.encode().to_vec()),
        ("range", kind::KV_QUERY, range.encode().to_vec()),
        ("page", kind::KV_REPLY, page.encode()),
        ("got", kind::KV_REPLY, got.encode()),
        ("token", kind::CONTINUATION, token.to_vec()),
        (
            "open-token",
            kind::SEALED_CONTINUATION,
            token[..token.len() - 4].to_vec(),
        ),
        ("timeout", kind::TIMEOUT, b"250m".to_vec()),
        ("address", kind::ADDRESS, b"[::1]:7401".to_vec()),
    ];
    for control in controls() {
        seeds.push(("control", kind::CONTROL, control));
    }
    for message in peer_messages() {
        seeds.push(("message", kind::PEER_MESSAGE, message.encode_to_vec()));
    }
    named(seeds.into_iter().map(|(name, kind, bytes)| {
        let input = [&[kind], &bytes[..]].concat();
        (name, input)
    }))
}
