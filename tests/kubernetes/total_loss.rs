//! All servers are lost at once, under clients that write in sessions, and `StartEmpty` begins an empty
//! cluster in their place: nothing that is acknowledged there is lost, sessions of the former cluster are
//! refused by name, and the clients go on by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kontiki_client::proto::kv::PutRequest;
use kontiki_client::proto::kv::kv_client::KvClient;
use kontiki_client::proto::reason;
use kontiki_client::proto::v1::data_client::DataClient;
use kontiki_client::proto::v1::{InSession, OpenSessionRequest};
use kontiki_client::{Client, ClusterChange, Consistency, Options};
use serde_json::json;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic_types::StatusExt;

use crate::raft::{PATIENCE, Raft, address_of};
use crate::wait::{until, until_ok};

/// Clients, each with a session of its own and one write at a time.
const CLIENTS: usize = 4;
/// Acknowledged writes of each client that show that it is served.
const SERVED: u64 = 50;

/// How a write of a client ended.
struct Written {
    key: String,
    /// Not known, if it is not acknowledged: what failed is not kept.
    is_acknowledged: bool,
    /// The cluster was replaced before it ended: it was sent in a session of the present one.
    is_of_present: bool,
}

/// A client under way.
struct Writer {
    client: Client,
    acknowledged: Arc<AtomicU64>,
}

/// A session whose owner never learns of the loss.
struct Quiet {
    session: u64,
    cluster_id: String,
}

/// On a cluster of three that is settled.
pub async fn run(raft: &Raft) -> Result<()> {
    let recovery = json!({"spec": {"recovery": {"onTotalLoss": "StartEmpty"}}});
    let (target, patch) = (format!("raft/{}", raft.name), recovery.to_string());
    raft.kubectl(&["patch", &target, "--type=merge", "--patch", &patch])
        .await?;
    raft.settled(3).await?;
    let former = cluster_id(raft).await?;
    let quiet = Quiet::open(raft).await?;
    ensure!(quiet.cluster_id == former, "a session of another cluster");

    let stopped = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    let mut writers = Vec::new();
    for number in 0..CLIENTS {
        let options = Options {
            timeout: PATIENCE,
            attempt_timeout: Duration::from_secs(1),
            ..Options::default()
        };
        let client = Client::with_options(raft.client_endpoints(), options)?;
        let acknowledged = Arc::new(AtomicU64::new(0));
        tasks.spawn(write(
            number,
            client.clone(),
            Arc::clone(&acknowledged),
            Arc::clone(&stopped),
        ));
        writers.push(Writer {
            client,
            acknowledged,
        });
    }
    served(&writers).await?;

    let since = Instant::now();
    let selector = format!("--selector=kontiki.dev/cluster={}", raft.name);
    raft.kubectl(&[
        "delete",
        "pod",
        &selector,
        "--grace-period=0",
        "--force",
        "--wait=false",
    ])
    .await?;
    let present = until("there is another cluster", PATIENCE, async || {
        let now = cluster_id(raft).await?;
        Ok((now != former && !now.is_empty()).then_some(now))
    })
    .await?;
    raft.settled(3).await?;
    let settled = since.elapsed();
    quiet.is_refused(raft, &present).await?;
    let change = ClusterChange {
        former: former.clone(),
        present: present.clone(),
        count: 1,
    };
    until_ok(
        "every client has told of the change",
        PATIENCE,
        async || {
            for writer in &writers {
                let seen = writer.client.cluster_change();
                ensure!(seen.as_ref() == Some(&change), "seen: {seen:?}");
            }
            Ok(())
        },
    )
    .await?;
    served(&writers).await?;
    stopped.store(true, Relaxed);

    let mut written = Vec::new();
    while let Some(task) = tasks.join_next().await {
        written.extend(task.context("a client panicked")??);
    }
    verify(&writers[0].client, &written).await?;
    println!(
        "  total loss: cluster {former} followed by {present}, settled after {:.1} s",
        settled.as_secs_f64()
    );
    Ok(())
}

