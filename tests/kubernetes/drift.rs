//! What is not the operator's doing: its own restart changes nothing, and a StatefulSet that somebody
//! scales by hand is put back (scenario S37). In the end the whole cluster is lost (`total_loss`).

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;

use crate::World;
use crate::raft::{PATIENCE, Raft};
use crate::total_loss;
use crate::wait::until_ok;
use crate::writers::Writers;

pub async fn run(world: &World) -> Result<()> {
    let raft = world.namespace.raft("steady");
    world
        .cluster
        .apply(&raft.namespace, &raft.manifest(3).to_string())
        .await?;
    raft.settled(3).await?;
    let writers = Writers::start(&raft).await?;

    let (pods, servers) = (identities(&raft.pods().await?), raft.server_ids().await?);
    world.operator.kill().await?;
    world.operator.up().await?;
    // The new operator is at work once it has put this back: nothing that it did before restarted a
    // pod or replaced a server.
    scale_up_by_hand(&raft).await?;
    ensure!(
        pods == identities(&raft.pods().await?),
        "the operator's restart restarted a pod"
    );
    ensure!(
        servers == raft.server_ids().await?,
        "the operator's restart replaced a server"
    );
    println!("  operator restarted: the same pods and servers; StatefulSet put back from 4 to 3");

    scale_down_by_hand(&raft).await?;
    let kept = raft.server_ids().await?.intersection(&servers).count();
    ensure!(
        kept == 2,
        "{kept} of 3 servers are the same after one pod was taken by hand"
    );
    println!("  StatefulSet put back from 2 to 3, the lost server replaced");

    writers.stop().await;
    writers.verify(3).await?;
    total_loss::run(&raft).await
}

/// Pod UIDs with the number of restarts.
fn identities(pods: &[Pod]) -> Vec<(Option<String>, i32)> {
    pods.iter()
        .map(|pod| {
            let containers = pod
                .status
                .as_ref()
                .and_then(|s| s.container_statuses.as_ref());
            let restarts = containers.map_or(0, |all| all.iter().map(|c| c.restart_count).sum());
            (pod.metadata.uid.clone(), restarts)
        })
        .collect()
}

async fn scale_up_by_hand(raft: &Raft) -> Result<()> {
    raft.kubectl(&["scale", "statefulset/steady", "--replicas=4"])
        .await?;
    put_back(raft).await
}

async fn scale_down_by_hand(raft: &Raft) -> Result<()> {
    let lost = raft.pod("steady-2").await?.metadata.uid;
    raft.kubectl(&["scale", "statefulset/steady", "--replicas=2"])
        .await?;
    put_back(raft).await?;
    // The StatefulSet may have been put back before its controller took the pod.
    let now = raft.pod("steady-2").await?.metadata.uid;
    ensure!(
        now != lost,
        "the pod was not taken, so that nothing was shown"
    );
    Ok(())
}

/// Waits until the StatefulSet has three replicas again, and the cluster is whole.
async fn put_back(raft: &Raft) -> Result<()> {
    until_ok(
        "the StatefulSet is put back to 3 replicas",
        PATIENCE,
        async || {
            let path = "-o=jsonpath={.spec.replicas}/{.status.replicas}";
            let replicas = raft
                .kubectl(&["get", "statefulset", "steady", path])
                .await?;
            ensure!(replicas == "3/3", "its replicas are {replicas}");
            Ok(())
        },
    )
    .await?;
    raft.settled(3)
        .await
        .context("after the StatefulSet was scaled by hand")
}
