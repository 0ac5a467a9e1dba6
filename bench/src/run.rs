//! The whole run: start, load, measure, kill, report.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::signal::unix::{SignalKind, signal};

use crate::comparisons::{self, Comparison, Metric};
use crate::failover;
use crate::generator::{self, Data, Load, Operation};
use crate::machine;
use crate::measure::{Memory, memory_of};
use crate::options::{Options, Output};
use crate::report::{Report, SystemFacts};
use crate::rounds::{Round, Systems};
use crate::statistics::Better;
use crate::systems::{self, Kind, Place, System};

/// A build of etcd from source takes minutes on a small machine.
const BUILD: Duration = Duration::from_secs(30 * 60);

/// A new server has done what it does at its start by then.
const SETTLE: Duration = Duration::from_secs(1);

/// Clients of the loads that are meant to saturate.
pub(crate) const CLIENTS: usize = 64;

/// A load, and what is compared of it.
struct Workload {
    name: &'static str,
    load: Load,
    metrics: Vec<Metric>,
}

impl Workload {
    /// Only loads with a target get the whole protocol.
    fn has_target(&self) -> bool {
        self.metrics.iter().any(|metric| metric.target.is_some())
    }
}

fn workloads() -> [Workload; 3] {
    let metric = |name, unit, better, value| Metric {
        name,
        unit,
        better,
        target: None,
        value,
    };
    let speed = |name, unit| metric(name, unit, Better::Higher, |leg| leg.operations_per_second);
    let load = |operation, clients: usize| Load {
        operation,
        clients,
        connections: clients.min(8),
    };
    [
        Workload {
            name: "unary_puts",
            load: load(Operation::Put, CLIENTS),
            metrics: vec![
                Metric {
                    target: Some(2.5),
                    ..speed("unary puts", "puts/s")
                },
                Metric {
                    target: Some(0.3),
                    ..metric("server CPU per put", "us", Better::Lower, |leg| {
                        leg.server_cpu_us_per_operation
                    })
                },
                metric(
                    "context switches per put",
                    "switches",
                    Better::Lower,
                    |leg| leg.context_switches_per_operation,
                ),
                metric("p99 of puts, saturated", "us", Better::Lower, |leg| {
                    leg.latency_p99_us as f64
                }),
            ],
        },
        Workload {
            name: "linearizable_gets",
            load: load(Operation::Get, CLIENTS),
            metrics: vec![speed("linearizable gets", "gets/s")],
        },
        Workload {
            name: "one_client_puts",
            load: load(Operation::Put, 1),
            metrics: vec![speed("unary puts, one client", "puts/s")],
        },
    ]
}

/// What of it is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Loads, memory and failovers.
    Whole,
    /// Failovers alone.
    Failovers,
}

/// Runs the benchmark that `options` describe, until it ends or a signal ends it.
pub async fn run(options: &Options, part: Part) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("wait for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    let report = tokio::select! {
        // Dropping the run kills every process that it started.
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
        report = measure(options, part) => report?,
    };
    report.write(&options.report)?;
    match options.output {
        Output::Table => println!("{}", report.table()),
        Output::Json => println!("{}", report.json()?),
    }
    eprintln!("report: {}", options.report.display());
    Ok(())
}

/// What to start, and where.
pub(crate) struct Binaries {
    launcher: PathBuf,
    node: Option<PathBuf>,
    etcd: PathBuf,
    scratch: tempfile::TempDir,
}

impl Binaries {
    async fn find(options: &Options) -> Result<Self> {
        machine::check_tmpfs(&options.tmpfs)?;
        let node = if options.rival_alone {
            None
        } else {
            Some(find_node(options)?)
        };
        Ok(Binaries {
            launcher: std::env::current_exe().context("find this program")?,
            node,
            etcd: find_etcd(options).await?,
            scratch: tempfile::Builder::new()
                .prefix("kontiki-bench-")
                .tempdir_in(&options.tmpfs)
                .with_context(|| format!("make a folder in {}", options.tmpfs.display()))?,
        })
    }

