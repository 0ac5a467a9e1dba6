//! With an election timeout of a minute only the operator's trigger_election explains that there is
//! a leader again within seconds.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::World;
use crate::cluster::Cluster;
use crate::processes;
use crate::raft::{PATIENCE, Raft};
use crate::wait::{until, until_ok};

const ELECTION_TIMEOUT_MS: u64 = 60_000;

/// A leader again by then.
const RECOVERY_MAX: Duration = Duration::from_secs(5);

pub async fn run(world: &World) -> Result<()> {
    let raft = world.namespace.raft("patient");
    let mut manifest = raft.manifest(3);
    manifest["spec"]["raft"] = json!({"electionTimeoutMilliseconds": ELECTION_TIMEOUT_MS});
    world
        .cluster
        .apply(&raft.namespace, &manifest.to_string())
        .await?;
    raft.settled(3).await?;
    timeout_is_in_force(&raft).await?;

    let (pod, before) = raft.leader().await?;
    let triggered_before = triggered(&raft).await?;
    let killed = kill(&raft, &pod).await?;
    let (new, after) = until("another server leads", RECOVERY_MAX, async || {
        let (pod, status) = raft.leader().await?;
        Ok((status.term > before.term).then_some((pod, status)))
    })
    .await?;
    let took = killed.elapsed();
    println!(
        "  leader {pod} (term {}) killed; {new} leads in term {} after {:.2} s, with an election \
         timeout of {} s",
        before.term,
        after.term,
        took.as_secs_f64(),
        ELECTION_TIMEOUT_MS / 1000
    );
    ensure!(
        took <= RECOVERY_MAX,
        "that is more than {} s",
        RECOVERY_MAX.as_secs()
    );
    // It was the operator: it says so.
    until_ok(
        "an event tells of the election that the operator triggered",
        PATIENCE,
        async || {
            ensure!(
                triggered(&raft).await? != triggered_before,
                "no event since the leader was killed"
            );
            Ok(())
        },
    )
    .await?;
    raft.settled(3).await
}

/// The nodes run with that timeout, not only the manifest says it.
async fn timeout_is_in_force(raft: &Raft) -> Result<()> {
    let config = raft
        .kubectl(&["get", "configmap", "patient-config", "-o", "yaml"])
        .await?;
    let expected = ELECTION_TIMEOUT_MS.to_string();
    ensure!(
        config.contains(&expected),
        "the nodes' configuration does not have an election timeout of {expected} ms:\n{config}"
    );
    Ok(())
}

/// The leader's process dies without a word.
async fn kill(raft: &Raft, name: &str) -> Result<Instant> {
    if Cluster::is_ours() {
        let process = processes::of_pod(&raft.pod(name).await?)?;
        processes::kill(process)?;
    } else {
        raft.kubectl(&["delete", "pod", name, "--grace-period=0", "--force"])
            .await?;
    }
    Ok(Instant::now())
}

/// Events that tell of an election triggered by the operator, each as it was last written.
async fn triggered(raft: &Raft) -> Result<BTreeSet<String>> {
    let path = "-o=jsonpath={range .items[?(@.reason==\"TriggerElection\")]}\
                {.metadata.name}@{.metadata.resourceVersion} {end}";
    let events = raft.kubectl(&["get", "events", path]).await?;
    Ok(events.split_whitespace().map(str::to_owned).collect())
}
