//! What the API server refuses, and what it says: the rule's own message, so that the person who
//! made the mistake knows what would be right.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::World;
use crate::raft::Raft;

/// A change to a valid manifest, and what the refusal must say.
struct Case {
    what: &'static str,
    path: &'static str,
    value: Value,
    says: &'static str,
}

pub async fn run(world: &World) -> Result<()> {
    let raft = world.namespace.raft("bad");
    let refused = refused_when_new();
    for case in &refused {
        refuse(world, &raft, case).await?;
    }
    let left = raft
        .kubectl(&["get", "raft,statefulset", "-o", "name"])
        .await?;
    ensure!(left.trim().is_empty(), "a refused manifest left {left}");

    world
        .cluster
        .apply(&raft.namespace, &raft.manifest(1).to_string())
        .await?;
    raft.settled(1).await?;
    let before = raft.resource().await?["spec"].clone();
    let immutable = refused_as_change();
    for case in &immutable {
        refuse(world, &raft, case).await?;
    }
    scale_is_bounded(&raft).await?;
    let after = raft.resource().await?["spec"].clone();
    ensure!(before == after, "a refused change took effect: {after}");
    println!(
        "  {} manifests refused with the rule's own message",
        refused.len() + immutable.len()
    );
    Ok(())
}

fn refused_when_new() -> Vec<Case> {
    let case = |what, path, value, says| Case {
        what,
        path,
        value,
        says,
    };
    vec![
        case(
            "no replicas",
            "/spec/replicas",
            json!(0),
            "replicas must be between 1 and 9",
        ),
        case(
            "ten replicas",
            "/spec/replicas",
            json!(10),
            "replicas must be between 1 and 9",
        ),
        case(
            "minMajority above replicas",
            "/spec/raft",
            json!({"minMajority": 4}),
            "raft.minMajority must be at most replicas",
        ),
        case(
            "unknown machine",
            "/spec/stateMachine/kind",
            json!("Abacus"),
            "spec.stateMachine.kind: Unsupported value: \"Abacus\": supported values: \"Kv\"",
        ),
        case(
            "a machine of one's own without an image",
            "/spec/stateMachine/kind",
            json!("Custom"),
            "image must be set if stateMachine.kind is Custom",
        ),
        case(
            "unknown storage",
            "/spec/storage/mode",
            json!("Papyrus"),
            "spec.storage.mode: Unsupported value: \"Papyrus\": supported values: \"Memory\"",
        ),
        case(
            "election timeout not above the heartbeat",
            "/spec/raft",
            json!({"heartbeatMilliseconds": 200, "electionTimeoutMilliseconds": 200}),
            "raft.electionTimeoutMilliseconds must be at least twice raft.heartbeatMilliseconds",
        ),
        case(
            "a typo",
            "/spec/replica",
            json!(3),
            "unknown field \"spec.replica\"",
        ),
        case(
            "a name that begins with a digit",
            "/metadata/name",
            json!("3rd"),
            "metadata.name must be a DNS label that begins with a letter",
        ),
        case(
            "a name with a dot",
            "/metadata/name",
            json!("a.b"),
            "metadata.name must be a DNS label that begins with a letter",
        ),
        case(
            "a name that is too long",
            "/metadata/name",
            json!("a".repeat(41)),
            "metadata.name must be at most 40 characters",
        ),
    ]
}

fn refused_as_change() -> Vec<Case> {
    let case = |what, path, value, says| Case {
        what,
        path,
        value,
        says,
    };
    vec![
        case(
            "another machine",
            "/spec/stateMachine/kind",
            json!("Counter"),
            "stateMachine.kind is immutable",
        ),
        case(
            "replicas below minMajority",
            "/spec/raft",
            json!({"minMajority": 2}),
            "raft.minMajority must be at most replicas",
        ),
    ]
}

/// Applies the changed manifest, and compares what kubectl says.
async fn refuse(world: &World, raft: &Raft, case: &Case) -> Result<()> {
    let mut manifest = raft.manifest(3);
    if case.path != "/spec/replicas" {
        manifest["spec"]["replicas"] = replicas_of(raft).await.unwrap_or(json!(3));
    }
    set(&mut manifest, case.path, case.value.clone())?;
    let arguments = ["apply", "--namespace", &raft.namespace, "--filename", "-"];
    let output = world
        .cluster
        .kubectl_with(&arguments, &manifest.to_string())
        .await?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        bail!("{}: accepted", case.what);
    }
    ensure!(
        said.contains(case.says),
        "{}: said '{said}', not '{}'",
        case.what,
        case.says
    );
    println!("  {}: {}", case.what, case.says);
    Ok(())
}

async fn replicas_of(raft: &Raft) -> Result<Value> {
    Ok(raft.resource().await?["spec"]["replicas"].clone())
}

/// `kubectl scale` goes past the manifest, and is bounded the same.
async fn scale_is_bounded(raft: &Raft) -> Result<()> {
    let Err(error) = raft.scale(10).await else {
        bail!("scaled to 10 replicas")
    };
    let said = error.to_string();
    ensure!(
        said.contains("replicas must be between 1 and 9"),
        "scale to 10: said '{said}'"
    );
    Ok(())
}

/// Sets what a JSON pointer names; its parent must be there.
fn set(manifest: &mut Value, path: &str, value: Value) -> Result<()> {
    let (parent, field) = path.rsplit_once('/').context("a path")?;
    let parent = manifest
        .pointer_mut(parent)
        .with_context(|| format!("{parent} is not there"))?;
    parent[field] = value;
    Ok(())
}