    /// Starts a fresh system in an empty folder. `None` for ours when the rival is measured alone.
    pub(crate) async fn start(&self, kind: Kind) -> Result<Option<System>> {
        let place = self.place(kind);
        let folder = &place.folder;
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("empty {}", folder.display()))?;
        }
        fs::create_dir(folder).with_context(|| format!("make {}", folder.display()))?;
        let system = match (kind, &self.node) {
            (Kind::Echo, _) => systems::echo::start(&place).await,
            (Kind::Etcd, _) => systems::etcd::start(&place, &self.etcd).await,
            (Kind::Kontiki, Some(node)) => systems::kontiki::start(&place, node).await,
            (Kind::Kontiki, None) => return Ok(None),
        };
        system
            .with_context(|| format!("start {}", kind.name()))
            .map(Some)
    }

    fn place(&self, kind: Kind) -> Place {
        Place {
            launcher: self.launcher.clone(),
            folder: self.scratch.path().join(kind.name()),
        }
    }

    /// See [`System::mend`].
    pub(crate) async fn mend(&self, system: &mut System, lost: (usize, usize)) -> Result<()> {
        let binary = match system.kind {
            Kind::Etcd => &self.etcd,
            Kind::Kontiki | Kind::Echo => self.node.as_ref().context("ours is not there")?,
        };
        system.mend(&self.place(system.kind), binary, lost).await
    }
}

async fn measure(options: &Options, part: Part) -> Result<Report> {
    let binaries = Binaries::find(options).await?;
    let data = Data::new(options.keys);
    let mut report = Report {
        machine: machine::facts(),
        systems: BTreeMap::new(),
        options: described(options),
        comparisons: Vec::new(),
        rounds: BTreeMap::new(),
        failovers_ms: BTreeMap::new(),
    };
    if part == Part::Whole {
        loads(options, &binaries, &data, &mut report).await?;
    }
    failover::measure(options.failovers(), &binaries, &data, &mut report).await?;
    report.comparisons = compare(options, &report);
    Ok(report)
}

/// All that is measured on one set of systems.
async fn loads(
    options: &Options,
    binaries: &Binaries,
    data: &Data,
    report: &mut Report,
) -> Result<()> {
    eprintln!("starting three servers each");
    let rival = binaries.start(Kind::Etcd).await?;
    let ours = binaries.start(Kind::Kontiki).await?;
    let echo = binaries.start(Kind::Echo).await?;
    let mut systems = Systems {
        echo: echo.context("there is always an echo server")?,
        ours,
        rival: rival.context("there is always a rival")?,
    };
    tokio::time::sleep(SETTLE).await;
    for system in systems.all() {
        report
            .systems
            .insert(system.kind.name(), idle_facts(system)?);
    }
    for (name, system) in &report.systems {
        eprintln!("  {name} {} {}", system.version, system.flags.join(" "));
    }
    for system in systems.all() {
        eprintln!("loading {} keys into {}", options.keys, system.kind.name());
        let leader = system.leader().await?;
        let address = system.servers[leader].client;
        generator::load_keys(address, system.dialect(), data, CLIENTS)
            .await
            .with_context(|| format!("load {}", system.kind.name()))?;
    }
    for workload in workloads() {
        let effort = match workload.has_target() {
            true => options.effort(),
            false => options.effort_informative(),
        };
        let seconds = effort.measured.as_secs_f64();
        eprintln!(
            "{}: {} times six legs of {seconds} s",
            workload.name, effort.rounds
        );
        let rounds = systems.rounds(workload.load, data, effort).await;
        let rounds = rounds.with_context(|| workload.name.to_owned())?;
        report.rounds.insert(workload.name, rounds);
    }
    for system in systems.all() {
        let facts = report.systems.get_mut(system.kind.name());
        facts.context("all systems have facts")?.memory_loaded = memory(system)?;
    }
    Ok(())
}

fn idle_facts(system: &System) -> Result<SystemFacts> {
    Ok(SystemFacts {
        version: system.version.clone(),
        flags: system.flags.clone(),
        memory_idle: memory(system)?,
        memory_loaded: Vec::new(),
    })
}

fn memory(system: &System) -> Result<Vec<Memory>> {
    system.pids().into_iter().map(memory_of).collect()
}

