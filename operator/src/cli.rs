//! The command line.

mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kontiki_api::RaftCluster;
use kube::CustomResourceExt;

use crate::controller::chain;
use crate::telemetry::LogOptions;
use crate::{local, telemetry};

pub use self::run::RunOptions;

/// Exit status of a configuration that cannot be used, as in sysexits.
pub const EXIT_CONFIG: u8 = 78;

/// Looks after RaftClusters: on Kubernetes, or as processes on this machine.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Options {
    /// What to do; `run` by default.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Logs.
    #[command(flatten)]
    pub logs: LogOptions,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look after the RaftClusters of a Kubernetes cluster.
    Run(RunOptions),
    /// Run the RaftCluster of a manifest as processes on this machine.
    ///
    /// Edit `spec.replicas` in the file, and the cluster follows. Ctrl-C stops all of it.
    Local(LocalOptions),
    /// Print the resource definition.
    Crd,
}

/// Options of `local`.
#[derive(Debug, clap::Args)]
pub struct LocalOptions {
    /// The manifest. What belongs to the cluster is kept beside it, in FILE.state/.
    pub file: PathBuf,
    /// Program of a node; by default `kontiki-node` beside this program, or else on the PATH. In
    /// place of `spec.image`, and so required if `spec.stateMachine.kind` is Custom.
    #[arg(long, env = "KONTIKI_NODE_BINARY")]
    pub node_binary: Option<PathBuf>,
    /// Print the status of the running cluster, and end.
    #[arg(long)]
    pub status: bool,
}

/// Runs the program.
pub fn run(options: Options) -> ExitCode {
    if let Err(error) = telemetry::init(&options.logs) {
        eprintln!("--log-level {:?}: {error}", options.logs.log_level);
        return ExitCode::from(EXIT_CONFIG);
    }
    let result = match options.command {
        Some(Command::Crd) => print_crd(),
        Some(Command::Local(local)) if local.status => print_status(&local),
        Some(Command::Local(local)) => run_local(&local),
        Some(Command::Run(run)) => run::run(run),
        None => run::run(RunOptions::parse_from(["run"])),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("kontiki-operator: {}", failure.message);
            ExitCode::from(failure.status)
        }
    }
}

/// Why the program ends, and with which status.
#[derive(Debug)]
pub struct Failure {
    /// For people.
    pub message: String,
    /// Exit status.
    pub status: u8,
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            message: chain(&error),
            status: 1,
        }
    }
}

fn print_crd() -> Result<(), Failure> {
    print!("{}", serde_yaml::to_string(&RaftCluster::crd())?);
    Ok(())
}

fn print_status(options: &LocalOptions) -> Result<(), Failure> {
    print!("{}", local::status(&options.file)?);
    Ok(())
}

fn run_local(options: &LocalOptions) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let node = options.node_binary.as_deref();
    match runtime.block_on(local::run(&options.file, node)) {
        Ok(()) => Ok(()),
        Err(error) => Err(Failure {
            message: chain(&error),
            status: error.exit_status(),
        }),
    }
}
