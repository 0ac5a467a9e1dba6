//! `sim`: runs seeds of the simulator and counts what happened.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use kontiki_tests::batch::{Batch, Seeds, run_all};
use kontiki_tests::profile::{PROFILES, Profile};
use kontiki_tests::script::Script;
use kontiki_tests::shrink::{RUNS_MAX, shrink};
use kontiki_tests::simulation::{Observer, Outcome, replay, run};
use kontiki_tests::tally::Tally;

/// Runs the real driver and engine in a simulated world, seed by seed, and checks invariants after
/// every turn. Exits with 1 if one does not hold, or if what the profile demands happened too rarely. A
/// failure is made as small as it goes, and written down as a script.
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
    /// Run what this file says, which an earlier failure wrote, and print its trace.
    #[arg(long, conflicts_with_all = ["seeds", "start", "seed", "profile"])]
    script: Option<PathBuf>,
    /// Mixture of faults.
    #[arg(long, default_value = PROFILES[0].name, value_parser = profile)]
    profile: &'static Profile,
    /// Seconds for fresh seeds in the end, from a first one that the system draws: of all profiles in
    /// rotation if there are seeds of others, else of the one.
    #[arg(long, default_value_t = 0)]
    fresh: u64,
    /// Seeds of each other profile afterwards.
    #[arg(long, default_value_t = 0)]
    others: u64,
    /// Threads.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Runs that making a failure smaller may take; 0: it is left as it is.
    #[arg(long, default_value_t = RUNS_MAX)]
    shrink_runs: u32,
    /// Where scripts of failures go.
    #[arg(long, default_value = "target/sim")]
    scripts: PathBuf,
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
    let result = match (&arguments.script, arguments.seed) {
        (Some(script), _) => from_script(script),
        (None, Some(seed)) => one(seed, &arguments),
        (None, None) => many(&arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

const PRINTING: Observer = Observer {
    prints: true,
    tells: false,
    invariants: Vec::new,
};

/// A single seed, with its trace.
fn one(seed: u64, arguments: &Arguments) -> anyhow::Result<bool> {
    let outcome = run(seed, arguments.profile, &PRINTING);
    print!("{}", outcome.tally);
    println!("trace hash {:016x}", outcome.hash);
    judge(&outcome, arguments)
}

fn from_script(path: &Path) -> anyhow::Result<bool> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let script = Script::parse(&text)
        .map_err(anyhow::Error::msg)
        .with_context(|| path.display().to_string())?;
    let outcome = replay(&script, &PRINTING);
    println!("trace hash {:016x}", outcome.hash);
    println!("{}", ending(&outcome));
    let ends_as_written = outcome.script().ending == script.ending;
    match ends_as_written {
        true => println!("it ends as the script says, bit for bit"),
        false => println!(
            "it does not end as the script says: that was {:?}",
            script.ending
        ),
    }
    Ok(ends_as_written && outcome.violation.is_none())
}

fn ending(outcome: &Outcome) -> String {
    let (seed, step) = (outcome.run.seed, outcome.step);
    match &outcome.violation {
        Some(violation) => format!("FAILED seed={seed} step={step} {violation}"),
        None => "no violation".to_owned(),
    }
}

/// Says what went wrong, if anything did, makes it small, and writes it down.
fn judge(outcome: &Outcome, arguments: &Arguments) -> anyhow::Result<bool> {
    println!("{}", ending(outcome));
    if outcome.violation.is_none() {
        return Ok(true);
    }
    println!(
        "replay: cargo run -p kontiki-tests --bin sim -- --profile {} --seed {}",
        outcome.run.profile.name, outcome.run.seed
    );
    if arguments.shrink_runs == 0 {
        return Ok(false);
    }
    let Some(shrunk) = shrink(outcome, &Observer::default(), arguments.shrink_runs) else {
        println!("it is of a whole run, and cannot be made smaller");
        return Ok(false);
    };
    let telling = Observer {
        tells: true,
        ..Observer::default()
    };
    let story = replay(&shrunk.script, &telling).story;
    let mut text = format!("# {}\n", ending(&shrunk.outcome));
    let mut story = story.iter();
    for line in shrunk.script.to_string().lines() {
        let told = line.starts_with("at ").then(|| story.next()).flatten();
        text.push_str(line);
        if let Some(told) = told {
            text.push_str(&format!("  # {told}"));
        }
        text.push('\n');
    }
    println!("made smaller in {} runs:\n{text}", shrunk.runs);
    let name = format!("{}-{}.txt", outcome.run.profile.name, outcome.run.seed);
    let path = arguments.scripts.join(name);
    std::fs::create_dir_all(&arguments.scripts)
        .and_then(|()| std::fs::write(&path, text))
        .with_context(|| format!("writing {}", path.display()))?;
    let path = path.display();
    println!("replay: cargo run -p kontiki-tests --bin sim -- --script {path}");
    Ok(false)
}

/// What was run so far, of all profiles.
#[derive(Default)]
struct Sum {
    total: Tally,
    done: u64,
    seconds: f64,
    profiles: BTreeSet<&'static str>,
}

/// The fixed seeds, then some of every other profile, then as many fresh ones of all profiles, in rotation,
/// as there is time for; or fresh ones of the one profile, if no others are wanted.
fn many(arguments: &Arguments) -> anyhow::Result<bool> {
    let profile = arguments.profile;
    let mut sum = Sum::default();
    let fixed = Seeds::fixed(arguments.start, arguments.seeds);
    if !report(&[profile], &fixed, &mut sum, arguments)? {
        return Ok(false);
    }
    let mut profiles = vec![profile];
    if arguments.others > 0 {
        profiles.extend(PROFILES.iter().filter(|other| other.name != profile.name));
    }
    for other in &profiles[1..] {
        let seeds = Seeds::fixed(1, arguments.others);
        if !report(&[*other], &seeds, &mut sum, arguments)? {
            return Ok(false);
        }
    }
    if arguments.fresh > 0 {
        let first = rand::random::<u32>();
        println!("fresh seeds, from {first} on");
        let deadline = Instant::now() + Duration::from_secs(arguments.fresh);
        let seeds = Seeds::fresh(first.into(), deadline);
        if !report(&profiles, &seeds, &mut sum, arguments)? {
            return Ok(false);
        }
    }
    if profiles.len() > 1 {
        print_sum(&sum);
    }
    Ok(true)
}

/// What happened in all of them.
fn print_sum(sum: &Sum) {
    for (title, prefix) in [
        ("faults", "fault: "),
        ("known deadlocks", "known deadlock: "),
    ] {
        println!("{title}, of all profiles:");
        for (name, count) in sum.total.named(prefix) {
            println!("  {name:<78}{count:>10}");
        }
    }
    println!(
        "{} seeds of {} profiles in {:.0} s, {:.0} a minute: {} operations of clients, {} faults of {} \
         kinds, {} states seen, {} known deadlocks, no violation",
        sum.done,
        sum.profiles.len(),
        sum.seconds,
        sum.done as f64 / sum.seconds * 60.0,
        sum.total.count("client: operation"),
        sum.total.sum("fault: "),
        sum.total.kinds("fault: "),
        sum.total.kinds("state: "),
        sum.total.sum("known deadlock: "),
    );
}

/// Runs seeds of some profiles in rotation, and says what happened.
fn report(
    profiles: &[&'static Profile],
    seeds: &Seeds,
    sum: &mut Sum,
    arguments: &Arguments,
) -> anyhow::Result<bool> {
    let started = Instant::now();
    let Batch {
        total,
        first_failure,
        done,
    } = run_all(profiles, seeds, arguments.jobs);
    let seconds = started.elapsed().as_secs_f64();
    let rate = done as f64 / seconds * 60.0;
    let [profile] = profiles else {
        println!("{done} seeds of all profiles in {seconds:.1} s, {rate:.0} a minute");
        return conclude(
            first_failure,
            profiles,
            seconds,
            (total, done),
            sum,
            arguments,
        );
    };
    if seeds.is_fixed() && profile.is_default() {
        print!("{total}");
    }
    println!(
        "{done} seeds of profile {} in {seconds:.1} s, {rate:.0} a minute: {} operations of clients, \
         {} faults of {} kinds, {} states seen",
        profile.name,
        total.count("client: operation"),
        total.sum("fault: "),
        total.kinds("fault: "),
        total.kinds("state: "),
    );
    if first_failure.is_none() {
        let demands = profile.demands(done).into_iter();
        let missed: Vec<String> = demands
            .filter(|(name, wanted)| total.count(name) < *wanted)
            .map(|(name, wanted)| format!("  {name}: {} of {wanted}", total.count(name)))
            .collect();
        if !missed.is_empty() {
            println!("FAILED: too rare:\n{}", missed.join("\n"));
            return Ok(false);
        }
    }
    conclude(
        first_failure,
        profiles,
        seconds,
        (total, done),
        sum,
        arguments,
    )
}

/// Judges a failure, or adds what happened to the sum.
fn conclude(
    first_failure: Option<Outcome>,
    profiles: &[&'static Profile],
    seconds: f64,
    (total, done): (Tally, u64),
    sum: &mut Sum,
    arguments: &Arguments,
) -> anyhow::Result<bool> {
    if let Some(outcome) = first_failure {
        return judge(&outcome, arguments);
    }
    println!("no violation");
    sum.total.absorb(&total);
    sum.done += done;
    sum.seconds += seconds;
    sum.profiles
        .extend(profiles.iter().map(|profile| profile.name));
    Ok(true)
}
