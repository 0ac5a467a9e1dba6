//! Bad input at the ports of a real node, by real sockets: refused with a reason, counted, logged once
//! per peer and minute. `docs/bad-input.md` lists all of it, with the tests here.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use common::{NodeProcess, PATIENCE, cluster, eventually};
use futures::StreamExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kontiki_proto::kv::kv_client::KvClient;
use kontiki_proto::kv::{GetRequest, PutRequest};
use kontiki_proto::raft::peer_client::PeerClient;
use kontiki_proto::raft::peer_message::Body;
use kontiki_proto::raft::{Hello, PeerMessage};
use kontiki_proto::v1::data_client::DataClient;
use kontiki_proto::{metadata, reason, v1};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Of an empty SETTINGS frame.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// Streams of servers that are no members: see `peer::inbound`.
const STRANGER_STREAMS_MAX: usize = 64;
/// Servers whose addresses are remembered: `limits.addressBookMax`.
const ADDRESS_BOOK_MAX: u64 = 1024;
/// Connections of one address: see `listen::door`.
const CONNECTIONS_OF_ADDRESS_MAX: usize = 1024;
/// The same of the port of metrics and probes: see `http`.
const HTTP_CONNECTIONS_OF_ADDRESS_MAX: usize = 64;
/// What a flood may cost a node: mostly the buffers of a few hundred connections.
const FLOOD_KIB_MAX: u64 = 128 << 10;

fn refused(node: &NodeProcess, face: &str, reason: &str) -> f64 {
    node.metric(&format!(
        "kontiki_refused_total{{face=\"{face}\",reason=\"{reason}\"}}"
    ))
}

async fn counted(node: &NodeProcess, face: &str, reason: &str, at_least: f64) {
    let what = format!("{at_least} refused by {face}: {reason}");
    eventually(&what, async || {
        (refused(node, face, reason) >= at_least).then_some(())
    })
    .await;
}

/// Says something to a port, and reads what comes back until the node closes the connection.
fn talk(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(bytes).expect("sent");
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the connection stays open: {error}"),
    }
    answer
}

fn is_failed(status: &Status, wanted: &str) {
    let details = status.get_error_details();
    let info = details.error_info().expect("a detail");
    assert_eq!(info.reason, wanted, "{status}");
    let outcome = info.metadata.get(metadata::OUTCOME);
    assert_eq!(outcome.map(String::as_str), Some("FAILED"));
}

async fn kv(node: &NodeProcess) -> KvClient<Channel> {
    KvClient::connect(format!("http://{}", node.client))
        .await
        .expect("it listens")
}

fn put(key: &str, bytes: usize) -> PutRequest {
    PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: vec![b'v'; bytes].into(),
        ..PutRequest::default()
    }
}

fn hello(node: &NodeProcess, from: u64) -> PeerMessage {
    PeerMessage {
        cluster: 0xc1,
        from,
        to: u64::from_str_radix(&node.server_id, 16).expect("an id"),
        body: Some(Body::Hello(Hello::default())),
        ..PeerMessage::default()
    }
}

#[tokio::test]
async fn what_is_no_http2_is_told_so_counted_and_logged_once() {
    let node = NodeProcess::start("n", &[]);
    let tls = [0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3];
    for (face, address) in [("client", &node.client), ("peer", &node.peer)] {
        let answer = talk(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains("gRPC"), "{answer}");
        talk(address, &tls);
        talk(address, b"\x00\xff\x00garbage");
        talk(
            address,
            &PREFACE[..10]
                .iter()
                .chain(b"nonsense")
                .copied()
                .collect::<Vec<_>>(),
        );
        counted(&node, face, "not_http2", 4.0).await;
    }
    let logged = node.logged("refused");
    assert_eq!(logged.len(), 1, "once per peer and minute: {logged:?}");
    assert_eq!(logged[0]["peer"], "127.0.0.1");
    assert_eq!(logged[0]["reason"], "not_http2");
}

#[tokio::test]
async fn frames_that_break_the_rules_end_a_connection() {
    let node = NodeProcess::start("n", &[]);
    for (face, address) in [("client", &node.client), ("peer", &node.peer)] {
        // A frame of 16 MiB, and DATA on a stream that nobody opened.
        for frame in [
            [255, 255, 255, 0, 0, 0, 0, 0, 1],
            [0, 0, 0, 0, 0, 0, 0, 0, 1],
        ] {
            talk(address, &[PREFACE, &SETTINGS, &frame].concat());
        }
        counted(&node, face, "malformed", 2.0).await;
    }
}

