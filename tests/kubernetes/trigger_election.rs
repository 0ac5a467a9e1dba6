//! With an election timeout of a minute, and a leader that falls silent without closing a
//! connection, only the operator's trigger_election explains that there is a leader again within
//! seconds.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::json;

use crate::World;
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

    // The first leader may have come by itself: servers that were just bootstrapped try soon.
    let before = triggered(&raft).await?;
    leader_again_after(&raft, "paused", Signal::STOP).await?;
    // It was the operator: it says so.
    until_ok("an event tells of the election", PATIENCE, async || {
        ensure!(
            triggered(&raft).await? != before,
            "no event since the leader was paused"
        );
        Ok(())
    })
    .await?;
    leader_again_after(&raft, "killed", Signal::KILL).await
}

/// The nodes run with that timeout, not only the manifest says it.
async fn timeout_is_in_force(raft: &Raft) -> Result<()> {
    let arguments = ["get", "configmap", "patient-config", "-o", "yaml"];
    let config = raft.kubectl(&arguments).await?;
    let expected = format!("electionTimeoutMilliseconds: {ELECTION_TIMEOUT_MS}");
    ensure!(
        config.contains(&expected),
        "the nodes' configuration is without '{expected}': {config}"
    );
    Ok(())
}

/// Sends the leader's process a signal that silences it, and waits for another leader, and until
/// the cluster is whole again.
async fn leader_again_after(raft: &Raft, what: &str, signal: Signal) -> Result<()> {
    let (pod, before) = raft.leader().await?;
    let process = processes::of_pod(&raft.pod(&pod).await?)?;
    processes::signal(process, signal)?;
    let since = Instant::now();
    let elected = until("another server leads", RECOVERY_MAX, async || {
        let (pod, status) = raft.leader_but(Some(&pod)).await?;
        Ok((status.term > before.term).then_some((pod, status.term)))
    })
    .await;
    let took = since.elapsed();
    if signal == Signal::STOP {
        processes::signal(process, Signal::CONT)?;
    }
    let (new, term) = elected.with_context(|| format!("the leader {pod} was {what}"))?;
    println!(
        "  leader {pod} (term {}) {what}; {new} leads in term {term} after {:.2} s, with an \
         election timeout of {} s",
        before.term,
        took.as_secs_f64(),
        ELECTION_TIMEOUT_MS / 1000
    );
    raft.settled(3).await
}

/// Events that tell of an election triggered by the operator, each as it was last written.
async fn triggered(raft: &Raft) -> Result<BTreeSet<String>> {
    let path = "-o=jsonpath={range .items[?(@.reason==\"TriggerElection\")]}\
                {.metadata.name}@{.metadata.resourceVersion} {end}";
    let events = raft.kubectl(&["get", "events", path]).await?;
    Ok(events.split_whitespace().map(str::to_owned).collect())
}
