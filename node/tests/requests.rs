//! What clients may ask, and how they are answered: bounds, streams, consistency, the other machine.

mod common;

use std::io::Write;

use common::{NodeProcess, cluster, cluster_with};
use kontiki_proto::kv::kv_client::KvClient;
use kontiki_proto::kv::{GetRequest, PutRequest};
use kontiki_proto::v1;
use kontiki_proto::v1::data_client::DataClient;
use kontiki_proto::v1::streamed_result::Result as StreamResult;
use kontiki_proto::{metadata, reason};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

async fn kv(node: &NodeProcess) -> KvClient<Channel> {
    let client = KvClient::connect(format!("http://{}", node.client))
        .await
        .expect("it listens");
    client.max_encoding_message_size(8 << 20)
}

async fn data(node: &NodeProcess) -> DataClient<Channel> {
    DataClient::connect(format!("http://{}", node.client))
        .await
        .expect("it listens")
}

fn seen(status: &Status) -> (Code, String, String) {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("no detail: {status}"));
    let outcome = info.metadata.get(metadata::OUTCOME).expect("an outcome");
    (status.code(), info.reason.clone(), outcome.clone())
}

fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> PutRequest {
    PutRequest {
        key: key.into().into(),
        value: value.into().into(),
        ..PutRequest::default()
    }
}

#[tokio::test]
async fn bad_requests_are_named_and_leave_no_trace() {
    let (nodes, leader) = cluster(1).await;
    let node = &nodes[leader];
    let mut kv = kv(node).await;
    let before = node.status().await.last_index;
    for (request, field, reason) in [
        (put("", "v"), "key", reason::INVALID),
        (put(vec![0; 4097], "v"), "key", reason::TOO_LARGE),
        (put("k", vec![0; (1 << 20) - 3]), "value", reason::TOO_LARGE),
    ] {
        let status = kv.put(request).await.expect_err(field);
        let expected = (Code::InvalidArgument, reason.into(), "FAILED".into());
        assert_eq!(seen(&status), expected);
        assert!(status.message().contains(field), "{}", status.message());
    }
    let mut data = data(node).await;
    for (command, reason) in [
        (&b""[..], reason::INVALID),
        (b"\x07", reason::REFUSED_BY_MACHINE),
    ] {
        let request = v1::WriteRequest {
            command: command.to_vec().into(),
            ..Default::default()
        };
        let status = data.write(request).await.expect_err(reason);
        let expected = (Code::InvalidArgument, reason.into(), "FAILED".into());
        assert_eq!(seen(&status), expected);
    }
    assert_eq!(node.status().await.last_index, before, "nothing in the log");
    kv.put(put("k", vec![0; (1 << 20) - 4]))
        .await
        .expect("just fits");
}

#[tokio::test]
async fn a_follower_redirects_and_a_joiner_refuses() {
    let (nodes, leader) = cluster(3).await;
    let follower = &nodes[(leader + 1) % 3];
    let status = kv(follower)
        .await
        .put(put("k", "v"))
        .await
        .expect_err("a follower");
    let expected = (
        Code::FailedPrecondition,
        reason::NOT_LEADER.into(),
        "FAILED".into(),
    );
    assert_eq!(seen(&status), expected);
    let details = status.get_error_details();
    let named = &details.error_info().expect("a detail").metadata;
    assert_eq!(
        named.get(metadata::LEADER_ID),
        Some(&nodes[leader].server_id)
    );
    assert_eq!(
        named.get(metadata::LEADER_ADDRESS),
        Some(&nodes[leader].client)
    );
    assert_eq!(
        named.get(metadata::LEADER_PEER_ADDRESS),
        Some(&nodes[leader].peer)
    );

    let joiner = NodeProcess::start("joiner", &[]);
    let status = kv(&joiner)
        .await
        .put(put("k", "v"))
        .await
        .expect_err("a joiner");
    let expected = (
        Code::FailedPrecondition,
        reason::NOT_A_MEMBER.into(),
        "FAILED".into(),
    );
    assert_eq!(seen(&status), expected);
}

#[tokio::test]
async fn a_stream_of_writes_answers_every_command() {
    let (nodes, leader) = cluster(3).await;
    let mut data = data(&nodes[leader]).await;
    let command = |id: u64| v1::StreamedCommand {
        id,
        command: match id % 10 {
            0 => Vec::new().into(),
            // A put of the kv machine: key length, key, value.
            _ => [&[1, 8, 0][..], &id.to_be_bytes(), b"value"]
                .concat()
                .into(),
        },
        in_session: None,
    };
    let lists = (0..50u64).map(move |list| v1::WriteStreamRequest {
        commands: (list * 200..(list + 1) * 200).map(command).collect(),
    });
    let mut stream = data
        .write_stream(futures::stream::iter(lists))
        .await
        .expect("a stream")
        .into_inner();
    let mut answered = std::collections::BTreeSet::new();
    while let Some(message) = stream
        .message()
        .await
        .expect("no end before the last result")
    {
        for result in message.results {
            assert!(
                answered.insert(result.id),
                "{} is answered twice",
                result.id
            );
            match result.result.expect("a result") {
                StreamResult::Written(written) => assert!(written.index > 0 && written.term > 0),
                StreamResult::Error(error) => {
                    assert_eq!(result.id % 10, 0);
                    assert_eq!(error.code, Code::InvalidArgument as i32);
                    assert_eq!(error.reason, reason::INVALID);
                    assert_eq!(error.metadata[metadata::OUTCOME], "FAILED");
                }
            }
        }
    }
    assert_eq!(answered.len(), 10_000);
}

