//! The driver with async callers, each with one write in flight.

mod callers;
mod kontiki;
mod machine;
mod openraft;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::rounds::{Contest, Side, rate};

use callers::Callers;
use machine::{Machine, Replica};

/// Callers at a time.
const CALLERS: [usize; 2] = [64, 256];
/// Worker threads of a multi-threaded runtime, as many as the machine that targets are for has cores.
const WORKERS: usize = 2;
/// Interval of heartbeats, on both sides, and the shortest and longest election timeout.
const HEARTBEAT: Duration = Duration::from_millis(100);
const ELECTION_TIMEOUT: [Duration; 2] = [Duration::from_millis(1000), Duration::from_millis(2000)];
/// Electing a leader, and applying what is in flight, take no longer.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// The runtime that everything of one side is on, callers included.
#[derive(Clone, Copy, Debug)]
enum Flavour {
    CurrentThread,
    MultiThread,
}

impl Flavour {
    fn name(self) -> String {
        match self {
            Self::CurrentThread => "one thread".into(),
            Self::MultiThread => format!("{WORKERS} threads"),
        }
    }

    fn start(self) -> Result<Running> {
        let mut builder = match self {
            Self::CurrentThread => Builder::new_current_thread(),
            Self::MultiThread => Builder::new_multi_thread(),
        };
        let runtime = builder.worker_threads(WORKERS).enable_all().build();
        let runtime = runtime.context("make a runtime")?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        std::thread::spawn(move || runtime.block_on(stopped));
        Ok(Running {
            handle,
            _stop: stop,
        })
    }
}

/// A runtime that goes on between legs, so that its servers hear each other meanwhile.
struct Running {
    handle: Handle,
    /// Dropped, it ends.
    _stop: oneshot::Sender<()>,
}

/// Three servers in one runtime.
trait Cluster: Sized {
    type Client: Client;

    /// Starts them with a machine each, and waits for a leader that serves.
    async fn start(machine: Machine) -> Result<Self>;

    /// Writes at the leader.
    fn client(&self) -> Self::Client;

    /// What each has applied.
    fn replicas(&self) -> [Replica; 3];

    /// Ends them; then their states as bytes.
    async fn stop(self) -> Result<Vec<Vec<u8>>>;
}

/// One caller's way to the leader.
trait Client: Clone + Send + 'static {
    /// Answers the machine's reply once the command is committed and applied.
    fn write(&self, command: Bytes) -> impl Future<Output = Result<Vec<u8>>> + Send;
}

/// A cluster under load.
struct Loaded<C: Cluster> {
    runtime: Running,
    cluster: C,
    callers: Callers,
    machine: Machine,
}

impl<C: Cluster> Loaded<C> {
    fn new(callers: usize, machine: Machine, flavour: Flavour) -> Result<Self> {
        let runtime = flavour.start()?;
        let cluster = runtime.handle.block_on(async {
            let start = tokio::time::timeout(PATIENCE, C::start(machine));
            start.await.context("no leader serves")?
        })?;
        Ok(Self {
            runtime,
            cluster,
            callers: Callers::new(callers, machine),
            machine,
        })
    }

    async fn applied_by_all(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let expected = self.callers.answered();
        loop {
            let applied = self.cluster.replicas().map(|replica| replica.applied());
            if applied == [expected; 3] {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{expected} writes were answered, and the servers have applied {applied:?}"
            );
            tokio::time::sleep(POLL).await;
        }
    }
}

impl<C: Cluster> Side for Loaded<C> {
    fn leg(&mut self, warm_up: Duration, measured: Duration) -> Result<f64> {
        self.runtime.handle.block_on(async {
            let running = self.callers.start(&self.cluster.client());
            tokio::time::sleep(warm_up).await;
            let (before, begun) = (self.callers.answered(), Instant::now());
            tokio::time::sleep(measured).await;
            let rate = rate(before, self.callers.answered(), begun);
            let over = tokio::time::timeout(PATIENCE, running.stop());
            over.await.context("the last writes are not answered")??;
            self.applied_by_all().await?;
            Ok(rate)
        })
    }

    fn verify(self: Box<Self>) -> Result<()> {
        let answered = self.callers.answered();
        ensure!(answered > 0, "nothing was written");
        let machine = self.machine;
        let Self {
            runtime, cluster, ..
        } = *self;
        let states = runtime.handle.block_on(cluster.stop())?;
        ensure!(states.len() == 3, "{} states", states.len());
        for state in &states {
            ensure!(*state == states[0], "the servers' states differ");
            machine.check(state, answered)?;
        }
        Ok(())
    }
}

/// One contest for each machine, number of callers, and flavour.
pub fn contests() -> Vec<Contest> {
    let mut contests = Vec::new();
    for flavour in [Flavour::CurrentThread, Flavour::MultiThread] {
        for machine in [Machine::Empty, Machine::Kv] {
            for callers in CALLERS {
                contests.push(contest(callers, machine, flavour));
            }
        }
    }
    contests
}

fn contest(callers: usize, machine: Machine, flavour: Flavour) -> Contest {
    let (what, threads) = (machine.name(), flavour.name());
    Contest {
        name: format!("driver, {what}, {callers} callers, {threads}"),
        rival: "openraft",
        make: [
            Box::new(move || {
                let loaded = Loaded::<kontiki::Kontiki>::new(callers, machine, flavour)?;
                Ok(Box::new(loaded))
            }),
            Box::new(move || {
                let loaded = Loaded::<openraft::OpenRaft>::new(callers, machine, flavour)?;
                Ok(Box::new(loaded))
            }),
        ],
    }
}
