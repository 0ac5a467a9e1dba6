//! ExRaft's README as a program: see `kontiki_examples::exraft`.

use std::process::ExitCode;
use std::time::Duration;

use kontiki_examples::calls::Real;
use kontiki_examples::exraft;
use kontiki_examples::narrator::Narrator;
use tracing_subscriber::EnvFilter;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // What the servers say, if it is asked for: RUST_LOG=info.
    let filter = EnvFilter::from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match exraft::tell(
        &Real::default(),
        &Narrator::on_stdout(),
        Duration::from_secs(20),
    )
    .await
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("{failed}");
            ExitCode::FAILURE
        }
    }
}
