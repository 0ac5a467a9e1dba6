//! Concurrent writers of unique keys.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::board::Board;
use super::plan::Plan;
use super::report::Report;
use crate::backoff::Backoff;
use crate::{Client, Error};

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Applied, at this revision.
    Acknowledged {
        /// Revision of the store after the write.
        revision: u64,
    },
    /// Not applied.
    Failed,
    /// May or may not be applied.
    Unknown,
}

/// One write. Times count from the run's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Whose, from 0.
    pub writer: usize,
    /// Which of the writer's, from 0.
    pub sequence: u64,
    /// When it was sent.
    pub start: Duration,
    /// When its outcome was there.
    pub end: Duration,
    /// What became of it.
    pub outcome: Outcome,
}

/// An acknowledged write.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // the names say it
pub struct Acknowledged {
    pub key: Bytes,
    pub value: Bytes,
    pub revision: u64,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// [`Writers::stop`] was called.
    Stopped,
    /// [`Plan::duration`] passed.
    Duration,
    /// [`Plan::operations_max`] was reached.
    Operations,
}

/// A run of writers. Dropping it stops them without waiting.
#[derive(Debug)]
pub struct Writers {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    acknowledged: watch::Receiver<u64>,
    ended: watch::Receiver<Option<Ended>>,
    supervisor: JoinHandle<()>,
}

/// What writers and handle share.
#[derive(Debug)]
struct Shared {
    plan: Plan,
    start: Instant,
    board: Mutex<Board>,
    /// Operations of each writer, in order.
    operations: Vec<Mutex<Vec<Operation>>>,
    /// Operations begun by all writers.
    begun: AtomicU64,
    acknowledged: watch::Sender<u64>,
}

impl Writers {
    /// Starts writers against the servers behind these endpoints (HOST:PORT of client ports).
    /// Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad endpoint or a bad plan.
    pub fn start<S: AsRef<str>>(
        endpoints: impl IntoIterator<Item = S>,
        plan: Plan,
    ) -> Result<Self, Error> {
        let endpoints: Vec<String> = endpoints
            .into_iter()
            .map(|endpoint| endpoint.as_ref().to_owned())
            .collect();
        let options = plan.client.clone();
        Writers::start_with(|_| Client::with_options(&endpoints, options.clone()), plan)
    }

    /// As [`Writers::start`], with a client for each writer, by its number from 0.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad plan, and whatever `client` fails with.
    pub fn start_with(
        client: impl Fn(usize) -> Result<Client, Error>,
        plan: Plan,
    ) -> Result<Self, Error> {
        plan.check()?;
        let clients: Vec<Client> = (0..plan.writers).map(client).collect::<Result<_, _>>()?;
        let (acknowledged, acknowledged_seen) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = watch::channel(None);
        let shared = Arc::new(Shared {
            start: Instant::now(),
            board: Mutex::new(Board::new(plan.writers)),
            operations: (0..plan.writers).map(|_| Mutex::default()).collect(),
            begun: AtomicU64::new(0),
            acknowledged,
            plan,
        });
        let tasks: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(writer, client)| {
                tokio::spawn(Arc::clone(&shared).write(writer, client, stopped.clone()))
            })
            .collect();
        let supervised = Arc::clone(&shared);
        let supervisor = tokio::spawn(async move {
            let mut why = Ended::Stopped;
            for task in tasks {
                if let Ok(ended) = task.await
                    && ended != Ended::Stopped
                {
                    why = ended;
                }
            }
            let now = supervised.start.elapsed();
            supervised.board.lock().expect("no holder panics").end(now);
            end.send_replace(Some(why));
        });
        Ok(Writers {
            shared,
            stop,
            acknowledged: acknowledged_seen,
            ended,
            supervisor,
        })
    }

    /// Begins a section: what follows is reported under this label.
    pub fn mark(&self, label: &str) {
        let now = self.shared.start.elapsed();
        self.shared
            .board
            .lock()
            .expect("no holder panics")
            .mark(label, now);
    }

    /// The run so far.
    pub fn report(&self) -> Report {
        let now = self.shared.start.elapsed();
        self.shared
            .board
            .lock()
            .expect("no holder panics")
            .report(now)
    }

    /// Every write that was acknowledged so far, by writer and sequence.
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        let mut all = Vec::new();
        for operation in self.operations() {
            if let Outcome::Acknowledged { revision } = operation.outcome {
                let key = self.key(&operation);
                let value = self.shared.plan.value(&key);
                all.push(Acknowledged {
                    key: key.into(),
                    value,
                    revision,
                });
            }
        }
        all
    }

    /// Every write that has ended so far, by writer and sequence.
    pub fn operations(&self) -> Vec<Operation> {
        let lists = self.shared.operations.iter();
        lists
            .flat_map(|list| list.lock().expect("no holder panics").clone())
            .collect()
    }

    /// The key of a write.
    pub fn key(&self, operation: &Operation) -> String {
        self.shared.plan.key(operation.writer, operation.sequence)
    }

    /// What all keys of the run begin with.
    pub fn key_prefix(&self) -> &str {
        &self.shared.plan.key_prefix
    }

    /// Waits until this many more writes than now are acknowledged, and says whether they were
    /// within `timeout`.
    pub async fn wait_for_acknowledged(&self, more: u64, timeout: Duration) -> bool {
        let mut acknowledged = self.acknowledged.clone();
        let goal = *acknowledged.borrow() + more;
        let reached = acknowledged.wait_for(|count| *count >= goal);
        matches!(tokio::time::timeout(timeout, reached).await, Ok(Ok(_)))
    }

    /// Waits for the end of a run that [`Plan::duration`] or [`Plan::operations_max`] bounds.
    pub async fn wait(&self) -> Ended {
        let mut ended = self.ended.clone();
        // The supervisor sends before it ends, unless the runtime goes down.
        ended
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|why| *why)
            .unwrap_or(Ended::Stopped)
    }

    /// Stops the writers, waits for their writes in flight, and reports.
    pub async fn stop(&self) -> Report {
        self.stop.send_replace(true);
        self.wait().await;
        self.report()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        // What is in flight ends by itself; nobody is left to hear of it.
        self.supervisor.abort();
    }
}

