//! The program `demo`: part one, part two, and nothing left behind.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use tempfile::NamedTempFile;
use tokio::signal::unix::{SignalKind, signal};

use crate::calls::Real;
use crate::exraft;
use crate::local::{self, LocalWorld, Programs, Timing, tail};
use crate::narrator::Narrator;

/// How long part one waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tells what Kontiki does, and checks every word of it.
#[derive(Debug, clap::Parser)]
#[command(version, max_term_width = 100)]
pub struct Options {
    /// Program of a node; by default `kontiki-node` beside this program.
    #[arg(long)]
    pub node_binary: Option<PathBuf>,
    /// Program of the operator; by default `kontiki-operator` beside this program.
    #[arg(long)]
    pub operator_binary: Option<PathBuf>,
}

/// Runs the demo on standard output.
///
/// # Errors
/// The step that does not hold; a program that is not there; SIGINT or SIGTERM. Whatever it is,
/// every process that was started has ended.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let programs = Programs {
        operator: program(
            options.operator_binary,
            "kontiki-operator",
            "--operator-binary",
        )?,
        node: program(options.node_binary, "kontiki-node", "--node-binary")?,
    };
    let narrator = Narrator::on_stdout();
    let calls = Real::default();
    let started = Instant::now();
    let log = log_to_a_file()?;
    let told = until_told(async { Ok(exraft::tell(&calls, &narrator, PATIENCE).await?) }).await;
    if told.is_err() {
        eprintln!("\n{}", tail(log.path()));
    }
    told?;
    let mut world = LocalWorld::start(&programs, 3)?;
    let story = local::tell(&calls, &narrator, Timing::default(), &mut world);
    let told = until_told(async { Ok(story.await?) }).await;
    if told.is_err() {
        eprintln!("\n{}", world.tails());
    }
    let ended = world.end().await;
    told?;
    ended?;
    let seconds = started.elapsed().as_secs_f64();
    narrator.part(&format!("All of it held, in {seconds:.1} s."));
    Ok(())
}

/// What embedded servers log goes to a file, for the case that something fails.
fn log_to_a_file() -> anyhow::Result<NamedTempFile> {
    let log = tempfile::Builder::new()
        .prefix("kontiki-demo-")
        .suffix(".log")
        .tempfile()?;
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_env_filter("info");
    let subscriber = subscriber.with_writer(Mutex::new(log.reopen()?));
    subscriber
        .try_init()
        .map_err(|error| anyhow!("log to a file: {error}"))?;
    Ok(log)
}

/// Does something unless this process is told to end.
async fn until_told(deed: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        done = deed => done,
        _ = terminate.recv() => Err(anyhow!("ended by SIGTERM")),
        _ = interrupt.recv() => Err(anyhow!("ended by SIGINT")),
    }
}

/// A program: as said, or beside this one.
fn program(said: Option<PathBuf>, name: &str, flag: &str) -> anyhow::Result<PathBuf> {
    let path = match said {
        Some(path) => path,
        None => {
            let own = std::env::current_exe().context("where this program is")?;
            own.with_file_name(name)
        }
    };
    let told = path.display();
    ensure!(
        path.is_file(),
        "there is no {name} at {told}: build it, or say where with {flag}"
    );
    // Whoever starts it may be in another folder.
    std::fs::canonicalize(&path).with_context(|| format!("{name} at {}", path.display()))
}
