//! The tests on a real Kubernetes: three Kubernetes nodes, the operator installed by its chart, load
//! from four writers. `make e2e` builds what they need and runs them beside a cluster.
//!
//! Each scenario has a namespace of its own, in which the pod security profile `restricted` is
//! enforced, and waits on conditions with a deadline. One runs after the other, since most of them
//! measure time. When one fails, what can be seen of its namespace is printed.

mod bad_input;
mod bank;
mod bank_roll;
mod clients;
mod cluster;
mod drift;
mod example;
mod lossy;
mod main_job;
mod metrics;
mod namespace;
mod operator;
mod processes;
mod raft;
mod speed;
mod total_loss;
mod trigger_election;
mod wait;
mod writers;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use cluster::Cluster;
use namespace::Namespace;
use operator::Operator;

/// No scenario may take longer.
const SCENARIO_MAX: Duration = Duration::from_secs(900);

/// What a scenario works with.
struct World {
    cluster: Cluster,
    operator: Operator,
    namespace: Namespace,
}

type Run = for<'a> fn(&'a World) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

struct Scenario {
    name: &'static str,
    /// Looks at processes on the Kubernetes nodes, so that it can run on a cluster of ours only.
    on_nodes: bool,
    run: Run,
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "bad-input",
        on_nodes: false,
        run: |w| Box::pin(bad_input::run(w)),
    },
    Scenario {
        name: "main-job",
        on_nodes: false,
        run: |w| Box::pin(main_job::run(w)),
    },
    Scenario {
        name: "trigger-election",
        on_nodes: true,
        run: |w| Box::pin(trigger_election::run(w)),
    },
    Scenario {
        name: "metrics",
        on_nodes: false,
        run: |w| Box::pin(metrics::run(w)),
    },
    Scenario {
        name: "clients",
        on_nodes: false,
        run: |w| Box::pin(clients::run(w)),
    },
    Scenario {
        name: "drift",
        on_nodes: false,
        run: |w| Box::pin(drift::run(w)),
    },
    Scenario {
        name: "bank",
        on_nodes: false,
        run: |w| Box::pin(bank::run(w)),
    },
    Scenario {
        name: "bank-roll",
        on_nodes: false,
        run: |w| Box::pin(bank_roll::run(w)),
    },
    Scenario {
        name: "time-to-ready",
        on_nodes: false,
        run: |w| Box::pin(speed::time_to_ready(w)),
    },
    Scenario {
        name: "memory",
        on_nodes: true,
        run: |w| Box::pin(speed::memory(w)),
    },
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.iter().any(|argument| argument == "--list") {
        SCENARIOS
            .iter()
            .for_each(|scenario| println!("{}: test", scenario.name));
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = wanted
        .iter()
        .find(|name| SCENARIOS.iter().all(|scenario| scenario.name != *name))
    {
        let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        eprintln!(
            "no scenario is called '{unknown}'; there are: {}",
            names.join(" ")
        );
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    run_all(&runtime, &wanted)
}

/// Runs the wanted scenarios (none named: all) and sums up as `cargo test` does.
fn run_all(runtime: &tokio::runtime::Runtime, wanted: &[String]) -> ExitCode {
    let began = Instant::now();
    let (mut passed, mut failed, mut skipped) = (0, Vec::new(), 0);
    let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    for scenario in SCENARIOS {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == scenario.name) {
            continue;
        }
        if scenario.on_nodes && !Cluster::is_ours() && !in_ci {
            println!(
                "test {} ... SKIPPED: it needs the nodes of a cluster of ours, and KUBECONFIG \
                      names another cluster",
                scenario.name
            );
            skipped += 1;
            continue;
        }
        println!("test {} ...", scenario.name);
        let started = Instant::now();
        match run_one(runtime, scenario) {
            Ok(()) => {
                println!(
                    "test {} ... ok ({:.1} s)",
                    scenario.name,
                    started.elapsed().as_secs_f64()
                );
                passed += 1;
            }
            Err(error) => {
                println!(
                    "test {} ... FAILED ({:.1} s)\n  {error:#}",
                    scenario.name,
                    started.elapsed().as_secs_f64()
                );
                failed.push(scenario.name);
            }
        }
    }
    println!(
        "\ntest result: {}. {passed} passed; {} failed; {skipped} ignored; finished in {:.1} s{}{}",
        if failed.is_empty() { "ok" } else { "FAILED" },
        failed.len(),
        began.elapsed().as_secs_f64(),
        if failed.is_empty() { "" } else { "; failed: " },
        failed.join(" "),
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs one scenario in its namespace, shows the namespace if it fails, and removes it.
fn run_one(runtime: &tokio::runtime::Runtime, scenario: &Scenario) -> Result<()> {
    let world = runtime.block_on(async {
        let cluster = Cluster::connect().await?;
        let operator = Operator::install(&cluster).await?;
        let namespace = Namespace::create(&cluster, scenario.name).await?;
        anyhow::Ok(World {
            cluster,
            operator,
            namespace,
        })
    })?;
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            tokio::time::timeout(SCENARIO_MAX, (scenario.run)(&world))
                .await
                .unwrap_or_else(|_| Err(anyhow!("not finished after {} s", SCENARIO_MAX.as_secs())))
        })
    }))
    .unwrap_or_else(|_| Err(anyhow!("panicked; the message is above")));
    if outcome.is_err() {
        runtime.block_on(world.namespace.show(&world.operator));
    }
    let removed = runtime.block_on(world.namespace.remove());
    outcome.and(removed)
}
