//! Requests: streams of peers, calls of clients and of administrators.

use kontiki_proto::raft::peer_message::Body;
use kontiki_proto::{kv, v1};
use prost::Message;

use super::{Seeds, named, peer_messages};
use crate::fuzz::faces::{ADMIN, CLIENT, PEER, flag};
use crate::fuzz::fields::Writer;
use crate::fuzz::members::{CLUSTER, ME};
use crate::machine::kv::{KvCommand, KvQuery};

pub(in crate::fuzz) fn peer() -> Seeds {
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

pub(in crate::fuzz) fn client() -> Seeds {
    let in_session = Some(v1::InSession {
        session: 4,
        sequence: 1,
        acknowledged: 0,
        cluster_id: CLUSTER.to_string(),
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
        cluster_id: String::new(),
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
        cluster_id: CLUSTER.to_string(),
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
                    &v1::CloseSessionRequest {
                        session: 4,
                        cluster_id: CLUSTER.to_string(),
                    },
                ),
            ),
        ]
        .into_iter(),
    )
}

pub(in crate::fuzz) fn admin() -> Seeds {
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
