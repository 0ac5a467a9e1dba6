//! Many seeds, on some threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::profile::Profile;
use crate::simulation::{Observer, Outcome, run};
use crate::tally::Tally;

/// Between two lines about how far it is.
const SHOWN_EVERY: Duration = Duration::from_secs(5);

/// Which seeds, of each of some profiles in rotation.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    first: u64,
    /// How many of each; `None`: until the deadline.
    count: Option<u64>,
    deadline: Option<Instant>,
}

impl Seeds {
    /// So many from a first one on.
    pub fn fixed(first: u64, count: u64) -> Self {
        Self {
            first,
            count: Some(count),
            deadline: None,
        }
    }

    /// As many as can be begun until a moment.
    pub fn fresh(first: u64, deadline: Instant) -> Self {
        Self {
            first,
            count: None,
            deadline: Some(deadline),
        }
    }

    /// Whether they are the same in every run.
    pub fn is_fixed(&self) -> bool {
        self.count.is_some()
    }

    fn has(&self, seed: u64) -> bool {
        let is_counted = self.count.is_none_or(|count| seed - self.first < count);
        is_counted
            && self
                .deadline
                .is_none_or(|deadline| Instant::now() < deadline)
    }
}

/// What became of many seeds.
#[derive(Debug, Default)]
pub struct Batch {
    /// Counts of all.
    pub total: Tally,
    /// The failure with the smallest seed.
    pub first_failure: Option<Outcome>,
    /// How many ran.
    pub done: u64,
}

/// Runs them; after a failure no further one is begun.
///
/// Panics if there is no profile.
pub fn run_all(profiles: &[&'static Profile], seeds: &Seeds, jobs: u16) -> Batch {
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let sender = sender.clone();
            scope.spawn(|| {
                let sender = sender;
                while !failed.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed) as usize;
                    let profile = profiles[number % profiles.len()];
                    let seed = seeds.first + (number / profiles.len()) as u64;
                    if !seeds.has(seed) {
                        break;
                    }
                    let outcome = run(seed, profile, &Observer::default());
                    failed.fetch_or(outcome.violation.is_some(), Ordering::Relaxed);
                    if sender.send(outcome).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        collect(receiver)
    })
}

fn collect(receiver: mpsc::Receiver<Outcome>) -> Batch {
    let mut batch = Batch::default();
    let mut shown = Instant::now();
    for outcome in receiver {
        batch.done += 1;
        batch.total.absorb(&outcome.tally);
        let earlier = |found: &Outcome| found.run.seed < outcome.run.seed;
        if outcome.violation.is_some() && !batch.first_failure.as_ref().is_some_and(earlier) {
            batch.first_failure = Some(outcome);
        }
        if shown.elapsed() >= SHOWN_EVERY {
            shown = Instant::now();
            let operations = batch.total.count("client: operation");
            println!("{} seeds, {operations} operations", batch.done);
        }
    }
    batch
}