/// The cluster's id by the status of the resource.
async fn cluster_id(raft: &Raft) -> Result<String> {
    let resource = raft.resource().await?;
    Ok(resource["status"]["clusterId"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

/// Writes keys of its own, one after the other; how those ended that may have been applied.
async fn write(
    number: usize,
    client: Client,
    acknowledged: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
) -> Result<Vec<Written>> {
    let mut written = Vec::new();
    for at in 0_u64.. {
        if stopped.load(Relaxed) {
            break;
        }
        let key = format!("lives-{number}-{at}");
        let result = client.put(key.clone(), key.clone()).await;
        let is_acknowledged = match result {
            Ok(_) => true,
            Err(error) if error.is_unknown() => false,
            Err(error) => bail!("a client is not served within {PATIENCE:?}: {error}"),
        };
        if is_acknowledged {
            acknowledged.fetch_add(1, Relaxed);
        }
        written.push(Written {
            key,
            is_acknowledged,
            is_of_present: client.cluster_change().is_some(),
        });
    }
    Ok(written)
}

/// Waits until each client has so many more writes acknowledged.
async fn served(writers: &[Writer]) -> Result<()> {
    for writer in writers {
        let wanted = writer.acknowledged.load(Relaxed) + SERVED;
        until_ok("a client is served", PATIENCE, async || {
            let acknowledged = writer.acknowledged.load(Relaxed);
            ensure!(acknowledged >= wanted, "{acknowledged} of {wanted} writes");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// What is acknowledged in the present cluster is there, applied once; of the former one nothing is.
async fn verify(client: &Client, written: &[Written]) -> Result<()> {
    let mut counts = [[0_u64; 2]; 2];
    for write in written {
        counts[usize::from(write.is_of_present)][usize::from(write.is_acknowledged)] += 1;
        let got = client.get(write.key.clone(), Consistency::Linearizable);
        let found = got.await?.kv.is_some_and(|kv| kv.value == write.key);
        match write.is_of_present {
            true => ensure!(
                found || !write.is_acknowledged,
                "{} was acknowledged, and is not there",
                write.key
            ),
            false => ensure!(
                !found,
                "{} is of the former cluster, and is there",
                write.key
            ),
        }
    }
    let [[former_unknown, former], [unknown, acknowledged]] = counts;
    // A revision counts the writes applied; nobody else has written since the loss.
    let got = client.get("lives", Consistency::Linearizable).await?;
    let applied = got.revision;
    ensure!(
        (acknowledged..=acknowledged + unknown).contains(&applied),
        "{applied} writes were applied, {acknowledged} acknowledged, {unknown} unknown"
    );
    println!(
        "  former cluster: {former} writes acknowledged and lost, {former_unknown} unknown; present one: \
         {acknowledged} acknowledged and there, {unknown} unknown, {applied} applied"
    );
    Ok(())
}

/// The leader's port for clients.
async fn leader(raft: &Raft) -> Result<Channel> {
    let (pod, _) = raft.leader().await?;
    let address = address_of(&raft.pod(&pod).await?).context("the leader's pod has no address")?;
    let endpoint = Channel::from_shared(format!("http://{address}:7400"))?;
    Ok(endpoint.connect().await?)
}

impl Quiet {
    async fn open(raft: &Raft) -> Result<Self> {
        until("a session is opened", PATIENCE, async || {
            let mut data = DataClient::new(leader(raft).await?);
            let opened = data.open_session(OpenSessionRequest {}).await?.into_inner();
            Ok(Some(Self {
                session: opened.session,
                cluster_id: opened.cluster_id,
            }))
        })
        .await
    }

    /// Its first write is refused, and the refusal names both clusters.
    async fn is_refused(&self, raft: &Raft, present: &str) -> Result<()> {
        let request = PutRequest {
            key: "quiet".into(),
            value: "quiet".into(),
            in_session: Some(InSession {
                session: self.session,
                sequence: 1,
                acknowledged: 0,
                cluster_id: self.cluster_id.clone(),
            }),
            ..PutRequest::default()
        };
        until_ok(
            "the former session is refused by name",
            PATIENCE,
            async || {
                let mut kv = KvClient::new(leader(raft).await?);
                let Err(status) = kv.put(request.clone()).await else {
                    bail!("a write in a session of the former cluster was applied")
                };
                let info = status.get_details_error_info();
                let reason = info.as_ref().map(|info| &info.reason[..]);
                ensure!(reason == Some(reason::WRONG_CLUSTER), "{status:?}");
                for cluster in [&self.cluster_id[..], present] {
                    ensure!(status.message().contains(cluster), "{status:?}");
                }
                println!("  {}", status.message());
                Ok(())
            },
        )
        .await
    }
}
