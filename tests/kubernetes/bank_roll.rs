//! The bank rolled to a version of its logic that charges fees, by deleting its pods one by one: no
//! transfer is made in two ways. Then the roll back to a program that lacks the version in force,
//! which is refused with a condition, and healed.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::World;
use crate::bank::{Bank, agreed};
use crate::raft::{PATIENCE, Raft, condition};
use crate::wait::until_ok;

const IMAGE: &str = "localhost/kontiki-bank";

pub async fn run(world: &World) -> Result<()> {
    let bank = Bank::found(world).await?;
    in_force(&bank.raft, 1, (1, 1)).await?;
    roll(&bank).await?;
    refused_and_healed(&bank).await?;

    let (raft, history) = bank.close().await?;
    let books = agreed(&raft, 3).await?;
    let fees = books.accounts.iter().find(|(name, _)| name == "fees");
    let fees = fees.context("no fee was ever charged")?.1;
    let (known, unknown) = (history.fees(), history.unknown);
    // That fees begin once and never end is one of the history's rules, looked at by `close`.
    let free = history.made.values().filter(|(_, fee)| *fee == 0).count();
    ensure!(
        free > 0 && known > 0,
        "{free} transfers were free, and {known} were charged"
    );
    ensure!(
        (known..=known + unknown).contains(&fees),
        "fees of {known} are known, {unknown} transfers are unknown, and the account holds {fees}"
    );
    println!(
        "  {free} transfers were free, then {known} cost a fee; the account of fees holds {fees}"
    );
    Ok(())
}

/// From version 1 to 2. As long as one server does not know the new version, the old is in force.
async fn roll(bank: &Bank) -> Result<()> {
    set_image(&bank.raft, 2).await?;
    for ordinal in 0..3 {
        let pod = format!("bank-{ordinal}");
        bank.disturb(format!("pod {pod} rolled to version 2"), async |raft| {
            raft.replace_pod(&pod, &[]).await?;
            raft.settled(3).await
        })
        .await?;
        let runs = image_of(&bank.raft, &pod).await?;
        ensure!(runs == image(2), "{pod} runs {runs}");
        if ordinal < 2 {
            let version = bank.raft.leader().await?.1.machine_version;
            ensure!(
                version == 1,
                "{version} is in force, and not all servers know it"
            );
        }
    }
    in_force(&bank.raft, 2, (1, 2)).await?;
    bank.served().await?;
    bank.conserves_money().await
}

/// Back to version 1, which is not to be had: the new server is left out, the others go on.
async fn refused_and_healed(bank: &Bank) -> Result<()> {
    let raft = &bank.raft;
    set_image(raft, 1).await?;
    let (leader, _) = raft.leader().await?;
    let before: BTreeSet<String> = voters(raft).await?;
    let pod = ["bank-0", "bank-1", "bank-2"]
        .into_iter()
        .find(|pod| *pod != leader)
        .context("a follower")?;
    raft.replace_pod(pod, &[]).await?;
    until_ok("the condition tells of the refusal", PATIENCE, async || {
        let resource = raft.resource().await?;
        let degraded = find(&resource, "Degraded")?;
        let wanted = format!("{pod} (");
        let message = degraded["message"].as_str().unwrap_or_default();
        ensure!(
            degraded["status"] == "True"
                && degraded["reason"] == "UnsupportedMachineVersion"
                && message.contains(&wanted)
                && message.contains("supports machine versions 1 to 1, but 2 is in force"),
            "{degraded}"
        );
        Ok(())
    })
    .await?;
    // It stays out while the others serve.
    bank.served().await?;
    bank.conserves_money().await?;
    let now = voters(raft).await?;
    ensure!(
        now == before,
        "the configuration was {before:?}, and with a server that is refused it is {now:?}"
    );
    let refused = raft.server_ids().await?;
    let refused = refused.iter().find(|(name, _)| name == pod);
    let refused = refused.context("the server that is refused does not answer")?;
    ensure!(!now.contains(&refused.1), "{refused:?} is a member");
    println!("  a server of version 1 in {pod} is refused, the others serve");

    set_image(raft, 2).await?;
    bank.disturb(format!("pod {pod} healed"), async |raft| {
        raft.replace_pod(pod, &[]).await?;
        raft.settled(3).await
    })
    .await?;
    in_force(raft, 2, (1, 2)).await?;
    let degraded = condition(&raft.resource().await?, "Degraded");
    ensure!(
        degraded.as_deref() == Some("False"),
        "Degraded is {degraded:?} once healed"
    );
    Ok(())
}

fn image(newest: u32) -> String {
    format!("{IMAGE}:{newest}")
}

/// Sets `spec.image`, and waits until pods are made from it.
async fn set_image(raft: &Raft, newest: u32) -> Result<()> {
    let image = image(newest);
    let patch = json!({"spec": {"image": image}}).to_string();
    let patch = ["patch", "raft/bank", "--type=merge", "--patch", &patch];
    raft.kubectl(&patch).await?;
    until_ok("the StatefulSet has the image", PATIENCE, async || {
        let path = "-o=jsonpath={.spec.template.spec.containers[*].image}";
        let found = raft.kubectl(&["get", "statefulset/bank", path]).await?;
        ensure!(found == image, "it has {found}");
        Ok(())
    })
    .await
}

async fn image_of(raft: &Raft, pod: &str) -> Result<String> {
    let pod = raft.pod(pod).await?;
    let containers = pod.spec.context("a pod without a spec")?.containers;
    let container = containers.into_iter().next();
    container
        .and_then(|container| container.image)
        .context("a pod without an image")
}

/// Waits until this version is in force on every server, by its word and by the resource's; and all
/// of them support these.
async fn in_force(raft: &Raft, version: u32, supported: (u32, u32)) -> Result<()> {
    let what = format!("version {version} is in force");
    until_ok(&what, PATIENCE, async || {
        let statuses = raft.statuses().await?;
        ensure!(statuses.len() == 3, "{} servers answer", statuses.len());
        for (pod, status) in &statuses {
            let supports = (status.machine_versions_min, status.machine_versions_max);
            ensure!(
                (status.machine_version, supports) == (version, supported),
                "{pod} supports {supports:?}, and {} is in force",
                status.machine_version
            );
        }
        let resource = raft.resource().await?;
        let machine = &resource["status"]["machine"];
        ensure!(
            *machine == json!({"name": "bank", "version": version}),
            "the status says {machine}"
        );
        Ok(())
    })
    .await?;
    println!("  {what} on all servers");
    Ok(())
}

/// Ids of the servers that the leader's configuration names.
async fn voters(raft: &Raft) -> Result<BTreeSet<String>> {
    let configuration = raft.leader().await?.1.configuration;
    let configuration = configuration.context("no configuration")?;
    let members = [
        configuration.voters,
        configuration.outgoing,
        configuration
            .learners
            .into_iter()
            .map(|l| l.server_id)
            .collect(),
    ];
    Ok(members.into_iter().flatten().collect())
}

/// A condition of a resource, whole.
fn find<'a>(resource: &'a Value, kind: &str) -> Result<&'a Value> {
    let conditions = resource["status"]["conditions"].as_array();
    let found = conditions.and_then(|all| all.iter().find(|one| one["type"] == kind));
    found.with_context(|| format!("no condition {kind}"))
}
