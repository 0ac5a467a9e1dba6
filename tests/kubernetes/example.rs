//! The clients of `examples/clients`, and the bank's in Python, as programs that `clients.sh` built.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cluster::checkout;
use crate::raft::PATIENCE;

/// No call may take longer: the clients give up after 10 s.
const CALL_MAX: Duration = Duration::from_secs(60);

/// A client.
pub struct Example {
    pub name: &'static str,
    command: Vec<PathBuf>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Example {
    /// Those of `kv`.
    pub fn all() -> Result<[Example; 2]> {
        Ok([
            Example::new("python", &["venv/bin/python", "python/kv.py"])?,
            Example::new("go", &["kv-go"])?,
        ])
    }

    /// That of the bank, in Python.
    pub fn bank() -> Result<Example> {
        Example::new("bank", &["venv/bin/python", "python/bank.py"])
    }

    fn new(name: &'static str, command: &[&str]) -> Result<Example> {
        let clients = checkout().join("target/clients");
        let command: Vec<_> = command.iter().map(|path| clients.join(path)).collect();
        for path in &command {
            ensure!(
                path.exists(),
                "there is no {}: run tests/kubernetes/clients.sh",
                path.display()
            );
        }
        Ok(Example { name, command })
    }

    fn command(&self, endpoints: &[String]) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).arg(endpoints.join(","));
        // Pods are to be reached directly.
        command.env("no_proxy", "*").env("NO_PROXY", "*");
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub async fn run(&self, endpoints: &[String], arguments: &[&str]) -> Result<Ended> {
        let mut command = self.command(endpoints);
        command.args(arguments).stdin(Stdio::null());
        let output = tokio::time::timeout(CALL_MAX, command.output())
            .await
            .with_context(|| format!("{} {arguments:?} does not end", self.name))?
            .with_context(|| format!("start {}", self.name))?;
        Ok(Ended {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs it, and compares how it ended.
    pub async fn expect(
        &self,
        endpoints: &[String],
        arguments: &[&str],
        status: i32,
        stdout: &str,
    ) -> Result<()> {
        let ended = self.run(endpoints, arguments).await?;
        ensure!(
            ended.status == Some(status) && ended.stdout == stdout,
            "{} {arguments:?} was to end with {status} and print {stdout:?}: {ended:?}",
            self.name
        );
        Ok(())
    }

    /// Lets `fill PREFIX`, `count KEY` or `load AMOUNT` write, one after the other, until it is stopped.
    pub fn write(&self, endpoints: &[String], command: &str, argument: &str) -> Result<Writing> {
        let mut child = self
            .command(endpoints)
            .args([command, argument])
            .stdin(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", self.name))?;
        let name = format!("{} {command}", self.name);
        let (counted, acknowledged) = watch::channel(0);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let outcomes = feed(&mut child, &counted, &stopped).await;
            let output = child.wait_with_output().await?;
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            let outcomes = outcomes.with_context(|| stderr.clone())?;
            ensure!(
                output.status.success() && stderr.is_empty(),
                "ended with {}: {stderr}",
                output.status
            );
            Ok(outcomes)
        });
        Ok(Writing {
            name,
            acknowledged,
            stop,
            task,
        })
    }
}

/// How a write ended, by the client's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged,
    Failed,
    Unknown,
}

/// A client that writes.
pub struct Writing {
    pub name: String,
    acknowledged: watch::Receiver<usize>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<Vec<Outcome>>>,
}

impl Writing {
    /// Waits until so many more writes than now are acknowledged.
    pub async fn served(&mut self, more: usize) -> Result<()> {
        let wanted = *self.acknowledged.borrow() + more;
        let served = self.acknowledged.wait_for(|count| *count >= wanted);
        match tokio::time::timeout(PATIENCE, served).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => {
                let ended = (&mut self.task).await?;
                Err(anyhow!("{} ended early: {ended:?}", self.name))
            }
            Err(_) => bail!("{}: not {wanted} writes acknowledged", self.name),
        }
    }

    /// Stops it after the write in flight; how each ended, in order.
    pub async fn stop(self) -> Result<Vec<Outcome>> {
        self.stop.store(true, Ordering::Relaxed);
        let outcomes = tokio::time::timeout(CALL_MAX, self.task);
        let outcomes = outcomes.await.context("does not end")??;
        outcomes.with_context(|| self.name)
    }
}

/// Hands in a line for each write, once the last one has ended; closes stdin when told to stop.
async fn feed(
    child: &mut Child,
    counted: &watch::Sender<usize>,
    stop: &AtomicBool,
) -> Result<Vec<Outcome>> {
    let mut stdin = child.stdin.take().context("stdin")?;
    let mut lines = BufReader::new(child.stdout.take().context("stdout")?).lines();
    let mut outcomes = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let number = outcomes.len();
        stdin.write_all(format!("{number}\n").as_bytes()).await?;
        let line = lines.next_line().await?.context("no more output")?;
        let mut words = line.split(' ');
        outcomes.push(match words.next() {
            Some("ok") => Outcome::Acknowledged,
            Some("failed") => Outcome::Failed,
            Some("unknown") => Outcome::Unknown,
            _ => bail!("not an outcome: {line}"),
        });
        let echoed = words.next().and_then(|word| word.parse().ok());
        ensure!(
            echoed == Some(number),
            "not the outcome of {number}: {line}"
        );
        if outcomes[number] == Outcome::Acknowledged {
            counted.send_modify(|count| *count += 1);
        }
    }
    Ok(outcomes)
}
