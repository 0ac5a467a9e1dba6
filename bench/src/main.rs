//! `kontiki-bench`: see the library for what it measures and how.

use std::process::ExitCode;

use clap::Parser;

use kontiki_bench::options::{Command, Options};
use kontiki_bench::run::{self, Part};
use kontiki_bench::{echo, memory, process, refill};

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match &options.command {
        Some(Command::RunTied { parent, program }) => process::become_tied(*parent, program),
        Some(Command::Echo { listen }) => on_this_thread(echo::serve(*listen)),
        Some(Command::Refill { of, times }) => on_this_thread(refill::run(&options, *of, *times)),
        Some(Command::Memory { writes, first }) => {
            on_this_thread(memory::run(&options, *writes, *first))
        }
        Some(Command::Failover) => on_this_thread(run::run(&options, Part::Failovers)),
        None => on_this_thread(run::run(&options, Part::Whole)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kontiki-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Servers, clients and measurements of this process share one thread, whose CPU time is then the
/// generator's.
fn on_this_thread(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
