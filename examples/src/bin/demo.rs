//! `make demo`: both parts of the story. Exits with 0 if every step holds, and leaves no process.

use std::process::ExitCode;

use clap::Parser;
use kontiki_examples::demo::{Options, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
