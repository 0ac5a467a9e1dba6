//! All servers are lost, and an empty cluster takes their place at the same addresses, as `StartEmpty`
//! does it. Clients that wrote in sessions of the former cluster live through that.

use std::time::Duration;

use kontiki_client::{Client, ClusterChange, Consistency, Options};
use kontiki_proto::kv::PutRequest;
use kontiki_proto::kv::kv_client::KvClient;
use kontiki_proto::v1::data_client::DataClient;
use kontiki_proto::v1::{InSession, OpenSessionRequest};
use kontiki_tests::node::Launch;
use rustix::process::Signal;

use crate::cluster::{CONFIG, Cluster, DEADLINE, channel, status};
use crate::eventually;
use crate::node::Node;

const PRESENT: &str = "00000000000c2057";

/// Opens a session, wherever that is possible; its id.
async fn open_session(cluster: &Cluster) -> u64 {
    let mut session = 0;
    eventually("a session is opened", async || {
        for node in &cluster.nodes {
            let mut data = DataClient::new(channel(&node.client));
            if let Ok(opened) = data.open_session(OpenSessionRequest {}).await {
                session = opened.into_inner().session;
                return true;
            }
        }
        false
    })
    .await;
    session
}

/// Writes a sequence number under a key of the session, as its client does it that has had all answers.
async fn put_in_session(cluster: &Cluster, session: u64, sequence: u64) {
    let request = PutRequest {
        key: format!("session-{session}").into(),
        value: sequence.to_string().into(),
        in_session: Some(InSession {
            session,
            sequence,
            acknowledged: sequence - 1,
            cluster_id: PRESENT.to_owned(),
        }),
        ..PutRequest::default()
    };
    eventually("a write in a session is acknowledged", async || {
        for node in &cluster.nodes {
            let mut kv = KvClient::new(channel(&node.client));
            if kv.put(request.clone()).await.is_ok() {
                return true;
            }
        }
        false
    })
    .await;
}

/// What is stored under a key, read linearizably.
async fn value(client: &Client, key: &str) -> Option<String> {
    let got = client.get(key.to_owned(), Consistency::Linearizable).await;
    let kv = got.expect("read").kv?;
    Some(String::from_utf8_lossy(&kv.value).into_owned())
}

/// A fresh server at the addresses of one that is lost.
fn successor(node: &Node) -> Node {
    let listen = |port: &str, address: &str| format!("--listen-{port}={address}");
    let flags = [
        listen("client", &node.client),
        listen("peer", &node.peer),
        listen("http", &node.http),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let launch = Launch {
        name: &node.name,
        config: CONFIG,
        within: &[],
        flags: &flags,
    };
    let prefix = format!("{}, the second,", node.name);
    Node::launch(launch, move |line| eprintln!("{prefix} {line}"))
}

#[tokio::test]
async fn h1_clients_with_sessions_live_through_a_total_loss_and_no_write_is_mistaken_for_another() {
    let mut former = Cluster::of_three().await;
    let endpoints: Vec<_> = former.nodes.iter().map(|node| &node.client).collect();
    let options = Options {
        timeout: DEADLINE,
        attempt_timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let client = || Client::with_options(&endpoints, options.clone()).expect("endpoints");
    let (quiet, doubtful) = (client(), client());
    // So that the ids of the two clients' sessions come up in the next cluster as well.
    for _ in 0..20 {
        open_session(&former).await;
    }
    for value in ["1", "2"] {
        quiet.put("quiet", value).await.expect("written");
        doubtful.put("doubtful", value).await.expect("written");
    }
    let ids_max = open_session(&former).await;

    // A write reaches the leader alone, and then all of them are lost.
    let leader = former.leader(&[]).await;
    for place in (0..3).filter(|place| *place != leader) {
        former.nodes[place].signal(Signal::STOP);
    }
    let last = async || status(&former.nodes[leader]).await.map(|it| it.last_index);
    let before = last().await.expect("a status");
    let in_doubt = tokio::spawn({
        let doubtful = doubtful.clone();
        async move { doubtful.put("doubtful", "in doubt").await }
    });
    eventually("the write is in the leader's log", async || {
        last().await.is_some_and(|last| last > before)
    })
    .await;
    for node in &mut former.nodes {
        node.signal(Signal::KILL);
        assert!(!node.ends_well(DEADLINE), "it was killed");
    }

    let nodes = former.nodes.iter().map(successor).collect();
    let present = Cluster::with_id(PRESENT, nodes).await;

    // Clients of the present cluster have all the ids, and have written in each session.
    let mut sessions = vec![open_session(&present).await];
    while sessions.last().is_some_and(|id| *id < ids_max) {
        sessions.push(open_session(&present).await);
    }
    for session in &sessions {
        for sequence in [1, 2] {
            put_in_session(&present, *session, sequence).await;
        }
    }
    // The third write of the quiet client, which never learnt of the loss, and then theirs.
    quiet.put("quiet", "3").await.expect("written");
    for session in &sessions {
        put_in_session(&present, *session, 3).await;
    }
    for session in &sessions {
        let found = value(&quiet, &format!("session-{session}")).await;
        assert_eq!(
            found.as_deref(),
            Some("3"),
            "session {session}: acknowledged"
        );
    }
    let found = value(&quiet, "quiet").await;
    assert_eq!(found.as_deref(), Some("3"), "in a session of its own");

    // What was in doubt stays so; no other cluster is asked about it.
    let error = in_doubt.await.expect("no panic").expect_err("not known");
    assert!(error.is_unknown(), "{error}");
    assert!(error.to_string().contains("WRONG_CLUSTER"), "{error}");
    let found = value(&quiet, "doubtful").await;
    assert_eq!(found, None, "nothing of the former cluster");
    doubtful.put("doubtful", "after").await.expect("written");
    let change = ClusterChange {
        former: former.id.clone(),
        present: PRESENT.to_owned(),
        count: 1,
    };
    for client in [quiet, doubtful] {
        assert_eq!(client.cluster_change(), Some(change.clone()));
    }
}