#[tokio::test]
async fn who_connects_and_says_nothing_or_half_of_it_is_closed() {
    let node = NodeProcess::start("n", &[]);
    // Side by side: each takes the whole deadline.
    std::thread::scope(|scope| {
        for address in [&node.client, &node.peer] {
            scope.spawn(|| talk(address, b""));
            scope.spawn(|| talk(address, &PREFACE[..12]));
        }
    });
    counted(&node, "client", "late", 2.0).await;
    counted(&node, "peer", "late", 2.0).await;
    // A check that connects and goes is none of that.
    drop(TcpStream::connect(&node.client).expect("it listens"));
    talk(&node.client, b"\n");
    counted(&node, "client", "not_http2", 1.0).await;
    assert_eq!(refused(&node, "client", "late"), 2.0);
}

#[tokio::test]
async fn a_stream_without_a_hello_ends_at_its_deadline() {
    let node = NodeProcess::start("n", &[]);
    let mut peer = PeerClient::connect(format!("http://{}", node.peer))
        .await
        .expect("it listens");
    let status = peer.entries(futures::stream::pending()).await;
    let status = status.expect_err("no hello");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    is_failed(&status, reason::TIMED_OUT);
    counted(&node, "peer", "late", 1.0).await;
    let status = peer.entries(futures::stream::empty()).await;
    is_failed(&status.expect_err("no hello"), reason::MALFORMED);
    let mut named = hello(&node, 7);
    named.body = Some(Body::Hello(Hello {
        node: "n".repeat(1000),
        ..Hello::default()
    }));
    let status = peer.entries(futures::stream::iter([named])).await;
    is_failed(&status.expect_err("too long"), reason::MALFORMED);
    counted(&node, "peer", "malformed", 2.0).await;
}

#[tokio::test]
async fn messages_that_are_none_are_refused_as_such() {
    let (nodes, leader) = cluster(1).await;
    let node = &nodes[leader];
    let channel = |address: &str| {
        let endpoint = Channel::from_shared(format!("http://{address}"));
        endpoint.expect("an address").connect_lazy()
    };
    let call = async |address: &str, path: &'static str, message: GetRequest| {
        let mut grpc = tonic::client::Grpc::new(channel(address));
        grpc.ready().await.expect("it listens");
        let codec = tonic_prost::ProstCodec::<GetRequest, GetRequest>::default();
        let path = http::uri::PathAndQuery::from_static(path);
        grpc.unary(Request::new(message), path, codec).await
    };
    // Its first field is a text in Activate, and these bytes are none.
    let no_text = GetRequest {
        key: Bytes::from_static(b"\xff\xfe"),
        ..GetRequest::default()
    };
    let path = "/kontiki.v1.Admin/Activate";
    let status = call(&node.peer, path, no_text.clone()).await;
    let status = status.expect_err("no text");
    assert_eq!(status.code(), Code::InvalidArgument);
    is_failed(&status, reason::MALFORMED);
    counted(node, "admin", "malformed", 1.0).await;
    for (face, address, path) in [
        ("client", &node.client, "/kontiki.kv.v1.Kv/Nothing"),
        ("client", &node.client, "/nothing.of/This"),
        ("admin", &node.peer, "/kontiki.v1.Admin/Nothing"),
        ("peer", &node.peer, "/kontiki.raft.v1.Peer/Nothing"),
    ] {
        let before = refused(node, face, "unknown_method");
        let status = call(address, path, no_text.clone()).await;
        assert_eq!(status.expect_err("no method").code(), Code::Unimplemented);
        counted(node, face, "unknown_method", before + 1.0).await;
    }
}

#[tokio::test]
async fn requests_out_of_their_bounds_are_refused_and_others_served() {
    let (nodes, leader) = cluster(1).await;
    let node = &nodes[leader];
    let mut kv = kv(node).await;
    let status = kv.put(put("", 1)).await.expect_err("no key");
    is_failed(&status, reason::INVALID);
    counted(node, "client", "invalid", 1.0).await;
    let status = kv.put(put("k", 1 << 20)).await.expect_err("too large");
    is_failed(&status, reason::TOO_LARGE);
    counted(node, "client", "too_large", 1.0).await;
    // So large that it is not even taken in.
    let status = kv.put(put("k", 8 << 20)).await.expect_err("far too large");
    assert_eq!(status.code(), Code::InvalidArgument);
    is_failed(&status, reason::TOO_LARGE);
    counted(node, "client", "too_large", 2.0).await;
    let address = format!("http://{}", node.client);
    let mut data = DataClient::connect(address).await.expect("it listens");
    let large = v1::WriteStreamRequest {
        commands: vec![v1::StreamedCommand {
            command: vec![0; 8 << 20].into(),
            ..v1::StreamedCommand::default()
        }],
    };
    let stream = futures::stream::iter([large]).chain(futures::stream::pending());
    let answers = data.write_stream(stream).await.expect("a stream");
    let status = answers.into_inner().message().await.expect_err("too large");
    is_failed(&status, reason::TOO_LARGE);
    counted(node, "client", "too_large", 3.0).await;
    let mut admin = node.admin().await;
    let crowd = v1::RemoveServerRequest {
        server_ids: vec!["7".into(); 65],
        ..v1::RemoveServerRequest::default()
    };
    let status = admin.remove_server(crowd).await.expect_err("too many");
    is_failed(&status, reason::INVALID);
    counted(node, "admin", "invalid", 1.0).await;
    let foreign = v1::ActivateRequest {
        cluster_id: "bad".into(),
    };
    let status = admin.activate(foreign).await.expect_err("another");
    is_failed(&status, reason::WRONG_CLUSTER);
    counted(node, "admin", "wrong_cluster", 1.0).await;
    kv.put(put("k", 1)).await.expect("served");
}

