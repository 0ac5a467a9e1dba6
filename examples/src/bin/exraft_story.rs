//! ExRaft's README as a program: see `kontiki_examples::exraft`.

use std::process::ExitCode;
use std::time::Duration;

use kontiki_examples::calls::Real;
use kontiki_examples::exraft;
use kontiki_examples::narrator::Narrator;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
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
