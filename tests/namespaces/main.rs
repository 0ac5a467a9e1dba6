//! Real node processes, three and five of them, each on a host of its own (a network namespace), under
//! faults that a machine and a network have. Clients write and read all the while, and what they saw
//! must be linearizable. `make process` builds what it needs and runs it.
//!
//! Every scenario has a cluster and hosts of its own. It waits on conditions with a deadline, asserts
//! that its faults took place, and that in the end all servers agree. One runs after the other. The
//! table at the end has the longest time without an acknowledged write of each, and what was the cause.
//!
//!   namespaces [--list] [--seed N] [NAME...]

mod behind;
mod caller;
mod cluster;
mod command;
mod enter;
mod kill;
mod lease;
mod link;
mod load;
mod membership;
mod mixed;
mod network;
mod partial;
mod partition;
mod pause;
mod proxy;
mod reading;
mod report;
mod transfer;
mod world;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use futures::FutureExt;

use cluster::Kind;
use report::{Row, Table};
use world::World;

/// No scenario may take longer.
const SCENARIO_MAX: Duration = Duration::from_secs(300);

/// Voters of the clusters that each scenario is run on.
const SIZES: [usize; 2] = [3, 5];

type Run = for<'a> fn(&'a mut World) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

struct Scenario {
    name: &'static str,
    /// Servers reach each other through proxies, which can delay.
    proxied: bool,
    /// Reads under a lease.
    leases: Leases,
    /// Timers are slow.
    slow: bool,
    run: Run,
}

/// Whether reads under a lease are on.
#[derive(Clone, Copy)]
enum Leases {
    /// It is about them.
    On,
    /// It has servers campaign, which may not if they have promised their vote.
    Off,
    /// With one of the sizes.
    Either,
}

impl Scenario {
    fn has_leases(&self, size: usize) -> bool {
        let place = SCENARIOS.iter().position(|one| one.name == self.name);
        let size = SIZES.iter().position(|one| *one == size);
        match self.leases {
            Leases::On => true,
            Leases::Off => false,
            Leases::Either => (place.unwrap_or(0) + size.unwrap_or(0)) % 2 == 0,
        }
    }
}

const fn scenario(name: &'static str, run: Run) -> Scenario {
    Scenario {
        name,
        proxied: false,
        leases: Leases::Either,
        slow: false,
        run,
    }
}

const SCENARIOS: &[Scenario] = &[
    scenario("kill-leader", |w| Box::pin(kill::leader(w))),
    scenario("kill-follower", |w| Box::pin(kill::follower(w))),
    scenario("pause-leader", |w| Box::pin(pause::leader(w))),
    scenario("partition-silent", |w| Box::pin(partition::silent(w))),
    Scenario {
        slow: true,
        ..scenario("partition-deposed", |w| Box::pin(partition::deposed(w)))
    },
    scenario("partition-reset", |w| Box::pin(partition::reset(w))),
    scenario("partition-one-way", |w| Box::pin(partition::one_way(w))),
    scenario("partial", |w| Box::pin(partial::both_ways(w))),
    scenario("partial-one-way", |w| Box::pin(partial::one_way(w))),
    scenario("link-flapping", |w| Box::pin(link::flapping(w))),
    scenario("link-slow", |w| Box::pin(link::slow(w))),
    Scenario {
        proxied: true,
        ..scenario("link-delayed", |w| Box::pin(link::delayed(w)))
    },
    Scenario {
        proxied: true,
        ..scenario("leader-behind", |w| Box::pin(behind::behind(w)))
    },
    Scenario {
        leases: Leases::On,
        slow: true,
        ..scenario("lease-partition", |w| Box::pin(lease::partition(w)))
    },
    Scenario {
        proxied: true,
        leases: Leases::On,
        ..scenario("lease-transfer", |w| Box::pin(lease::transfer(w)))
    },
    scenario("membership", |w| Box::pin(membership::change(w))),
    Scenario {
        leases: Leases::Off,
        ..scenario("transfer", |w| Box::pin(transfer::transfer(w)))
    },
    Scenario {
        leases: Leases::Off,
        ..scenario("mixed", |w| Box::pin(mixed::mixed(w)))
    },
];

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("namespaces: {why}");
            return ExitCode::from(2);
        }
    };
    if options.lists {
        SCENARIOS
            .iter()
            .for_each(|scenario| println!("{}: test", scenario.name));
        return ExitCode::SUCCESS;
    }
    let ready = match enter::is_inside() {
        true => enter::furnish(),
        false => enter::enter(),
    };
    match ready.and_then(|()| Ok(tokio::runtime::Runtime::new()?)) {
        Ok(runtime) => run_all(&runtime, &options),
        Err(error) => {
            eprintln!("namespaces: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What was asked for.
#[derive(Debug, Default)]
struct Options {
    lists: bool,
    seed: Option<u64>,
    /// None: all scenarios.
    wanted: Vec<String>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => options.lists = true,
                "--seed" => {
                    let seed = arguments.next().context("--seed needs a number")?;
                    let parsed = seed.parse();
                    options.seed = Some(parsed.with_context(|| format!("--seed {seed}"))?);
                }
                name if SCENARIOS.iter().any(|scenario| scenario.name == name) => {
                    options.wanted.push(argument);
                }
                unknown => {
                    let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
                    let names = names.join(" ");
                    return Err(anyhow!(
                        "no scenario is called '{unknown}'; there are: {names}"
                    ));
                }
            }
        }
        Ok(options)
    }
}

