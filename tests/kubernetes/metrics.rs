//! A Prometheus scrapes nodes and operator; promtool finds nothing to complain about; the series that
//! tell of leader, term, progress and the stages of a write are there and move.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::World;
use crate::cluster::run as run_program;
use crate::raft::{PATIENCE, address_of};
use crate::wait::{until, until_ok};
use crate::writers::Writers;

/// Port of metrics on nodes.
const NODE_PORT: u16 = 7402;

/// The stages of a write that take time, each with a histogram.
const STAGES: [&str; 6] = [
    "proposed",
    "appended",
    "persisted",
    "committed",
    "applied",
    "replied",
];

pub async fn run(world: &World) -> Result<()> {
    let raft = world.namespace.raft("watched");
    world
        .cluster
        .apply(&raft.namespace, &raft.manifest(3).to_string())
        .await?;
    raft.settled(3).await?;
    let writers = Writers::start(&raft).await?;

    let mut targets = Vec::new();
    for pod in raft.pods().await? {
        targets.push(format!(
            "{}:{NODE_PORT}",
            address_of(&pod).context("a pod without address")?
        ));
    }
    targets.push(operator_target(world).await?);
    for target in &targets {
        promtool_has_no_complaint(target).await?;
    }
    println!(
        "  promtool check metrics: no complaint about {} targets",
        targets.len()
    );

    let prometheus = Prometheus::start(&targets).await?;
    prometheus.scrapes(targets.len()).await?;
    leader_and_term(&prometheus).await?;
    progress(&prometheus).await?;
    for stage in STAGES {
        let count = format!("sum(kontiki_write_stage_seconds_count{{stage=\"{stage}\"}})");
        prometheus.grows(&count).await?;
    }
    println!(
        "  leader, term, commit and apply progress and {} stages move",
        STAGES.len()
    );
    writers.stop().await;
    Ok(())
}

/// One leader, and the term that it says.
async fn leader_and_term(prometheus: &Prometheus) -> Result<()> {
    until_ok("one server says that it leads", PATIENCE, async || {
        let leaders = prometheus.value("sum(kontiki_is_leader)").await?;
        ensure!(leaders == 1.0, "{leaders} servers do");
        let term = prometheus.value("min(kontiki_term)").await?;
        ensure!(term >= 1.0, "the term is {term}");
        Ok(())
    })
    .await
}

async fn progress(prometheus: &Prometheus) -> Result<()> {
    prometheus.grows("min(kontiki_commit_index)").await?;
    prometheus.grows("min(kontiki_applied_index)").await
}

/// The address of the operator's metrics: its port named `http`.
async fn operator_target(world: &World) -> Result<String> {
    let pod = world.operator.pod().await?;
    let address = address_of(&pod).context("the operator's pod has no address")?;
    let port = pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .flat_map(|container| container.ports.iter().flatten())
        .find(|port| port.name.as_deref() == Some("http"))
        .context("the operator's pod has no port 'http'")?;
    Ok(format!("{address}:{}", port.container_port))
}

/// `promtool check metrics` reads what the target serves, and says nothing.
async fn promtool_has_no_complaint(target: &str) -> Result<()> {
    let metrics = http_get(target, "/metrics").await?;
    ensure!(
        metrics.contains("kontiki_"),
        "{target} serves no metric of ours"
    );
    let output = run_program("promtool", &["check", "metrics"], Some(&metrics)).await?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(
        output.status.success() && said.is_empty(),
        "promtool about {target}: {}",
        String::from_utf8_lossy(&said)
    );
    Ok(())
}

/// The body of a GET. HTTP/1.0, so that it comes in one piece.
async fn http_get(target: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(target)
        .await
        .with_context(|| format!("connect to {target}"))?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {target}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .with_context(|| format!("read from {target}"))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("an answer without a body")?;
    if !head
        .lines()
        .next()
        .is_some_and(|line| line.contains(" 200 "))
    {
        bail!("http://{target}{path} answered: {head}");
    }
    Ok(body.to_owned())
}

/// Debian's Prometheus.
struct Prometheus {
    address: String,
    /// Ends with this value.
    _process: Child,
    _directory: TempDir,
}

impl Prometheus {
    async fn start(targets: &[String]) -> Result<Self> {
        let directory = tempfile::tempdir().context("make a directory for Prometheus")?;
        let config = directory.path().join("prometheus.yml");
        std::fs::write(&config, configuration(targets)?).context("write its configuration")?;
        // Free a moment ago, in a network namespace of our own.
        let free = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
        let address = free.local_addr()?.to_string();
        drop(free);
        let log = directory.path().join("log");
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start 'prometheus'")?;
        let prometheus = Prometheus {
            address,
            _process: process,
            _directory: directory,
        };
        until_ok("Prometheus is ready", Duration::from_secs(60), async || {
            http_get(&prometheus.address, "/-/ready").await.map(drop)
        })
        .await
        .with_context(|| std::fs::read_to_string(log).unwrap_or_default())?;
        Ok(prometheus)
    }

    /// Waits until all targets are up.
    async fn scrapes(&self, targets: usize) -> Result<()> {
        until_ok(
            &format!("Prometheus scrapes {targets} targets"),
            PATIENCE,
            async || {
                let answer = self.ask("/api/v1/targets?state=active").await?;
                let active = answer["activeTargets"]
                    .as_array()
                    .context("no list of targets")?;
                let up = active
                    .iter()
                    .filter(|target| target["health"] == "up")
                    .count();
                ensure!(
                    up == targets && active.len() == targets,
                    "{up} up of {answer}"
                );
                Ok(())
            },
        )
        .await
    }

    /// Waits until the value of a query is larger than it is now.
    async fn grows(&self, query: &str) -> Result<()> {
        let before = until(&format!("{query} has a value"), PATIENCE, async || {
            self.value(query).await.map(Some)
        })
        .await?;
        until_ok(&format!("{query} grows"), PATIENCE, async || {
            let now = self.value(query).await?;
            ensure!(now > before, "it is {now}");
            Ok(())
        })
        .await
    }

    /// The value of a query with one result.
    async fn value(&self, query: &str) -> Result<f64> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.ask(&format!("/api/v1/query?query={encoded}")).await?;
        let text = answer["result"][0]["value"][1].as_str();
        let text = text.with_context(|| format!("{query} has no value"))?;
        text.parse().with_context(|| format!("{query} is '{text}'"))
    }

    async fn ask(&self, path: &str) -> Result<Value> {
        let mut answer: Value = serde_json::from_str(&http_get(&self.address, path).await?)?;
        Ok(answer["data"].take())
    }
}

/// The targets by their addresses: Debian's Prometheus is built without discovery on Kubernetes.
fn configuration(targets: &[String]) -> Result<String> {
    let configuration = serde_json::json!({
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "kontiki", "static_configs": [{"targets": targets}]}],
    });
    serde_yaml::to_string(&configuration).context("the configuration as YAML")
}
