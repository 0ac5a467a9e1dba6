//! `sim`: runs seeds of the simulator and counts what happened.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Parser;
use kontiki_tests::profile::{PROFILES, Profile};
use kontiki_tests::simulation::{Outcome, run};
use kontiki_tests::tally::Tally;

/// Runs the real driver and engine in a simulated world, seed by seed, and checks invariants after
/// every turn. Exits with 1 if one does not hold, or if a fault of the profile never happened.
#[derive(Parser)]
#[command(name = "sim")]
struct Arguments {
    /// Seeds to run, one after the other.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Run this one only, and print its trace.
    #[arg(long, conflicts_with_all = ["seeds", "start"])]
    seed: Option<u64>,
    /// Mixture of faults.
    #[arg(long, default_value = PROFILES[0].name, value_parser = profile)]
    profile: &'static Profile,
    /// Threads.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
}

fn profile(name: &str) -> Result<&'static Profile, String> {
    Profile::named(name).ok_or_else(|| {
        let known = PROFILES
            .iter()
            .map(|known| format!("{} ({})", known.name, known.about));
        format!("known profiles: {}", known.collect::<Vec<_>>().join(", "))
    })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => one(seed, arguments.profile),
        None => many(&arguments),
    }
}

/// A single seed, with its trace.
fn one(seed: u64, profile: &'static Profile) -> ExitCode {
    let outcome = run(seed, profile, true);
    println!("{}", outcome.tally);
    println!("trace hash {:016x}", outcome.hash);
    verdict(&outcome, profile)
}

fn verdict(outcome: &Outcome, profile: &Profile) -> ExitCode {
    let Some(violation) = &outcome.violation else {
        return ExitCode::SUCCESS;
    };
    let (seed, step) = (outcome.seed, outcome.step);
    println!("FAILED seed={seed} step={step} {violation}");
    println!(
        "replay: cargo run -p kontiki-tests --bin sim -- --profile {} --seed {seed}",
        profile.name
    );
    ExitCode::FAILURE
}

fn many(arguments: &Arguments) -> ExitCode {
    let started = Instant::now();
    let (total, first_failure, done) = run_all(arguments);
    let seconds = started.elapsed().as_secs_f64();
    let rate = done as f64 / seconds * 60.0;
    let profile = arguments.profile;
    println!("{total}");
    println!(
        "{done} seeds of profile {} in {seconds:.1} s, {rate:.0} a minute",
        profile.name
    );
    if let Some(outcome) = first_failure {
        return verdict(&outcome, profile);
    }
    if done >= Profile::ASSERTED_FROM {
        let never = profile
            .required()
            .into_iter()
            .filter(|name| total.count(name) == 0);
        let never: Vec<&str> = never.collect();
        if !never.is_empty() {
            println!("FAILED: never happened: {}", never.join("; "));
            return ExitCode::FAILURE;
        }
    }
    println!("no violation");
    ExitCode::SUCCESS
}

/// Counts of all, the failure with the smallest seed, and how many seeds ran.
fn run_all(arguments: &Arguments) -> (Tally, Option<Outcome>, u64) {
    let next = AtomicU64::new(arguments.start);
    let end = arguments.start.saturating_add(arguments.seeds);
    let failed = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            let sender = sender.clone();
            scope.spawn(|| {
                let sender = sender;
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let outcome = run(seed, arguments.profile, false);
                    failed.fetch_or(outcome.violation.is_some(), Ordering::Relaxed);
                    if sender.send(outcome).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        collect(receiver, arguments.seeds)
    })
}

fn collect(receiver: mpsc::Receiver<Outcome>, seeds: u64) -> (Tally, Option<Outcome>, u64) {
    let mut total = Tally::default();
    let mut first_failure: Option<Outcome> = None;
    let mut done = 0;
    let mut shown = Instant::now();
    for outcome in receiver {
        done += 1;
        total.absorb(&outcome.tally);
        let earlier = |found: &Outcome| found.seed < outcome.seed;
        if outcome.violation.is_some() && !first_failure.as_ref().is_some_and(earlier) {
            first_failure = Some(outcome);
        }
        if shown.elapsed() >= Duration::from_secs(5) {
            shown = Instant::now();
            println!(
                "{done}/{seeds} seeds, {} operations",
                total.count("client: operation")
            );
        }
    }
    (total, first_failure, done)
}