impl Shared {
    /// One writer, to its end.
    async fn write(
        self: Arc<Self>,
        writer: usize,
        client: Client,
        mut stopped: watch::Receiver<bool>,
    ) -> Ended {
        let interval = self
            .plan
            .rate
            .map(|rate| Duration::from_secs_f64(self.plan.writers as f64 / rate));
        // Writers are spread over the interval, so that they do not write in bursts.
        let offset = interval.map_or(Duration::ZERO, |interval| {
            interval.mul_f64(writer as f64 / self.plan.writers as f64)
        });
        let end = self.plan.duration.map(|duration| self.start + duration);
        let mut backoff = Backoff::new();
        for sequence in 0.. {
            let due = match interval {
                Some(interval) => self.start + offset + interval.mul_f64(sequence as f64),
                None => Instant::now(),
            };
            if let Some(why) = wait_until(due, end, &mut stopped).await {
                return why;
            }
            if self.begun.fetch_add(1, Ordering::Relaxed) >= self.plan.operations_max {
                return Ended::Operations;
            }
            let acknowledged = self.write_one(writer, sequence, &client, due).await;
            if acknowledged {
                backoff = Backoff::new();
            } else {
                let pause = Instant::now() + backoff.pause();
                if let Some(why) = wait_until(pause, end, &mut stopped).await {
                    return why;
                }
            }
        }
        unreachable!("sequences do not end")
    }

    async fn write_one(&self, writer: usize, sequence: u64, client: &Client, due: Instant) -> bool {
        let key = self.plan.key(writer, sequence);
        let value = self.plan.value(&key);
        let start = self.start.elapsed();
        let result = client.put(key, value).await;
        let now = Instant::now();
        let end = now - self.start;
        let (outcome, error) = match result {
            Ok(put) => (
                Outcome::Acknowledged {
                    revision: put.revision,
                },
                None,
            ),
            Err(error @ Error::Unknown { .. }) => (Outcome::Unknown, Some(error.to_string())),
            Err(error) => (Outcome::Failed, Some(error.to_string())),
        };
        let operation = Operation {
            writer,
            sequence,
            start,
            end,
            outcome,
        };
        self.operations[writer]
            .lock()
            .expect("no holder panics")
            .push(operation);
        let count = {
            let mut board = self.board.lock().expect("no holder panics");
            board.score(
                writer,
                outcome,
                end,
                now.saturating_duration_since(due),
                error,
            );
            board.acknowledged()
        };
        let acknowledged = matches!(outcome, Outcome::Acknowledged { .. });
        if acknowledged {
            // Two writers may come here in either order; the count never goes back.
            self.acknowledged
                .send_modify(|seen| *seen = count.max(*seen));
        }
        acknowledged
    }
}

/// Waits until `due`; says why the run is over if it is before.
async fn wait_until(
    due: Instant,
    end: Option<Instant>,
    stopped: &mut watch::Receiver<bool>,
) -> Option<Ended> {
    let over = async {
        match end {
            Some(end) => tokio::time::sleep_until(end).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        _ = stopped.wait_for(|stop| *stop) => Some(Ended::Stopped),
        () = over => Some(Ended::Duration),
        () = tokio::time::sleep_until(due) => None,
    }
}