#[tokio::test]
async fn a_request_without_any_time_is_refused_and_not_begun() {
    let (nodes, leader) = cluster(1).await;
    let node = &nodes[leader];
    // By a connection that leaves the deadline to the node: a channel would keep it as well.
    let stream = tokio::net::TcpStream::connect(&node.client).await;
    let io = TokioIo::new(stream.expect("it listens"));
    let executor = TokioExecutor::new();
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    let direct = tower::service_fn(move |request: http::Request<tonic::body::Body>| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    });
    let origin = format!("http://{}", node.client);
    let mut kv = KvClient::with_origin(direct, origin.parse().expect("an address"));
    let mut hasty = Request::new(put("k", 1));
    hasty.set_timeout(Duration::ZERO);
    let status = kv.put(hasty).await.expect_err("no time");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    is_failed(&status, reason::TOO_LATE);
    counted(node, "client", "late", 1.0).await;
    let written = kv.put(put("k", 1)).await.expect("served").into_inner();
    assert_eq!(written.revision, 1, "nothing was written before");
}

#[tokio::test]
async fn commands_that_come_twice_or_late_are_counted() {
    let (nodes, leader) = cluster(1).await;
    let node = &nodes[leader];
    let mut kv = kv(node).await;
    let mut late = put("k", 1);
    late.in_session = Some(v1::InSession {
        session: 12345,
        cluster_id: "c1".into(),
        sequence: 1,
        acknowledged: 0,
    });
    let status = kv.put(late).await.expect_err("no such session");
    is_failed(&status, reason::SESSION_EXPIRED);
    counted(node, "client", "repeated", 1.0).await;
}

/// Dials until it is refused; keeps what it has.
async fn crowd(
    node: &NodeProcess,
    first: u64,
    count: usize,
) -> (Vec<Box<dyn std::any::Any>>, Vec<Status>) {
    let (mut open, mut refused): (Vec<Box<dyn std::any::Any>>, _) = (Vec::new(), Vec::new());
    let mut peer = PeerClient::connect(format!("http://{}", node.peer))
        .await
        .expect("it listens");
    for from in 0..count {
        let hello = hello(node, first + from as u64);
        // It ends with what is kept of it.
        let (kept, ended) = tokio::sync::oneshot::channel::<()>();
        let open_end = futures::stream::pending().take_until(ended);
        let requests = futures::stream::iter([hello]).chain(open_end);
        match peer.liveness(requests).await {
            Ok(answers) => open.push(Box::new((answers, kept))),
            Err(status) => refused.push(status),
        }
    }
    (open, refused)
}

#[tokio::test]
async fn a_crowd_of_strangers_is_let_in_up_to_a_bound_and_shuts_nobody_out() {
    let (nodes, leader) = cluster(3).await;
    let follower = &nodes[(leader + 1) % 3];
    // More than the address book holds, a few at a time.
    let mut first = 1000;
    while first < 1000 + 2 * ADDRESS_BOOK_MAX {
        let count = 2 * STRANGER_STREAMS_MAX;
        let (open, refused) = eventually("those before are gone", async || {
            let (open, refused) = crowd(follower, first, count).await;
            (open.len() >= STRANGER_STREAMS_MAX / 2).then_some((open, refused))
        })
        .await;
        assert!(open.len() <= STRANGER_STREAMS_MAX, "{}", open.len());
        is_failed(&refused[0], reason::QUEUE_FULL);
        first += count as u64;
    }
    counted(follower, "peer", "too_many", 1.0).await;
    // The follower still knows where the others are, and can lead them.
    let request = v1::TriggerElectionRequest::default();
    let mut admin = follower.admin().await;
    admin.trigger_election(request).await.expect("triggered");
    eventually("the follower leads", async || {
        let status = follower.status().await;
        (status.serving && status.term_committed).then_some(())
    })
    .await;
    kv(follower).await.put(put("k", 1)).await.expect("served");
}

