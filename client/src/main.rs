//! The `kontiki` command.

use std::process::ExitCode;

use clap::Parser;

mod cli;

fn main() -> ExitCode {
    // Prints help and usage errors itself, and exits with 0 or 2.
    let arguments = cli::Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("kontiki: cannot start: {error}");
            return ExitCode::from(1);
        }
    };
    runtime.block_on(cli::run(arguments))
}
