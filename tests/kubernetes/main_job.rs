//! Apply, write, scale, fail over, delete: what a person does with a cluster, under load.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::World;
use crate::cluster::checkout;
use crate::raft::{PATIENCE, Raft};
use crate::wait::until;
use crate::writers::{WRITERS, Writers, Written};

/// Acknowledged writes a second that each writer gets while nothing is disturbed.
const RATE_MIN: f64 = 200.0;

/// How long nothing is disturbed.
const UNDISTURBED: Duration = Duration::from_secs(10);

/// No writer may wait longer for an acknowledgement, whatever is done to the cluster.
const GAP_MAX: Duration = Duration::from_secs(5);

/// A disturbance and when it began and was over.
struct Disturbance {
    what: String,
    from: Instant,
    to: Instant,
}

pub async fn run(world: &World) -> Result<()> {
    let raft = world.namespace.raft("demo");
    apply_example(&raft).await?;
    columns(&raft).await?;

    let writers = Writers::start(&raft.client()?);
    writers.all_acknowledged(Duration::from_secs(30)).await?;
    let from = Instant::now();
    tokio::time::sleep(UNDISTURBED).await; // the length of a measurement
    let undisturbed = (from, Instant::now());

    let disturbances = disturb(world, &raft, &writers).await?;
    let written = writers.stop().await?;
    println!("  {}", written.summary());
    report(&written, undisturbed, &disturbances)?;
    verify(&raft, &written).await?;
    delete(&raft).await
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
async fn disturb(world: &World, raft: &Raft, writers: &Writers) -> Result<Vec<Disturbance>> {
    let mut disturbances = Vec::new();
    let mut over = async |what: String, from: Instant| -> Result<()> {
        writers
            .all_acknowledged(Duration::from_secs(30))
            .await
            .with_context(|| what.clone())?;
        let to = Instant::now();
        println!("  {what}: settled after {:.1} s", (to - from).as_secs_f64());
        disturbances.push(Disturbance { what, from, to });
        Ok(())
    };

    for replicas in [5, 3] {
        let from = Instant::now();
        raft.scale(replicas).await?;
        raft.settled(replicas).await?;
        over(format!("scale to {replicas}"), from).await?;
    }

    let (leader, before) = raft.leader().await?;
    let from = Instant::now();
    raft.replace_pod(&leader, &[]).await?;
    raft.settled(3).await?;
    let after = raft.leader().await?.1;
    ensure!(
        after.term > before.term,
        "{leader} led before and after in term {}",
        after.term
    );
    over(format!("leader's pod {leader} deleted"), from).await?;

    for ordinal in 0..3 {
        let pod = format!("demo-{ordinal}");
        let before = raft.server_ids().await?;
        let from = Instant::now();
        raft.replace_pod(&pod, &[]).await?;
        raft.settled(3).await?;
        let kept = raft.server_ids().await?.intersection(&before).count();
        ensure!(
            kept == 2,
            "{kept} of 3 servers are the same after {pod} was deleted"
        );
        over(format!("pod {pod} deleted"), from).await?;
    }

    let from = Instant::now();
    kill_operator_in_scale_up(world, raft).await?;
    world.operator.up().await?;
    raft.settled(5).await?;
    over(
        "operator killed in the middle of a scale-up to 5".to_owned(),
        from,
    )
    .await?;
    Ok(disturbances)
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
fn report(
    written: &Written,
    undisturbed: (Instant, Instant),
    disturbances: &[Disturbance],
) -> Result<()> {
    let rate = written.slowest_rate(undisturbed.0, undisturbed.1);
    println!("  undisturbed: {rate:.0} acknowledged writes/s by the slowest of {WRITERS} writers");
    let mut too_long = Vec::new();
    for Disturbance { what, from, to } in disturbances {
        let gap = written.longest_gap(*from, *to);
        println!(
            "  longest gap of a writer: {:>7.1} ms  {what}",
            gap.as_secs_f64() * 1000.0
        );
        if gap > GAP_MAX {
            too_long.push(what.as_str());
        }
    }
    if !too_long.is_empty() {
        bail!(
            "a writer waited longer than {} s: {}",
            GAP_MAX.as_secs(),
            too_long.join("; ")
        );
    }
    ensure!(
        rate >= RATE_MIN,
        "{rate:.0} writes/s by a writer, not {RATE_MIN:.0}"
    );
    Ok(())
}

/// Every acknowledged key is there, by a linearizable read and on every server.
async fn verify(raft: &Raft, written: &Written) -> Result<()> {
    let keys = written.verify_linearizably().await?;
    let endpoints = raft.caught_up().await?;
    ensure!(
        endpoints.len() == 5,
        "{} servers to read from, not 5",
        endpoints.len()
    );
    for endpoint in &endpoints {
        written.verify_at(endpoint).await?;
    }
    println!(
        "  {keys} keys read linearizably and on each of {} servers",
        endpoints.len()
    );
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
