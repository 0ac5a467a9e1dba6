//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use serde::Serialize;

/// Compares Kontiki's engine with raft-rs and openraft: committed entries a second, in one process.
#[derive(Debug, Parser, Serialize)]
#[command(name = "kontiki-engine-bench", version)]
pub struct Options {
    /// Rounds per comparison; at least 5 for a verdict
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,

    /// Measured seconds of each of the four legs of a round; at least 0.5 for a verdict
    #[arg(long, default_value_t = 0.7, value_parser = seconds)]
    pub seconds: f64,

    /// Warm-up seconds before each leg
    #[arg(long, default_value_t = 0.2, value_parser = seconds)]
    pub warm_up: f64,

    /// Repetitions of void rounds, over each comparison
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub repeats_max: u32,

    /// Only comparisons whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,

    /// Where the report is written
    #[arg(long, default_value = "target/bench/engine.json", value_name = "FILE")]
    pub report: PathBuf,
}

impl Options {
    pub fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only))
    }

    pub fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up)
    }

    pub fn measured(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// Whether the run is long enough for the targets to be judged.
    pub fn judges(&self) -> bool {
        self.rounds >= 5 && self.seconds >= 0.5
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.05..=60.0).contains(&value) => Ok(value),
        _ => Err("expected a number of seconds from 0.05 to 60".into()),
    }
}
