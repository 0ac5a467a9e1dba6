//! The Rust client writes in sessions while leaders are handed over, stopped and killed: no write is
//! unknown in the end, and each is applied once. A `kv` revision counts the writes applied.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use kontiki_client::{Client, Consistency, Options};
use kontiki_proto::v1::TransferLeadershipRequest;
use rustix::process::Signal;

use crate::cluster::{Cluster, DEADLINE, admin};
use crate::eventually;

const CLIENTS: usize = 2;
/// Of each client, with one write in flight each.
const WRITERS: usize = 4;

/// Written so far, by everyone.
struct Writers {
    acknowledged: AtomicU64,
    stopped: AtomicBool,
}

impl Writers {
    /// So much is written after now.
    async fn go_on(&self, writes: u64) {
        let wanted = self.acknowledged.load(Relaxed) + writes;
        eventually("writes go on", async || {
            self.acknowledged.load(Relaxed) >= wanted
        })
        .await;
    }
}

#[tokio::test]
async fn writes_in_sessions_are_known_and_applied_once_through_leader_changes() {
    let cluster = Cluster::of_three().await;
    let endpoints: Vec<_> = cluster
        .nodes
        .iter()
        .map(|node| node.client.clone())
        .collect();
    let options = Options {
        timeout: DEADLINE,
        // So that a leader that stands still is left while it does.
        attempt_timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let writers = Arc::new(Writers {
        acknowledged: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
    });
    let mut tasks = tokio::task::JoinSet::new();
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|_| Client::with_options(&endpoints, options.clone()).expect("endpoints"))
        .collect();
    for (client, writer) in clients
        .iter()
        .flat_map(|it| (0..WRITERS).map(move |at| (it, at)))
    {
        let (client, writers) = (client.clone(), Arc::clone(&writers));
        tasks.spawn(async move {
            while !writers.stopped.load(Relaxed) {
                let written = client.put(format!("key-{writer}"), "value").await;
                written.expect("known, and done");
                writers.acknowledged.fetch_add(1, Relaxed);
            }
        });
    }
    writers.go_on(100).await;
    eventually("leadership is handed over", async || {
        let leader = cluster.leader(&[]).await;
        let request = TransferLeadershipRequest::default();
        let mut admin = admin(&cluster.nodes[leader]);
        admin.transfer_leadership(request).await.is_ok()
    })
    .await;
    writers.go_on(100).await;

    // It holds writes whose outcome nobody learns, and goes on after another has led.
    let stopped = cluster.leader(&[]).await;
    cluster.nodes[stopped].signal(Signal::STOP);
    cluster.leader(&[stopped]).await;
    writers.go_on(100).await;
    cluster.nodes[stopped].signal(Signal::CONT);
    writers.go_on(100).await;

    let killed = cluster.leader(&[]).await;
    cluster.nodes[killed].signal(Signal::KILL);
    writers.go_on(100).await;
    writers.stopped.store(true, Relaxed);
    while let Some(task) = tasks.join_next().await {
        task.expect("every write succeeded");
    }
    let got = clients[0].get("key-0", Consistency::Linearizable).await;
    let revision = got.expect("read").revision;
    assert_eq!(revision, writers.acknowledged.load(Relaxed), "applied once");
}