#[tokio::test]
async fn a_stream_is_not_read_while_its_commands_wait() {
    const BOUND: u64 = 16;
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "limits: {{streamCommandsMax: {BOUND}}}").expect("written");
    let path = file.path().to_str().expect("text");
    let arguments = ["--config", path, "--election-timeout-ms", "60000"];
    let (nodes, leader) = cluster_with(3, &arguments).await;
    let followers: Vec<&NodeProcess> = (0..3)
        .filter(|node| *node != leader)
        .map(|node| &nodes[node])
        .collect();
    followers.iter().for_each(|node| node.freeze());
    let lists = (0..20).map(|list| v1::WriteStreamRequest {
        commands: (0..10)
            .map(|command| v1::StreamedCommand {
                id: list * 10 + command,
                command: b"\x01\x01\x00kv".to_vec().into(),
                in_session: None,
            })
            .collect(),
    });
    let mut data = data(&nodes[leader]).await;
    let stream = data.write_stream(futures::stream::iter(lists)).await;
    let mut stream = stream.expect("a stream").into_inner();
    let pending = || nodes[leader].metric("kontiki_proposals_pending") as u64;
    common::eventually("as many wait as may", async || {
        (pending() == BOUND).then_some(())
    })
    .await;
    // What else came is not proposed: nothing is, until a result has come.
    let last = nodes[leader].status().await.last_index;
    assert_eq!(pending(), BOUND);
    assert_eq!(nodes[leader].status().await.last_index, last);
    followers.iter().for_each(|node| node.thaw());
    let mut answered = 0;
    while let Some(message) = stream.message().await.expect("no end before the last") {
        assert!(pending() <= BOUND);
        answered += message.results.len();
    }
    assert_eq!(answered, 200);
}

#[tokio::test]
async fn the_typed_service_is_refused_by_another_machine() {
    let node = NodeProcess::start("counter", &["--machine", "counter"]);
    let status = kv(&node).await.put(put("k", "v")).await.expect_err("no kv");
    let expected = (
        Code::FailedPrecondition,
        reason::WRONG_MACHINE.into(),
        "FAILED".into(),
    );
    assert_eq!(seen(&status), expected);
}

#[tokio::test]
async fn a_write_without_a_quorum_is_unknown_when_its_wait_ends() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "limits: {{writeTimeoutMilliseconds: 200}}").expect("written");
    let path = file.path().to_str().expect("a name");
    // The leader must not find out by itself within that time.
    let arguments = ["--config", path, "--election-timeout-ms", "3000"];
    let (mut nodes, leader) = cluster_with(3, &arguments).await;
    let leader = nodes.remove(leader);
    let mut client = kv(&leader).await;
    // The followers are frozen, which no connection shows: it proposes, and nobody confirms.
    for node in &nodes {
        node.freeze();
    }
    let status = client.put(put("k", "w")).await.expect_err("no quorum");
    let expected = (
        Code::Unknown,
        reason::OUTCOME_UNKNOWN.into(),
        "UNKNOWN".into(),
    );
    assert_eq!(seen(&status), expected);
}

#[tokio::test]
async fn health_and_reflection_are_on_both_ports() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let (nodes, leader) = cluster(1).await;
    let joiner = NodeProcess::start("joiner", &[]);
    let node = &nodes[leader];
    for (address, serving) in [
        (&node.client, true),
        (&node.peer, true),
        (&joiner.client, false),
        (&joiner.peer, false),
    ] {
        let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
        let channel = endpoint.connect().await.expect("it listens");
        for service in ["", "kontiki.v1.Data", "kontiki.kv.v1.Kv"] {
            common::eventually("health says so", async || {
                let mut health = HealthClient::new(channel.clone());
                let service = service.into();
                let answer = health
                    .check(HealthCheckRequest { service })
                    .await
                    .expect("known");
                let is_serving = answer.into_inner().status == 1;
                (is_serving == serving).then_some(())
            })
            .await;
        }
        let mut reflection = ServerReflectionClient::new(channel.clone());
        let ask = |question| ServerReflectionRequest {
            host: String::new(),
            message_request: Some(question),
        };
        let requests = futures::stream::iter([
            ask(MessageRequest::ListServices(String::new())),
            // What the details of our errors are made of: grpcurl shows them by it.
            ask(MessageRequest::FileContainingSymbol(
                "google.rpc.ErrorInfo".into(),
            )),
        ]);
        let answers = reflection
            .server_reflection_info(requests)
            .await
            .expect("served");
        let mut answers = answers.into_inner();
        let mut answer = async || {
            let answer = answers.message().await.expect("no error");
            answer.expect("an answer").message_response
        };
        let list = answer().await;
        let Some(MessageResponse::ListServicesResponse(list)) = list else {
            panic!("not a list: {list:?}");
        };
        assert!(
            list.service
                .iter()
                .any(|service| service.name == "kontiki.kv.v1.Kv")
        );
        let file = answer().await;
        assert!(
            matches!(file, Some(MessageResponse::FileDescriptorResponse(_))),
            "{address}: {file:?}"
        );
    }
}

#[tokio::test]
async fn stale_reads_are_refused_where_they_are_disabled() {
    let (nodes, leader) = cluster_with(1, &["--dirty-read", "false"]).await;
    let mut kv = kv(&nodes[leader]).await;
    kv.put(put("k", "v")).await.expect("written");
    let get = |consistency: v1::Consistency| GetRequest {
        key: "k".into(),
        consistency: consistency.into(),
        ..GetRequest::default()
    };
    let status = kv.get(get(v1::Consistency::Stale)).await;
    let expected = (
        Code::FailedPrecondition,
        reason::DIRTY_READ_DISABLED.into(),
        "FAILED".into(),
    );
    assert_eq!(seen(&status.expect_err("disabled")), expected);
    let read = kv.get(get(v1::Consistency::Linearizable)).await;
    assert!(read.expect("read").into_inner().found);
}
