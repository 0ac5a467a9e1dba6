//! Callers in closed loops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use super::Client;
use super::machine::Machine;

/// How many, and what they have been answered since they were made.
pub struct Callers {
    count: usize,
    machine: Machine,
    answered: Arc<AtomicU64>,
}

/// Callers that are at it.
pub struct Running {
    stopping: Arc<AtomicBool>,
    tasks: JoinSet<Result<()>>,
}

impl Callers {
    pub fn new(count: usize, machine: Machine) -> Self {
        Self {
            count,
            machine,
            answered: Arc::default(),
        }
    }

    /// Writes that were answered as the machine should.
    pub fn answered(&self) -> u64 {
        self.answered.load(Relaxed)
    }

    /// Starts all of them on the current runtime.
    pub fn start<C: Client>(&self, client: &C) -> Running {
        let stopping = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for caller in 0..self.count {
            let (client, machine) = (client.clone(), self.machine);
            let (stopping, answered) = (stopping.clone(), self.answered.clone());
            tasks.spawn(async move {
                let mut commands = machine.commands(caller);
                while !stopping.load(Relaxed) {
                    let reply = client.write(commands.next()).await?;
                    machine.check_reply(&reply)?;
                    answered.fetch_add(1, Relaxed);
                }
                Ok(())
            });
        }
        Running { stopping, tasks }
    }
}

impl Running {
    /// Waits until the last write of each is answered; fails as the first that failed.
    pub async fn stop(mut self) -> Result<()> {
        self.stopping.store(true, Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a caller panicked")?.context("a caller")?;
        }
        Ok(())
    }
}
