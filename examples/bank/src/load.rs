//! Random transfers by several writers at once, as many as the bank takes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::client::{BankClient, Error, Written};
use crate::history::History;
use crate::machine::Change;

/// A pause after a transfer that failed or whose outcome is not known.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Writers at the same time, each with a client of its own.
    pub writers: usize,
    /// Accounts to transfer between; at least two.
    pub accounts: Vec<String>,
    /// The largest amount of a transfer.
    pub amount_max: u64,
    /// Each writer begins a transfer no sooner than this after its last one.
    pub interval: Duration,
    /// Each writer ends after this many transfers; each is remembered.
    pub transfers_max: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            writers: 4,
            accounts: Vec::new(),
            amount_max: 10,
            interval: Duration::ZERO,
            transfers_max: 1_000_000,
        }
    }
}

/// Writers under way. Dropped, they end at once.
#[derive(Debug)]
pub struct Load {
    history: Arc<Mutex<History>>,
    made: watch::Receiver<usize>,
    stop: watch::Sender<bool>,
    writers: JoinSet<()>,
}

struct Writer {
    client: BankClient,
    plan: Plan,
    history: Arc<Mutex<History>>,
    made: Arc<watch::Sender<usize>>,
    stopped: watch::Receiver<bool>,
}

impl Load {
    /// Starts writers against the servers behind these endpoints.
    ///
    /// # Errors
    /// An endpoint is no HOST:PORT.
    pub fn start<S: AsRef<str>>(endpoints: &[S], plan: &Plan) -> Result<Self, Error> {
        assert!(plan.accounts.len() >= 2, "a transfer needs two accounts");
        let history = Arc::new(Mutex::new(History::default()));
        let (sender, made) = watch::channel(0);
        let sender = Arc::new(sender);
        let (stop, stopped) = watch::channel(false);
        let mut writers = JoinSet::new();
        for _ in 0..plan.writers {
            let writer = Writer {
                client: BankClient::new(endpoints)?,
                plan: plan.clone(),
                history: Arc::clone(&history),
                made: Arc::clone(&sender),
                stopped: stopped.clone(),
            };
            writers.spawn(writer.run());
        }
        Ok(Self {
            history,
            made,
            stop,
            writers,
        })
    }

    /// Waits until this many more transfers than now are made; whether they were within `limit`.
    pub async fn wait_for(&self, more: usize, limit: Duration) -> bool {
        let mut made = self.made.clone();
        let goal = *made.borrow() + more;
        let reached = made.wait_for(|count| *count >= goal);
        matches!(timeout(limit, reached).await, Ok(Ok(_)))
    }

    /// What became of the transfers so far.
    pub fn history(&self) -> History {
        self.history.lock().expect("no holder panics").clone()
    }

    /// Waits until every writer has made as many transfers as it may.
    pub async fn wait(&mut self) {
        while self.writers.join_next().await.is_some() {}
    }

    /// Stops the writers once the transfers in flight have ended; what became of all.
    pub async fn stop(mut self) -> History {
        self.stop.send_replace(true);
        self.wait().await;
        self.history()
    }
}

impl Writer {
    async fn run(mut self) {
        for _ in 0..self.plan.transfers_max {
            let due = Instant::now() + self.plan.interval;
            let outcome = self.client.write(&random_transfer(&self.plan)).await;
            let pause = match outcome {
                Ok(_) => Duration::ZERO,
                Err(_) => PAUSE_MAX.mul_f64(rand::random()),
            };
            self.record(outcome);
            let due = due.max(Instant::now() + pause);
            let stopped = self.stopped.wait_for(|stop| *stop);
            if timeout_at(due, stopped).await.is_ok() {
                return;
            }
        }
    }

    fn record(&self, outcome: Result<Written, Error>) {
        let mut history = self.history.lock().expect("no holder panics");
        match outcome {
            Ok(written) => history.acknowledge(&written),
            Err(error) => {
                match error.is_unknown() {
                    true => history.unknown += 1,
                    false => history.failed += 1,
                }
                history.last_error = Some(error.to_string());
            }
        }
        self.made.send_replace(history.made.len());
    }
}

fn random_transfer(plan: &Plan) -> Change {
    let accounts = plan.accounts.len();
    let from = rand::random_range(0..accounts);
    let to = (from + rand::random_range(1..accounts)) % accounts;
    Change::Transfer {
        from: plan.accounts[from].clone(),
        to: plan.accounts[to].clone(),
        amount: rand::random_range(1..=plan.amount_max),
    }
}
