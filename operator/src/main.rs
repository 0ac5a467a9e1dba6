//! `kontiki-operator`: looks after RaftClusters, on Kubernetes or on this machine.

use std::process::ExitCode;

use clap::Parser;
use kontiki_operator::cli::{self, Options};

fn main() -> ExitCode {
    // Only fails if one is installed already, and then there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    cli::run(Options::parse())
}