fn compare(options: &Options, report: &Report) -> Vec<Comparison> {
    let judges = options.judges();
    let mut all = Vec::new();
    for workload in workloads() {
        let rounds: &[Round] = report.rounds.get(workload.name).map_or(&[], Vec::as_slice);
        let of = |metric| comparisons::of_rounds(metric, rounds, judges);
        all.extend(workload.metrics.iter().filter_map(of));
    }
    let samples = |name, unit, values: &dyn Fn(Kind) -> Vec<f64>, target| {
        let (ours, rival) = (values(Kind::Kontiki), values(Kind::Etcd));
        comparisons::of_samples(name, unit, (&ours, &rival), target, judges)
    };
    let gaps = |kind: Kind| {
        report
            .failovers_ms
            .get(kind.name())
            .cloned()
            .unwrap_or_default()
    };
    let killed = "kill -9 of the leader to the next write";
    let (ours, rival) = (gaps(Kind::Kontiki), gaps(Kind::Etcd));
    let judges_failovers = options.judges_failovers();
    all.extend(comparisons::of_outages(
        killed,
        (&ours, &rival),
        judges_failovers,
    ));
    let idle = |kind| resident_mebibytes(report, kind, |facts| &facts.memory_idle);
    all.extend(samples("resident, idle server", "MiB", &idle, Some(20.0)));
    let loaded = |kind| resident_mebibytes(report, kind, |facts| &facts.memory_loaded);
    all.extend(samples("resident, after all loads", "MiB", &loaded, None));
    all
}

fn resident_mebibytes(
    report: &Report,
    kind: Kind,
    of: fn(&SystemFacts) -> &Vec<Memory>,
) -> Vec<f64> {
    let servers = report
        .systems
        .get(kind.name())
        .map(of)
        .into_iter()
        .flatten();
    servers
        .map(|memory| memory.resident_bytes as f64 / f64::from(1 << 20))
        .collect()
}

fn described(options: &Options) -> BTreeMap<&'static str, String> {
    let effort = options.effort();
    BTreeMap::from([
        ("rounds", effort.rounds.to_string()),
        ("seconds", effort.measured.as_secs_f64().to_string()),
        ("warm_up", effort.warm_up.as_secs_f64().to_string()),
        ("failovers", options.failovers().to_string()),
        ("keys", options.keys.to_string()),
        ("key_bytes", generator::KEY_BYTES.to_string()),
        ("value_bytes", generator::VALUE_BYTES.to_string()),
        ("clients", CLIENTS.to_string()),
        ("full", options.full.to_string()),
        ("quick", options.quick.to_string()),
    ])
}

pub(crate) fn find_node(options: &Options) -> Result<PathBuf> {
    let advice = "build it with `cargo build --release -p kontiki-node`, or name one by --node";
    if let Some(file) = &options.node {
        return systems::existing(file, advice);
    }
    let own = std::env::current_exe().context("find this program")?;
    let folders = [
        // Where `make bench` has both built.
        own.parent().filter(|folder| folder.ends_with("release")),
        Some(Path::new("target/x86_64-unknown-linux-gnu/release")),
        Some(Path::new("target/release")),
    ];
    let files = folders
        .into_iter()
        .flatten()
        .map(|folder| folder.join("kontiki-node"));
    let found = files.into_iter().find(|file| file.is_file());
    found.with_context(|| format!("there is no release build of kontiki-node: {advice}"))
}

async fn find_etcd(options: &Options) -> Result<PathBuf> {
    if let Some(file) = &options.etcd {
        return systems::existing(file, "name an etcd 3.6 by --etcd");
    }
    let script = systems::existing(
        Path::new("tests/kubernetes/build.sh"),
        "run from the root of the repository, or name an etcd by --etcd",
    )?;
    eprintln!("building etcd, unless it is in the cache");
    let build = tokio::process::Command::new(&script)
        .arg("etcd")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let build = tokio::time::timeout(BUILD, build)
        .await
        .context("etcd's build takes too long")?;
    let build = build.with_context(|| format!("run {}", script.display()))?;
    ensure!(
        build.status.success(),
        "{} etcd failed ({})",
        script.display(),
        build.status
    );
    let printed = String::from_utf8(build.stdout).context("the build printed no path")?;
    let cache = printed.lines().last().unwrap_or_default().trim();
    systems::existing(
        &Path::new(cache).join("etcd"),
        "the build printed another folder",
    )
}
