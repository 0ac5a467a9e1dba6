//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

/// Compares Kontiki with etcd on this machine: three servers of each on loopback, in memory.
#[derive(Debug, Parser)]
#[command(name = "kontiki-bench", version)]
pub struct Options {
    /// Rounds per comparison; at least 5 for a verdict
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,

    /// Measured seconds of each of the six legs of a round; at least 4 for a verdict
    #[arg(long, default_value_t = 4.0, value_parser = seconds)]
    pub seconds: f64,

    /// Warm-up seconds before each leg
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub warm_up: f64,

    /// Leaders to kill per system; at least 20 for a verdict
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub failovers: u32,

    /// A smoke test: one short round of everything, no verdict on targets
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "warm_up", "failovers", "full"])]
    pub quick: bool,

    /// Give the informative comparisons as many and as long rounds as those with a target
    #[arg(long)]
    pub full: bool,

    /// Keys that are loaded beforehand, and that all reads and writes are of
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(64..=1_000_000))]
    pub keys: u32,

    /// The kontiki-node to measure [default: a release build under target/]
    #[arg(long, value_name = "FILE")]
    pub node: Option<PathBuf>,

    /// The etcd to compare with [default: what `tests/kubernetes/build.sh etcd` builds]
    #[arg(long, value_name = "FILE")]
    pub etcd: Option<PathBuf>,

    /// A folder on a tmpfs with 2 GiB free, for etcd's data
    #[arg(long, default_value = "/dev/shm", value_name = "DIRECTORY")]
    pub tmpfs: PathBuf,

    /// Where the report is written
    #[arg(long, default_value = "target/bench/report.json", value_name = "FILE")]
    pub report: PathBuf,

    /// What to print at the end on standard output
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,

    /// Measure etcd and the echo server alone: their figures, no comparison
    #[arg(long)]
    pub rival_alone: bool,

    /// What this program runs itself as
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// How the report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

/// What else the benchmark measures, and roles that it starts itself in.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Refill fresh servers from a million keys while writes go on: bytes, seconds, the longest gap
    /// between acknowledgements, and what compaction saves in memory
    Refill {
        /// Keys that are loaded beforehand, of 256 bytes each
        #[arg(long = "of", default_value_t = 1_000_000, value_name = "KEYS",
              value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
        of: u32,
        /// Servers that are refilled, one after the other
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
        times: u32,
    },
    /// Only kill leaders, as the whole benchmark does at its end: the time without a leader beside etcd's
    Failover,
    /// Write millions of values over the same keys, and fail if a node's resident memory grows
    Memory {
        /// Values that are written in all, of 256 bytes each
        #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
        writes: u64,
        /// Writes after which memory is what it is compared with later
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(100..))]
        first: u64,
    },
    /// Become PROGRAM, killed by the kernel when the process PARENT ends
    #[command(hide = true)]
    RunTied {
        parent: u32,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<String>,
    },
    /// Serve empty answers
    #[command(hide = true)]
    Echo {
        #[arg(long)]
        listen: SocketAddr,
    },
}

/// How much is measured of one comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effort {
    pub rounds: u32,
    pub warm_up: Duration,
    pub measured: Duration,
    /// How often a void round is repeated.
    pub repeats_max: u32,
}

impl Options {
    /// The effort for a comparison with a target.
    pub fn effort(&self) -> Effort {
        if self.quick {
            return QUICK;
        }
        Effort {
            rounds: self.rounds,
            warm_up: Duration::from_secs_f64(self.warm_up),
            measured: Duration::from_secs_f64(self.seconds),
            repeats_max: 3,
        }
    }

    /// The effort for a comparison without one: at most 3 rounds of half the length, so that the
    /// default run ends within about 5 minutes.
    pub fn effort_informative(&self) -> Effort {
        let effort = self.effort();
        if self.quick || self.full {
            return effort;
        }
        Effort {
            rounds: effort.rounds.min(3),
            warm_up: effort.warm_up / 2,
            measured: effort.measured / 2,
            ..effort
        }
    }

    /// Leaders to kill per system.
    pub fn failovers(&self) -> u32 {
        if self.quick { 1 } else { self.failovers }
    }

    /// Whether enough leaders are killed for the targets of outages to be judged.
    pub fn judges_failovers(&self) -> bool {
        self.failovers() >= 20
    }

    /// Whether the run is long enough for the targets to be judged.
    pub fn judges(&self) -> bool {
        !self.quick && self.rounds >= 5 && self.seconds >= 4.0 && self.warm_up >= 1.0
    }
}

const QUICK: Effort = Effort {
    rounds: 1,
    warm_up: Duration::from_millis(300),
    measured: Duration::from_secs(1),
    repeats_max: 0,
};

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.1..=600.0).contains(&value) => Ok(value),
        _ => Err("expected a number of seconds from 0.1 to 600".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_run_is_judged_and_a_shorter_one_is_not() {
        let parse = |arguments: &[&str]| {
            Options::try_parse_from([&["kontiki-bench"], arguments].concat()).unwrap()
        };
        assert!(parse(&[]).judges());
        for shorter in [
            ["--rounds", "4"],
            ["--seconds", "3.9"],
            ["--warm-up", "0.5"],
        ] {
            assert!(!parse(&shorter).judges(), "{shorter:?}");
        }
        assert!(!parse(&["--quick"]).judges());
        assert!(parse(&[]).judges_failovers());
        for fewer in [&["--quick"][..], &["--failovers", "19"]] {
            assert!(!parse(fewer).judges_failovers(), "{fewer:?}");
        }
        assert_eq!(parse(&["--quick"]).failovers(), 1);
    }

    #[test]
    fn informative_comparisons_are_cheaper_unless_all_of_it_is_asked_for() {
        let parse = |arguments: &[&str]| {
            Options::try_parse_from([&["kontiki-bench"], arguments].concat()).unwrap()
        };
        let informative = parse(&[]).effort_informative();
        assert_eq!(
            (informative.rounds, informative.measured),
            (3, Duration::from_secs(2))
        );
        let full = parse(&["--full"]);
        assert_eq!(full.effort_informative(), full.effort());
    }

    #[test]
    fn seconds_out_of_bounds_are_refused_with_the_bounds() {
        let error = Options::try_parse_from(["kontiki-bench", "--seconds", "0"]).unwrap_err();
        assert!(error.to_string().contains("from 0.1 to 600"), "{error}");
    }
}