/// The first process of a process namespace has to heed these by itself; all others end with it.
async fn end_when_told() {
    use tokio::signal::unix::{SignalKind, signal};
    let told = |kind| signal(kind).expect("signals can be heeded");
    let (mut interrupt, mut terminate) =
        (told(SignalKind::interrupt()), told(SignalKind::terminate()));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    std::process::exit(130);
}

/// Runs the wanted scenarios, and sums up as `cargo test` does.
fn run_all(runtime: &tokio::runtime::Runtime, options: &Options) -> ExitCode {
    runtime.spawn(end_when_told());
    let began = Instant::now();
    let seed = options.seed.unwrap_or_else(rand::random);
    println!("seed {seed}");
    let (mut rows, mut passed, mut failed) = (Vec::new(), 0, Vec::new());
    let wanted = |scenario: &&Scenario| {
        options.wanted.is_empty() || options.wanted.iter().any(|name| name == scenario.name)
    };
    let runs = SCENARIOS.iter().filter(wanted);
    let runs = runs.flat_map(|one| SIZES.map(|size| (one, size)));
    for (scenario, size) in runs {
        let name = format!("{} {size}", scenario.name);
        let started = Instant::now();
        let ended = runtime.block_on(run_one(scenario, size, seed));
        let seconds = started.elapsed().as_secs_f64();
        rows.extend(ended.row);
        match ended.result {
            Ok(()) => {
                println!("test {name} ... ok ({seconds:.1} s)");
                passed += 1;
            }
            Err(error) => {
                println!("test {name} ... FAILED ({seconds:.1} s)\n{error:#}");
                failed.push(name);
            }
        }
    }
    println!("\n{}", Table(&rows));
    println!("seed {seed}");
    if failed.is_empty() {
        println!("the histories, of a key each, are linearizable");
    }
    println!(
        "\ntest result: {}. {passed} passed; {} failed; 0 ignored; finished in {:.1} s{}{}",
        if failed.is_empty() { "ok" } else { "FAILED" },
        failed.len(),
        began.elapsed().as_secs_f64(),
        if failed.is_empty() { "" } else { "; failed: " },
        failed.join(", "),
    );
    match failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

struct Ended {
    row: Option<Row>,
    result: Result<()>,
}

/// Runs one scenario. Whatever becomes of it, what its clients saw is judged.
async fn run_one(scenario: &Scenario, size: usize, seed: u64) -> Ended {
    let name = format!("{} {size}", scenario.name);
    let folder = logs().join(name.replace(' ', "-"));
    drop(std::fs::remove_dir_all(&folder)); // of an earlier run, if there was one
    let kind = Kind {
        size,
        is_proxied: scenario.proxied,
        has_leases: scenario.has_leases(size),
        is_slow: scenario.slow,
    };
    let began = AssertUnwindSafe(World::begin(kind, seed, &folder));
    let mut world = match began.catch_unwind().await {
        Ok(Ok(world)) => world,
        Ok(Err(error)) => return Ended::early(error),
        Err(_) => return Ended::early(anyhow!("panicked; the message is above")),
    };
    let run = AssertUnwindSafe(async {
        (scenario.run)(&mut world).await?;
        world.settle().await
    });
    let run = tokio::time::timeout(SCENARIO_MAX, run.catch_unwind());
    let result = match run.await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(anyhow!("panicked; the message is above")),
        Err(_) => Err(anyhow!("not finished after {} s", SCENARIO_MAX.as_secs())),
    };
    let recorder = world.load.recorder();
    let bounded = world.load.bounded_reads();
    let judged = report::judge(recorder, &bounded, &folder);
    let result = result.with_context(|| match world.notes.last() {
        Some(note) => format!("after \"{}\"", note.what),
        None => "before any fault".to_owned(),
    });
    let row = Row {
        scenario: name,
        has_leases: kind.has_leases,
        faults: world.notes.iter().filter(|note| note.is_fault).count(),
        endings: recorder.endings(),
        bounded: bounded.len(),
        histories: judged.as_ref().copied().unwrap_or(0),
        evidence: (world.evidence.iter())
            .map(|(what, count)| format!("{count} {what}"))
            .collect::<Vec<_>>()
            .join(", "),
        outage: report::longest_outage(&recorder.acknowledgements(), &world.notes),
    };
    let result = match (result, judged) {
        (Ok(()), Ok(_)) => {
            drop(std::fs::remove_dir_all(&folder)); // logs that nobody will read
            Ok(())
        }
        (Ok(()), Err(judged)) => Err(judged),
        (Err(error), Ok(_)) => Err(error),
        (Err(error), Err(judged)) => Err(anyhow!("{error:#}\nand {judged:#}")),
    };
    Ended {
        row: Some(row),
        result: result.with_context(|| format!("the servers' logs are in {}", folder.display())),
    }
}

impl Ended {
    fn early(error: anyhow::Error) -> Self {
        Self {
            row: None,
            result: Err(error.context("it did not begin")),
        }
    }
}

/// Where the logs of a scenario are kept that failed: beside the program's profile.
fn logs() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let profile = program.ancestors().nth(2).unwrap_or(Path::new("."));
    profile.join("process-logs")
}
