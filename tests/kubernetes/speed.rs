//! How long until a cluster is Ready, and what operator and idle nodes hold in memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::World;
use crate::processes;
use crate::raft::{PATIENCE, Raft, condition};
use crate::wait::until;

const ROUNDS: usize = 3;

/// Apply to Ready takes at most this much longer than a bare StatefulSet of the same pods.
const DIFFERENCE_MAX: Duration = Duration::from_secs(5);

const OPERATOR_MAX: u64 = 40 << 20;
const IDLE_NODE_MAX: u64 = 20 << 20;

/// Ours and a bare StatefulSet in turn; the medians are compared.
pub async fn time_to_ready(world: &World) -> Result<()> {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let raft = world.namespace.raft(&format!("round{round}"));
        ours.push(ready_after(world, &raft).await?);
        let name = format!("bare{round}");
        let manifests = bare_stateful_set(&raft, &name).await?;
        bare.push(bare_ready_after(world, &raft, &name, &manifests).await?);
        raft.kubectl(&["delete", "raft", &raft.name, "--wait=false"])
            .await?;
        raft.kubectl(&["delete", "statefulset", &name, "--wait=false"])
            .await?;
        until("the pods of the round are gone", PATIENCE, async || {
            let pods = raft.kubectl(&["get", "pods", "-o", "name"]).await?;
            Ok(pods.trim().is_empty().then_some(()))
        })
        .await?;
    }
    let seconds = |times: &[Duration]| {
        let texts: Vec<_> = times
            .iter()
            .map(|t| format!("{:.2}", t.as_secs_f64()))
            .collect();
        texts.join(", ")
    };
    println!(
        "  apply to Ready=True: {} s; bare StatefulSet: {} s",
        seconds(&ours),
        seconds(&bare)
    );
    let (ours, bare) = (median(ours), median(bare));
    println!(
        "  medians {:.2} s and {:.2} s",
        ours.as_secs_f64(),
        bare.as_secs_f64()
    );
    ensure!(
        ours <= bare + DIFFERENCE_MAX,
        "{:.2} s are more than {} s above {:.2} s",
        ours.as_secs_f64(),
        DIFFERENCE_MAX.as_secs(),
        bare.as_secs_f64()
    );
    Ok(())
}

async fn ready_after(world: &World, raft: &Raft) -> Result<Duration> {
    let manifest = raft.manifest(3).to_string();
    let started = Instant::now();
    world.cluster.apply(&raft.namespace, &manifest).await?;
    until("the cluster is Ready", PATIENCE, async || {
        let resource = raft.resource().await?;
        Ok((condition(&resource, "Ready").as_deref() == Some("True")).then_some(()))
    })
    .await?;
    Ok(started.elapsed())
}

/// A StatefulSet with the pods of ours, and its Service. Its pods are ready when they run: without
/// an operator their servers belong to no cluster, and are never ready in Kontiki's sense.
async fn bare_stateful_set(raft: &Raft, name: &str) -> Result<[Value; 2]> {
    let text = raft
        .kubectl(&["get", "statefulset", &raft.name, "-o", "json"])
        .await?;
    let stateful_set: Value = serde_json::from_str(&text).context("the StatefulSet as JSON")?;
    let mut template = stateful_set["spec"]["template"].clone();
    let labels = json!({"bare": name});
    template["metadata"] = json!({"labels": labels});
    let containers = template["spec"]["containers"]
        .as_array_mut()
        .context("containers")?;
    for container in containers {
        if let Some(fields) = container.as_object_mut() {
            fields.remove("readinessProbe");
        }
    }
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"clusterIP": "None", "selector": labels, "ports": [{"port": 7400}]},
    });
    let stateful_set = json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": 3,
            "serviceName": name,
            "podManagementPolicy": stateful_set["spec"]["podManagementPolicy"],
            "selector": {"matchLabels": labels},
            "template": template,
        },
    });
    Ok([service, stateful_set])
}

async fn bare_ready_after(
    world: &World,
    raft: &Raft,
    name: &str,
    [service, stateful_set]: &[Value; 2],
) -> Result<Duration> {
    let manifest = format!("{service}\n---\n{stateful_set}");
    let started = Instant::now();
    world.cluster.apply(&raft.namespace, &manifest).await?;
    until("the bare StatefulSet is ready", PATIENCE, async || {
        let path = "-o=jsonpath={.status.readyReplicas}";
        Ok((raft.kubectl(&["get", "statefulset", name, path]).await? == "3").then_some(()))
    })
    .await?;
    Ok(started.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Resident memory of the operator, which has worked for all scenarios before, and of idle nodes.
pub async fn memory(world: &World) -> Result<()> {
    let raft = world.namespace.raft("idle");
    world
        .cluster
        .apply(&raft.namespace, &raft.manifest(3).to_string())
        .await?;
    raft.settled(3).await?;
    let operator = processes::resident(processes::of_pod(&world.operator.pod().await?)?)?;
    println!("  operator: {:.1} MiB resident", mebibytes(operator));
    let mut largest = 0;
    for pod in raft.pods().await? {
        let node = processes::resident(processes::of_pod(&pod)?)?;
        println!("  idle node: {:.1} MiB resident", mebibytes(node));
        largest = largest.max(node);
    }
    ensure!(
        operator < OPERATOR_MAX,
        "the operator is above {:.0} MiB",
        mebibytes(OPERATOR_MAX)
    );
    ensure!(
        largest < IDLE_NODE_MAX,
        "an idle node is above {:.0} MiB",
        mebibytes(IDLE_NODE_MAX)
    );
    Ok(())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
