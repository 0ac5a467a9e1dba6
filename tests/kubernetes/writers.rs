//! Writers of unique keys, which remember what was answered, and the check that every acknowledged
//! write is where it was acknowledged to be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::TryStreamExt;
use kontiki_client::{Address, Client, Consistency, Error, Range};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// Writers at the same time.
pub const WRITERS: usize = 4;

/// Between two writes of a writer: 250 a second, so that the log of a long scenario fits in memory.
const PACE: Duration = Duration::from_millis(4);

/// Errors that are told, of each writer.
const ERRORS_TOLD_MAX: usize = 3;

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Acknowledged,
    Failed,
    Unknown,
}

/// What one writer did: the outcome of each write in order, and when it was acknowledged.
#[derive(Default)]
struct Diary {
    outcomes: Vec<Outcome>,
    acknowledged: Vec<Instant>,
    errors: Vec<String>,
}

/// Writers under way.
pub struct Writers {
    client: Client,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Result<Diary>>>,
    /// Of each writer: when its last acknowledgement came.
    latest: Vec<watch::Receiver<Option<Instant>>>,
}

/// What all writers did.
pub struct Written {
    client: Client,
    diaries: Vec<Diary>,
}

impl Writers {
    /// Starts them.
    pub fn start(client: &Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (latest, tasks) = (0..WRITERS)
            .map(|writer| {
                let (tell, latest) = watch::channel(None);
                let task = write_until(client.clone(), writer, Arc::clone(&stop), tell);
                (latest, tokio::spawn(task))
            })
            .unzip();
        Writers {
            client: client.clone(),
            stop,
            tasks,
            latest,
        }
    }

    /// Returns once every writer has had an acknowledgement that came after this call.
    pub async fn all_acknowledged(&self, limit: Duration) -> Result<()> {
        let since = Instant::now();
        for latest in &self.latest {
            let mut latest = latest.clone();
            let wait = latest.wait_for(|at| at.is_some_and(|at| at > since));
            match tokio::time::timeout(limit, wait).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => bail!("a writer has ended"),
                Err(_) => bail!(
                    "a writer had no acknowledgement within {} s",
                    limit.as_secs()
                ),
            }
        }
        Ok(())
    }

    /// Lets every writer finish the write that it is at.
    pub async fn stop(self) -> Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        let mut diaries = Vec::new();
        for task in self.tasks {
            diaries.push(task.await.context("a writer panicked")??);
        }
        Ok(Written {
            client: self.client,
            diaries,
        })
    }
}

async fn write_until(
    client: Client,
    writer: usize,
    stop: Arc<AtomicBool>,
    tell: watch::Sender<Option<Instant>>,
) -> Result<Diary> {
    let mut diary = Diary::default();
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let number = diary.outcomes.len();
        let outcome = match client.put(key(writer, number), value(writer, number)).await {
            Ok(_) => {
                let now = Instant::now();
                diary.acknowledged.push(now);
                tell.send_replace(Some(now));
                Outcome::Acknowledged
            }
            Err(error) => {
                if diary.errors.len() < ERRORS_TOLD_MAX {
                    diary.errors.push(error.to_string());
                }
                match error {
                    Error::Failed { .. } => Outcome::Failed,
                    Error::Unknown { .. } => Outcome::Unknown,
                    Error::Invalid { .. } => bail!("writer {writer}: {error}"),
                }
            }
        };
        diary.outcomes.push(outcome);
    }
    Ok(diary)
}

fn key(writer: usize, number: usize) -> String {
    format!("writer-{writer}/{number:08}")
}

fn value(writer: usize, number: usize) -> String {
    format!("value {number} of writer {writer}")
}

impl Written {
    /// The longest time that any one writer waited for its next acknowledgement, of the waits that
    /// touch the given time.
    pub fn longest_gap(&self, from: Instant, to: Instant) -> Duration {
        self.diaries
            .iter()
            .flat_map(|diary| diary.acknowledged.windows(2))
            .filter(|pair| pair[1] >= from && pair[0] <= to)
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap_or(to - from)
    }

    /// Acknowledgements a second in the given time, of the slowest writer.
    pub fn slowest_rate(&self, from: Instant, to: Instant) -> f64 {
        self.diaries
            .iter()
            .map(|diary| {
                diary
                    .acknowledged
                    .iter()
                    .filter(|at| (from..to).contains(at))
                    .count()
            })
            .min()
            .map_or(0.0, |count| count as f64 / (to - from).as_secs_f64())
    }

    /// One line with counts.
    pub fn summary(&self) -> String {
        let count = |outcome| {
            self.diaries
                .iter()
                .flat_map(|diary| &diary.outcomes)
                .filter(|each| **each == outcome)
                .count()
        };
        let errors: Vec<&str> = self
            .diaries
            .iter()
            .flat_map(|diary| &diary.errors)
            .map(String::as_str)
            .collect();
        format!(
            "{} writes acknowledged, {} failed, {} unknown{}{}",
            count(Outcome::Acknowledged),
            count(Outcome::Failed),
            count(Outcome::Unknown),
            if errors.is_empty() {
                ""
            } else {
                "; among the errors: "
            },
            errors.join(" | "),
        )
    }

    /// Reads every key linearizably and compares; answers with the number of keys.
    pub async fn verify_linearizably(&self) -> Result<usize> {
        let found = self.client.range(Range::all(), Consistency::Linearizable);
        self.compare(collect(found).await?)
            .context("read linearizably")
    }

    /// Reads every key from this server only, and compares. It must have caught up.
    pub async fn verify_at(&self, endpoint: &Address) -> Result<usize> {
        let found = self
            .client
            .range_at(endpoint, Range::all(), Consistency::Stale);
        self.compare(collect(found).await?)
            .with_context(|| format!("read from {endpoint}"))
    }

    /// Every acknowledged key is there with its value, no failed one is, and no other either.
    fn compare(&self, mut found: BTreeMap<String, String>) -> Result<usize> {
        let keys = found.len();
        for (writer, diary) in self.diaries.iter().enumerate() {
            for (number, outcome) in diary.outcomes.iter().enumerate() {
                let key = key(writer, number);
                match (outcome, found.remove(&key)) {
                    (Outcome::Acknowledged, None) => bail!("{key} was acknowledged and is lost"),
                    (Outcome::Failed, Some(_)) => {
                        bail!("{key} was said to have failed, and is there")
                    }
                    (_, Some(read)) => ensure!(
                        read == value(writer, number),
                        "{key} has the value '{read}', not '{}'",
                        value(writer, number)
                    ),
                    (Outcome::Failed | Outcome::Unknown, None) => {}
                }
            }
        }
        match found.keys().next() {
            Some(stranger) => bail!("{} keys that nobody wrote, first {stranger}", found.len()),
            None => Ok(keys),
        }
    }
}

async fn collect(mut pages: kontiki_client::Pages) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    while let Some(page) = pages.try_next().await? {
        for pair in page.kvs {
            let key = String::from_utf8_lossy(&pair.key).into_owned();
            ensure!(
                found
                    .insert(
                        key.clone(),
                        String::from_utf8_lossy(&pair.value).into_owned()
                    )
                    .is_none(),
                "{key} came twice in one range"
            );
        }
    }
    Ok(found)
}