#[tokio::test]
async fn no_address_has_more_than_half_of_the_connections() {
    let node = NodeProcess::start("n", &[]);
    // Clients that answer every PING: however long this takes, all stay.
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS_OF_ADDRESS_MAX {
        open.push(kv(&node).await);
    }
    assert_eq!(refused(&node, "client", "too_many"), 0.0);
    for _ in 0..8 {
        assert_eq!(talk(&node.client, b""), b"", "closed at once");
    }
    counted(&node, "client", "too_many", 8.0).await;
    drop(open);
    // The places are free again.
    eventually("a connection is taken", async || {
        let mut client = KvClient::connect(format!("http://{}", node.client))
            .await
            .ok()?;
        let status = client
            .get(GetRequest::default())
            .await
            .expect_err("no cluster");
        (status.code() == Code::InvalidArgument).then_some(())
    })
    .await;
}

#[tokio::test]
async fn metrics_are_served_within_bounds() {
    let node = NodeProcess::start("n", &[]);
    std::thread::scope(|scope| {
        scope.spawn(|| talk(&node.http, b""));
        scope.spawn(|| talk(&node.http, b"GET /metrics HTTP/1.1\r\nhost"));
    });
    counted(&node, "http", "late", 2.0).await;
    let answer = talk(&node.http, b"\x16\x03\x01\r\n\r\n");
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{answer:?}");
    counted(&node, "http", "malformed", 1.0).await;
    // Silent ones are closed in time, so that the crowd may have to come again on a slow machine.
    eventually("a crowd finds no more places", async || {
        let crowd =
            (0..HTTP_CONNECTIONS_OF_ADDRESS_MAX + 8).map(|_| TcpStream::connect(&node.http));
        let crowd: Vec<_> = crowd.collect::<Result<_, _>>().expect("it listens");
        drop(crowd);
        eventually("a place is free", async || {
            let answer = talk(&node.http, b"GET /livez HTTP/1.1\r\nhost: n\r\n\r\n");
            answer.starts_with(b"HTTP/1.1 200 ").then_some(())
        })
        .await;
        (refused(&node, "http", "too_many") >= 1.0).then_some(())
    })
    .await;
}

/// A request whose message is announced and never comes, as often as a connection allows.
fn drip(address: &str, requests: u32) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let path = b"/kontiki.kv.v1.Kv/Put";
    // :method POST, :scheme http, and :path and :authority as texts.
    let mut block = vec![0x83, 0x86, 0x44, path.len() as u8];
    block.extend_from_slice(path);
    block.extend_from_slice(b"\x41\x01x");
    let frame = |kind: u8, flags: u8, id: u32, payload: &[u8]| {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
    };
    let mut bytes = [PREFACE, &SETTINGS].concat();
    for at in 0..requests {
        let id = 2 * at + 1;
        bytes.extend(frame(1, 4, id, &block));
        // Of a message of 1 MB, the first 4000 bytes.
        let message = [&[0, 0, 15, 66, 64][..], &[b'x'; 4000]].concat();
        bytes.extend(frame(0, 0, id, &message));
    }
    // What does not fit is not taken: so much the better.
    stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .expect("a timeout");
    let _ = stream.write_all(&bytes);
    stream
}

#[tokio::test]
async fn a_flood_costs_bounded_memory_and_the_cluster_serves_on() {
    let (nodes, leader) = cluster(3).await;
    let node = &nodes[leader];
    let mut kv = kv(node).await;
    kv.put(put("k", 1)).await.expect("served");
    let before = node.resident();
    let mut open = Vec::new();
    for round in 0..10 {
        for address in [&node.client, &node.peer] {
            for _ in 0..20 {
                let mut stream = TcpStream::connect(address).expect("it listens");
                // Whatever the node does with it.
                let _ = stream.write_all(&[b'x'; 4096]);
                let _ = stream.shutdown(Shutdown::Write);
                let silent = TcpStream::connect(address).expect("it listens");
                open.push(silent);
            }
        }
        open.push(drip(&node.client, 1000));
        let (streams, _) = crowd(node, 1000, STRANGER_STREAMS_MAX).await;
        for _ in 0..3 {
            let status = kv.put(put("k", 8 << 20)).await;
            status.expect_err("far too large");
        }
        kv.put(put("k", 1))
            .await
            .unwrap_or_else(|status| panic!("round {round}: {status}"));
        drop(streams);
        let grown = node.resident().saturating_sub(before);
        assert!(grown <= FLOOD_KIB_MAX, "round {round}: {grown} KiB more");
    }
    let get = GetRequest {
        key: Bytes::from_static(b"k"),
        ..GetRequest::default()
    };
    assert!(kv.get(get).await.expect("served").into_inner().found);
    counted(node, "client", "not_http2", 200.0).await;
    counted(node, "peer", "not_http2", 200.0).await;
    let logged = node.logged("refused");
    assert_eq!(logged.len(), 1, "once per peer and minute: {logged:?}");
}
