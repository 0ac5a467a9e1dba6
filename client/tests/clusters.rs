//! Revisions belong to a cluster: those of one mean nothing in another.

use std::time::Duration;

use kontiki_client::{Client, Consistency, Error, Options, Range};
use kontiki_node::machine::kv::Kv;
use kontiki_node::{Server, ServerOptions};

/// A cluster of one server.
async fn start() -> Server {
    let server = Server::start(Kv::default(), ServerOptions::default()).expect("it starts");
    server
        .await_leader(Duration::from_secs(30))
        .await
        .expect("it leads");
    server
}

fn client(server: &Server, sessions: bool) -> Client {
    let options = Options {
        sessions,
        ..Options::default()
    };
    Client::with_options([&server.me().client_address], options).expect("an endpoint")
}

fn is_of_another_cluster<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = result.expect_err("refused");
    assert_eq!(error.reason(), Some("WRONG_CLUSTER"), "{error}");
}

#[tokio::test]
async fn h1_a_revision_of_another_cluster_is_no_condition_and_no_place_to_watch_from() {
    let (former, present) = (start().await, start().await);
    for server in [&former, &present] {
        let put = client(server, true).put("k", "old").await.expect("written");
        assert_eq!(put.revision, 1, "the same in both");
    }
    let lost = client(&former, true);
    let got = lost
        .get("k", Consistency::Linearizable)
        .await
        .expect("read");
    for sessions in [true, false] {
        let client = client(&present, sessions);
        is_of_another_cluster(client.put_if("k", "wrong", &got).await);
        is_of_another_cluster(client.delete_if("k", &got).await);
        let seen = client.get("k", Consistency::Linearizable).await;
        let seen = seen.expect("read");
        assert_ne!(seen.cluster_id, got.cluster_id);
        assert_eq!(seen.kv.as_ref().map(|kv| &kv.value[..]), Some(&b"old"[..]));
        // Its own revisions are taken as ever.
        let put = client.put_if("k", "old", &seen).await.expect("written");
        assert!(!put.mismatch);
    }
    let client = client(&present, true);
    let from = got.revision + 1;
    let watch = client.watch(Range::all(), from).expect("a range");
    is_of_another_cluster(watch.in_cluster(&got.cluster_id).next().await);
    let seen = client.get("k", Consistency::Linearizable).await;
    let watch = client.watch(Range::all(), from).expect("a range");
    let cluster_id = seen.expect("read").cluster_id;
    let next = watch.in_cluster(cluster_id).next().await.expect("served");
    assert!(next.revision >= from);
}
