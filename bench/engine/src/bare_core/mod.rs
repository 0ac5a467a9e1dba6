//! The bare core: three servers on one thread, batches, no machine.

mod kontiki;
mod raft_rs;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::rounds::{Contest, Side, rate};

/// Bytes of a payload.
const PAYLOAD_BYTES: usize = 256;
/// Entries proposed at once.
const BATCHES: [usize; 3] = [16, 64, 256];
/// Batches in flight.
const BATCHES_IN_FLIGHT: usize = 4;
/// Bytes of entries of one message, on both sides.
const APPEND_BYTES_MAX: usize = 1 << 20;
/// Messages with entries in flight to one server, on both sides.
const APPENDS_MAX: usize = 256;
/// Entries that a server keeps for others when it compacts.
const KEPT_ENTRIES: u64 = 4 << 10;
/// Entries at which it compacts.
const HELD_ENTRIES_MAX: u64 = 64 << 10;
/// Interval of heartbeats, on both sides; an election takes ten of them without any.
const HEARTBEAT: Duration = Duration::from_millis(100);
/// Electing a leader, and committing what is in flight, take no longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Three servers, wired in memory. `now` is the time since they were made.
trait Cluster {
    /// Takes a batch in at the leader.
    fn propose(&mut self, batch: Vec<Vec<u8>>) -> Result<()>;

    /// Has every server take what has come in, and send what it has to.
    fn turn(&mut self, now: Duration) -> Result<()>;

    /// One of them leads, and has committed an entry of its term.
    fn is_led(&self) -> bool;

    /// What each server was handed over, the leader first.
    fn delivered(&self) -> [Delivered; 3];
}

/// Committed payloads that a server was handed over, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Delivered {
    entries: u64,
    /// Of the numbers that the payloads begin with.
    digest: u64,
}

impl Delivered {
    fn take(&mut self, payload: &[u8]) {
        let number = payload.first_chunk().map_or(0, |n| u64::from_le_bytes(*n));
        self.entries += 1;
        self.digest = self.digest.rotate_left(5) ^ number;
    }
}

/// A cluster under load.
struct Loaded<C> {
    cluster: C,
    /// The cluster's time at its last turn. It stands still while the other side has its legs.
    now: Duration,
    /// When that time was 0, had it never stood still.
    begun: Instant,
    batch: usize,
    proposed: Delivered,
}

impl<C: Cluster> Loaded<C> {
    fn new(cluster: C, batch: usize) -> Result<Self> {
        let mut loaded = Self {
            cluster,
            now: Duration::ZERO,
            begun: Instant::now(),
            batch,
            proposed: Delivered::default(),
        };
        while !loaded.cluster.is_led() {
            loaded.turn().context("elect a leader")?;
        }
        Ok(loaded)
    }

    fn turn(&mut self) -> Result<()> {
        self.now = self.begun.elapsed();
        self.cluster.turn(self.now)
    }

    fn batch(&mut self) -> Vec<Vec<u8>> {
        let payload = || {
            let mut payload = vec![0x5a; PAYLOAD_BYTES];
            payload[..8].copy_from_slice(&(self.proposed.entries + 1).to_le_bytes());
            self.proposed.take(&payload);
            payload
        };
        std::iter::repeat_with(payload).take(self.batch).collect()
    }

    /// Keeps as many in flight as may be until it is time. Answers how many are committed on all.
    fn drive(&mut self, until: Instant) -> Result<u64> {
        let in_flight_max = (self.batch * BATCHES_IN_FLIGHT) as u64;
        while Instant::now() < until {
            let answered = self.cluster.delivered()[0].entries;
            while self.proposed.entries + self.batch as u64 - answered <= in_flight_max {
                let batch = self.batch();
                self.cluster.propose(batch)?;
            }
            self.turn()?;
        }
        Ok(self.committed())
    }

    fn committed(&self) -> u64 {
        let delivered = self.cluster.delivered().map(|server| server.entries);
        delivered.into_iter().min().unwrap_or_default()
    }
}

impl<C: Cluster> Side for Loaded<C> {
    fn leg(&mut self, warm_up: Duration, measured: Duration) -> Result<f64> {
        let resumed = Instant::now();
        self.begun = resumed.checked_sub(self.now).unwrap_or(resumed);
        let before = self.drive(resumed + warm_up)?;
        let begun = Instant::now();
        let after = self.drive(begun + measured)?;
        let rate = rate(before, after, begun);
        let deadline = Instant::now() + PATIENCE;
        while self.committed() < self.proposed.entries {
            ensure!(Instant::now() < deadline, "entries are not committed");
            self.turn()?;
        }
        Ok(rate)
    }

    fn verify(self: Box<Self>) -> Result<()> {
        let (expected, delivered) = (self.proposed, self.cluster.delivered());
        ensure!(
            delivered == [expected; 3],
            "{expected:?} was proposed, and the servers were handed {delivered:?}"
        );
        ensure!(expected.entries > 0, "nothing was proposed");
        Ok(())
    }
}

/// One contest for each size of batches.
pub fn contests() -> Vec<Contest> {
    let contest = |batch: usize| Contest {
        name: format!(
            "core, batches of {batch}, {} in flight",
            batch * BATCHES_IN_FLIGHT
        ),
        rival: "raft-rs",
        make: [
            Box::new(move || Ok(Box::new(Loaded::new(kontiki::Kontiki::new(), batch)?))),
            Box::new(move || Ok(Box::new(Loaded::new(raft_rs::RaftRs::new()?, batch)?))),
        ],
    };
    BATCHES.map(contest).into()
}
