//! Valid inputs of every kind, for fuzzers to begin with.

use kontiki_proto::raft::peer_message::Body;
use kontiki_proto::{kv, raft, v1};
use kontiki_raft::{Configuration, EntryKind, Index, LogId, Purpose, ServerId, Term};
use prost::Message;

use super::codecs::kind;
use super::driver::step;
use super::faces::{ADMIN, CLIENT, PEER, STRANGER, flag};
use super::fields::Writer;
use super::members::{CLUSTER, ME, kind as said};
use crate::api::fuzz::Continuation;
use crate::config::MachineKind;
use crate::driver::fuzz::{Header, seal};
use crate::entry;
use crate::host::{Clock, Control, Digest, Host, Opening, SessionId, Stamp};
use crate::machine::kv::{KvCommand, KvQuery, KvRecord, KvReply};

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
    });
    super::codecs::written(&mut host)
}

pub(super) fn codecs() -> Seeds {
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
    let token = continuation.encode(super::codecs::CLUSTER);
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
    let sessions = super::codecs::sessions_of(&kv_state).to_vec();
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
            term: 2,
            round: 3,
            digest: Some(raft::Digest { index: 2, value: 5 }),
            beat: Some(raft::BeatAck {
                sent: 1,
                at: 1,
                promise_milliseconds: 500,
            }),
        }),
        Body::TimeoutNow(raft::TimeoutNow {
            term: 2,
            last: wire_id(),
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

pub(super) fn peer() -> Seeds {
    let (hello, others) = match &peer_messages()[..] {
        [hello, others @ ..] => (hello.encode_to_vec(), others.to_vec()),
        [] => unreachable!("there is one of each"),
    };
    named(others.iter().map(|other| {
        let lane = match &other.body {
            Some(Body::Append(_) | Body::AppendAck(_)) => 1,
            Some(Body::SnapshotChunk(_) | Body::SnapshotAck(_)) => 2,
            _ => 0,
        };
        debug_assert!(usize::from(lane) < PEER.len());
        let seed = Writer::default()
            .byte(lane)
            .byte(1 << flag::MORE_SHIFT)
            .long_bytes(&hello)
            .long_bytes(&other.encode_to_vec());
        ("hello", seed.0)
    }))
}

/// A request of one message.
fn call(paths: &[&str], method: &str, message: &impl Message) -> Vec<u8> {
    let at = paths
        .iter()
        .position(|path| path.ends_with(&format!("/{method}")));
    Writer::default()
        .byte(at.expect("a method") as u8)
        .byte(flag::TIMEOUT)
        .bytes(b"1S")
        .long_bytes(&message.encode_to_vec())
        .0
}

pub(super) fn client() -> Seeds {
    let in_session = Some(v1::InSession {
        session: 4,
        sequence: 1,
        acknowledged: 0,
    });
    let command = KvCommand::Put {
        key: b"k",
        value: b"v",
        if_mod_revision: None,
    }
    .encode();
    let open = call(&CLIENT, "OpenSession", &v1::OpenSessionRequest {});
    let put = kv::PutRequest {
        key: "k".into(),
        value: "v".into(),
        if_mod_revision: None,
        in_session,
    };
    let repeated = call(&CLIENT, "Put", &put);
    let streamed = v1::WriteStreamRequest {
        commands: vec![v1::StreamedCommand {
            id: 7,
            command: command.clone(),
            in_session: None,
        }],
    };
    let get = kv::GetRequest {
        key: "k".into(),
        ..kv::GetRequest::default()
    };
    let range = kv::RangeRequest {
        limit: 1,
        ..kv::RangeRequest::default()
    };
    let delete = kv::DeleteRequest {
        key: "k".into(),
        if_mod_revision: Some(1),
        in_session: None,
    };
    let read = v1::ReadRequest {
        query: KvQuery::Get { key: b"k" }.encode(),
        ..v1::ReadRequest::default()
    };
    let write = v1::WriteRequest {
        command,
        in_session: None,
    };
    named(
        [
            (
                "session",
                [&open[..], &repeated[..], &repeated[..]].concat(),
            ),
            ("write", call(&CLIENT, "Write", &write)),
            ("stream", call(&CLIENT, "WriteStream", &streamed)),
            ("read", call(&CLIENT, "Read", &read)),
            ("get", call(&CLIENT, "Get", &get)),
            ("range", call(&CLIENT, "Range", &range)),
            ("delete", call(&CLIENT, "Delete", &delete)),
            (
                "close",
                call(
                    &CLIENT,
                    "CloseSession",
                    &v1::CloseSessionRequest { session: 4 },
                ),
            ),
        ]
        .into_iter(),
    )
}

pub(super) fn admin() -> Seeds {
    let server = v1::Server {
        server_id: "2".into(),
        node: "n2".into(),
        peer_address: "a:1".into(),
        client_address: "a:2".into(),
    };
    let cluster_id = CLUSTER.to_string();
    let bootstrap = v1::BootstrapRequest {
        cluster_id: cluster_id.clone(),
        voters: vec![v1::Server {
            server_id: ME.to_string(),
            ..server.clone()
        }],
    };
    let add = v1::AddServerRequest {
        cluster_id: cluster_id.clone(),
        servers: vec![server.clone()],
        as_learner: true,
        ..v1::AddServerRequest::default()
    };
    let remove = v1::RemoveServerRequest {
        server_ids: vec!["2".into()],
        ..v1::RemoveServerRequest::default()
    };
    let replace = v1::ReplaceServerRequest {
        lost: "1".into(),
        server: Some(server.clone()),
        no_wait: true,
        ..v1::ReplaceServerRequest::default()
    };
    let introduce = v1::IntroduceRequest {
        cluster_id,
        servers: vec![server],
    };
    let inspect = v1::InspectRequest {
        first_index: 1,
        payload_bytes_max: 16,
        ..v1::InspectRequest::default()
    };
    let transfer = v1::TransferLeadershipRequest {
        target: "1".into(),
        ..v1::TransferLeadershipRequest::default()
    };
    let stop = v1::StopServerRequest {
        reason: "enough".into(),
        graceful: true,
        ..v1::StopServerRequest::default()
    };
    let trigger = v1::TriggerElectionRequest::default();
    let wait = v1::AwaitLeaderRequest { timeout_ms: 5 };
    named(
        [
            ("bootstrap", call(&ADMIN, "Bootstrap", &bootstrap)),
            (
                "activate",
                call(&ADMIN, "Activate", &v1::ActivateRequest::default()),
            ),
            ("add", call(&ADMIN, "AddServer", &add)),
            ("remove", call(&ADMIN, "RemoveServer", &remove)),
            ("replace", call(&ADMIN, "ReplaceServer", &replace)),
            ("transfer", call(&ADMIN, "TransferLeadership", &transfer)),
            ("trigger", call(&ADMIN, "TriggerElection", &trigger)),
            ("await", call(&ADMIN, "AwaitLeader", &wait)),
            ("status", call(&ADMIN, "Status", &v1::StatusRequest {})),
            ("introduce", call(&ADMIN, "Introduce", &introduce)),
            ("ping", call(&ADMIN, "Ping", &v1::PingRequest {})),
            ("inspect", call(&ADMIN, "Inspect", &inspect)),
            ("stop", call(&ADMIN, "StopServer", &stop)),
        ]
        .into_iter(),
    )
}

/// A follower that is led by server 2 in the next term: the head of a message.
fn says(kind: u8) -> Writer {
    Writer::default()
        .byte(step::SAY)
        .byte(kind)
        .byte(2)
        .byte(0)
        .near(1, 0, 1)
}

/// After the last entry, in its term.
fn at_the_end(writer: Writer) -> Writer {
    writer.near(4, 0, 0).near(2, 0, 0)
}

pub(super) fn driver() -> Seeds {
    let follower = Writer::default().byte(0);
    let elect = [
        step::TIME,
        255,
        step::ECHO,
        step::ECHO,
        step::ECHO,
        step::ACTIVATE,
        step::ECHO,
        step::ECHO,
    ];
    let leader = Writer([&[0], &elect[..]].concat());
    let threaded = Writer([&[1], &elect[..], &[step::JOBS]].concat());
    let with = |start: &Writer, steps: &[&[u8]]| [&start.0, &steps.concat()[..]].concat();
    let entries = at_the_end(says(said::APPEND)).near(4, 0, 1).byte(3);
    let entries = entries.near(2, 0, 0).byte(3).byte(1).small(1);
    let entries = entries.near(2, 0, 0).byte(3).byte(0);
    let entries = entries.near(2, 0, 0).byte(1).bytes(b"7").byte(0).0;
    let configured = at_the_end(says(said::APPEND)).near(4, 0, 1).byte(1);
    let configured = configured
        .near(2, 0, 0)
        .byte(2)
        .byte(0b1111)
        .byte(0)
        .byte(0b1_0000);
    let configured = configured.byte(1).byte(0).0;
    // The second piece is of the term that the first began.
    let snapshot = |cut: u8| {
        let head = Writer::default().byte(step::SAY).byte(said::SNAPSHOT_CHUNK);
        let head = head.byte(2).byte(0).near(1, 0, u8::from(cut < 2));
        let named = head.small(1).near(4, 0, 3).near(2, 0, 0);
        let cut = named.byte(cut).byte(0).near(4, 0, 0);
        cut.byte(0b111).byte(0).byte(0).byte(0).0
    };
    let write = Writer::default().byte(step::WRITE).bytes(b"7").0;
    // Taken in one turn, more than may wait.
    let many = Writer::default()
        .byte(step::WRITE | step::MORE)
        .bytes(b"7")
        .0;
    let session = Writer::default().byte(step::WRITE_IN_SESSION).near(4, 0, 0);
    let session = session.small(1).small(0).bytes(b"7").0;
    let read = Writer::default()
        .byte(step::READ)
        .byte(0)
        .byte(0)
        .bytes(b"")
        .0;
    let change = [step::CHANGE, 0b1000, 1, 0, 0, 1];
    let echo = [step::ECHO];
    let vote = at_the_end(says(said::VOTE)).0;
    let heartbeat = says(said::HEARTBEAT).near(4, 0, 0).small(1).0;
    let timeout_now = at_the_end(says(said::TIMEOUT_NOW)).0;
    // From a server that there is not, another each time, in the term of a candidate that only a
    // quorum could help: the first byte of a server that is a number is 255.
    let from_anyone = |kind: u8, flags: u8, step: u8| {
        let said = Writer::default().byte(step::SAY).byte(kind).byte(255);
        said.byte(255).bytes8(1000).byte(flags).near(1, 0, step)
    };
    let refused_by_anyone = from_anyone(said::VOTE_REPLY, 1, 0).0;
    let heard_from_anyone = from_anyone(said::HEARTBEAT_ACK, 0, 0).small(1).0;
    let asked_by_anyone = at_the_end(from_anyone(said::VOTE, 1, 0)).0;
    let often = [[step::REPEAT, 255]; 15].concat();
    // A version, over and over: an entry that is committed at once.
    let version = at_the_end(says(said::APPEND)).near(4, 0, 1).byte(1);
    let version = version.near(2, 1, 0).byte(3).byte(1).small(1).byte(0).0;
    // Entries that are never committed, as fast as they come.
    let tail = at_the_end(says(said::APPEND)).small(0).byte(1);
    let tail = tail.near(2, 1, 0).byte(5).byte(255).byte(0).0;
    named(
        [
            ("vote", with(&follower, &[&vote])),
            ("heartbeat", with(&follower, &[&heartbeat])),
            ("entries", with(&follower, &[&entries, &heartbeat])),
            ("configured", with(&follower, &[&configured, &entries])),
            ("snapshot", with(&follower, &[&snapshot(0), &[step::JOBS]])),
            (
                "snapshot-in-two",
                with(&follower, &[&snapshot(1), &snapshot(2), &[step::JOBS]]),
            ),
            ("timeout-now", with(&follower, &[&heartbeat, &timeout_now])),
            ("write", with(&leader, &[&write, &echo, &echo])),
            ("threaded", with(&threaded, &[&write, &echo, &[step::JOBS]])),
            ("read", with(&leader, &[&read, &echo])),
            (
                "session",
                with(
                    &leader,
                    &[
                        &[step::OPEN_SESSION],
                        &echo,
                        &session,
                        &echo,
                        &session,
                        &echo,
                    ],
                ),
            ),
            (
                "change",
                with(&leader, &[&change, &echo, &echo, &echo, &echo]),
            ),
            ("transfer", with(&leader, &[&[step::TRANSFER, 2], &echo])),
            ("trigger", with(&follower, &[&[step::TRIGGER], &echo])),
            (
                "refused-by-a-crowd",
                with(&follower, &[&[step::TRIGGER], &refused_by_anyone, &often]),
            ),
            (
                "heard-from-a-crowd",
                with(&leader, &[&heard_from_anyone, &often]),
            ),
            (
                "asked-by-a-crowd",
                with(&follower, &[&asked_by_anyone, &often]),
            ),
            ("versions", with(&follower, &[&heartbeat, &version, &often])),
            (
                "versions-of-a-slow-machine",
                with(&Writer::default().byte(1), &[&heartbeat, &version, &often]),
            ),
            ("tail", with(&follower, &[&heartbeat, &tail, &often])),
            (
                "many-writes",
                with(&leader, &[&many, &[step::REPEAT, 14], &write, &echo, &echo]),
            ),
        ]
        .into_iter(),
    )
}
