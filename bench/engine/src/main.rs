//! `kontiki-engine-bench`: Kontiki's engine beside others, in one process, without a network.
//!
//! **The bare core**: three of [`kontiki_raft::Raft`] against three of raft-rs's `RawNode` over its
//! `MemStorage`, on one thread, wired by vectors. Both get the same payloads in the same batches, with
//! the same number of entries in flight, and hand every committed payload over on all three servers.
//!
//! **The driver**: three of [`kontiki_node::driver::Driver`], each in a task that runs it as a node's
//! loop does, against three of openraft over a store and a network in memory, as in its own
//! benchmark. Both serve the same async callers, each with one write in flight, on the same kind of
//! runtime, with the same machine on all three servers.
//!
//! What is counted is what callers were answered (the core: what is committed on all three). After
//! every comparison the servers are compared: all have applied exactly what was answered, in the same
//! order, to the same state. Both sides live in this program, so they have one compiler, one
//! allocator, and the same flags.
//!
//! Legs alternate, ours, rival, rival, ours, which cancels a linear drift; the figure is the median
//! of the rounds' ratios, and a target is met if the lower quartile meets it. A round in which other
//! processes used more than a tenth of a core, or the hypervisor stole more than one percent, is void
//! and repeated.

mod bare_core;
mod driver;
mod options;
mod report;
mod rounds;

use std::process::ExitCode;

use clap::Parser;

use options::Options;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kontiki-engine-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let contests = bare_core::contests().into_iter().chain(driver::contests());
    let mut report = report::Report::new(options);
    for contest in contests.filter(|contest| options.wants(&contest.name)) {
        let comparison = rounds::compare(contest, options)?;
        report.comparisons.push(comparison);
    }
    report.write(&options.report)?;
    println!("{}", report.table());
    eprintln!("report: {}", options.report.display());
    Ok(())
}
