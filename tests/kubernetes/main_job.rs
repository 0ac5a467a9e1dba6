//! Apply, write, scale, fail over, delete: what a person does with a cluster, under load.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kontiki_client::load::Report;

use crate::World;
use crate::cluster::checkout;
use crate::raft::{PATIENCE, Raft};
use crate::wait::until;
use crate::writers::{WRITERS, Writers};

/// Acknowledged writes a second that each writer gets while nothing is disturbed.
const RATE_MIN: f64 = 200.0;

/// How long nothing is disturbed.
const UNDISTURBED_TIME: Duration = Duration::from_secs(10);

/// Label of that section of the report.
const UNDISTURBED: &str = "undisturbed";

/// No writer may wait longer for an acknowledgement, whatever is done to the cluster.
const GAP_MAX: Duration = Duration::from_secs(5);

pub async fn run(world: &World) -> Result<()> {
    let raft = world.namespace.raft("demo");
    apply_example(&raft).await?;
    columns(&raft).await?;

    let writers = Writers::start(&raft).await?;
    writers.mark(UNDISTURBED);
    tokio::time::sleep(UNDISTURBED_TIME).await; // the length of a measurement
    disturb(world, &raft, &writers).await?;
    let report = writers.stop().await;
    let judged = judge(&writers, &report);
    writers.verify(5).await?;
    delete(&raft).await?;
    judged
}

/// As the README says it: apply the example, wait for it.
async fn apply_example(raft: &Raft) -> Result<()> {
    let example = checkout().join("examples/raftcluster.yaml");
    let example = example.to_str().context("the path of the example")?;
    let started = Instant::now();
    raft.kubectl(&["apply", "-f", example]).await?;
    raft.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "raft/demo",
        "--timeout=120s",
    ])
    .await?;
    println!("  apply to Ready: {:.1} s", started.elapsed().as_secs_f64());
    raft.settled(3).await
}

/// `kubectl get raft` shows what it promises.
async fn columns(raft: &Raft) -> Result<()> {
    let table = raft.kubectl(&["get", "raft"]).await?;
    let mut lines = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let header = lines.next().context("an empty table")?;
    ensure!(
        header
            == [
                "NAME", "READY", "DESIRED", "VOTERS", "LEADER", "MARGIN", "AGE"
            ],
        "kubectl get raft has the columns {header:?}"
    );
    let row = lines.next().context("a table without rows")?;
    let leader = raft.leader().await?.0;
    ensure!(
        row.len() == 7 && row[..6] == ["demo", "True", "3", "3", leader.as_str(), "1"],
        "kubectl get raft shows {row:?}, and {leader} leads"
    );
    Ok(())
}

/// One disturbance after the other, each after the last one is dealt with.
async fn disturb(world: &World, raft: &Raft, writers: &Writers) -> Result<()> {
    for replicas in [5, 3] {
        disturbance(writers, &format!("scaled to {replicas}"), async {
            raft.scale(replicas).await?;
            raft.settled(replicas).await
        })
        .await?;
    }
    disturbance(writers, "leader's pod deleted", async {
        let (leader, before) = raft.leader().await?;
        raft.replace_pod(&leader, &[]).await?;
        raft.settled(3).await?;
        let after = raft.leader().await?.1;
        ensure!(
            after.term > before.term,
            "{leader} led before and after in term {}",
            after.term
        );
        Ok(())
    })
    .await?;
    for ordinal in 0..3 {
        let pod = format!("demo-{ordinal}");
        disturbance(writers, &format!("pod {pod} deleted"), async {
            let before = raft.server_ids().await?;
            raft.replace_pod(&pod, &[]).await?;
            raft.settled(3).await?;
            let kept = raft.server_ids().await?.intersection(&before).count();
            ensure!(
                kept == 2,
                "{kept} of 3 servers are the same after {pod} was deleted"
            );
            Ok(())
        })
        .await?;
    }
    disturbance(
        writers,
        "operator killed in the middle of a scale-up to 5",
        async {
            kill_operator_in_scale_up(world, raft).await?;
            world.operator.up().await?;
            raft.settled(5).await
        },
    )
    .await
}

/// Does something to the cluster, in a section of the report, and waits until writers are served.
async fn disturbance(
    writers: &Writers,
    what: &str,
    work: impl Future<Output = Result<()>>,
) -> Result<()> {
    writers.mark(what);
    let started = Instant::now();
    work.await.with_context(|| what.to_owned())?;
    println!(
        "  {what}: settled after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    writers.served().await.with_context(|| what.to_owned())
}

/// The operator dies when it has begun to scale up and the new servers do not vote yet.
async fn kill_operator_in_scale_up(world: &World, raft: &Raft) -> Result<()> {
    raft.scale(5).await?;
    until("the operator has begun to scale up", PATIENCE, async || {
        Ok((raft.pods().await?.len() > 3).then_some(()))
    })
    .await?;
    world.operator.kill().await?;
    let configuration = raft
        .leader()
        .await?
        .1
        .configuration
        .context("no configuration")?;
    let voters = configuration.voters.len();
    ensure!(
        voters < 5 || !configuration.outgoing.is_empty(),
        "the operator was killed too late: there are {voters} voters already"
    );
    println!("  operator killed with {voters} of 5 voters");
    Ok(())
}

/// Prints rates and gaps, and judges them.
fn judge(writers: &Writers, report: &Report) -> Result<()> {
    let mut faults = Vec::new();
    // The first section is the one before the first mark.
    for section in &report.sections[1..] {
        let gap = section.longest_gap.max(section.longest_writer_gap);
        let rate = writers.slowest_rate(section);
        println!(
            "  longest gap {:>7.1} ms, slowest of {WRITERS} writers {rate:>4.0}/s: {}",
            gap.as_secs_f64() * 1000.0,
            section.label
        );
        if gap > GAP_MAX {
            faults.push(format!(
                "gap of {:.1} s: {}",
                gap.as_secs_f64(),
                section.label
            ));
        }
        if section.label == UNDISTURBED && rate < RATE_MIN {
            faults.push(format!(
                "{rate:.0} writes/s while undisturbed, not {RATE_MIN:.0}"
            ));
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    Ok(())
}

/// Deleting the resource leaves nothing of it.
async fn delete(raft: &Raft) -> Result<()> {
    raft.kubectl(&["delete", "raft/demo", "--timeout=120s"])
        .await?;
    let listed = raft
        .kubectl(&[
            "api-resources",
            "--verbs=list",
            "--namespaced",
            "-o",
            "name",
        ])
        .await?;
    // An event tells of what happened; it is no object of the cluster, and goes by itself.
    let kinds: Vec<&str> = listed
        .lines()
        .filter(|kind| !kind.starts_with("events"))
        .collect();
    ensure!(
        kinds.contains(&"statefulsets.apps"),
        "kubectl lists no StatefulSets: {kinds:?}"
    );
    let kinds = kinds.join(",");
    let mut left = String::new();
    let gone = until(
        "no object of the deleted cluster is left",
        PATIENCE,
        async || {
            let selector = "kontiki.dev/cluster=demo";
            left = raft
                .kubectl(&["get", &kinds, "-l", selector, "-o", "name"])
                .await?;
            Ok(left.trim().is_empty().then_some(()))
        },
    )
    .await;
    gone.with_context(|| format!("left: {}", left.trim().replace('\n', " ")))
}
