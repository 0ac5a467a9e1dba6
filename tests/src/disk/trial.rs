//! One run of the small log over the disk, from one seed: processes that append, sync, read, compact,
//! and end in the middle of it; and after each, what recovery must find.

use std::fmt;

use super::log::{Defect, Log, LogError, Options, Recovered, Snapshot};
use super::{DiskError, Faults, Settings, SimulatedDisk, Stop};
use crate::rng::Rng;
use crate::tally::Tally;
use crate::trace::hash_of;

/// Recoveries in a row that the disk may spoil, before it is left alone.
const SPOILED_RECOVERIES_MAX: u32 = 5;

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Hash of all that happened.
    pub hash: u64,
    /// Counts of what happened.
    pub tally: Tally,
    /// What went wrong, if anything did.
    pub violation: Option<String>,
}

/// Runs a seed.
pub fn run(seed: u64, defect: Option<Defect>, print: bool) -> Outcome {
    let mut trial = Trial::new(seed, defect, print);
    let violation = trial.live().err().map(|Violation(what)| what);
    if let Some(what) = &violation {
        trial.disk.note(format_args!("VIOLATION {what}"));
    }
    let mut tally = trial.tally;
    tally.absorb(&trial.disk.tally);
    Outcome {
        seed,
        hash: trial.disk.trace.hash(),
        tally,
        violation,
    }
}

struct Violation(String);

fn violation<T>(what: impl fmt::Display) -> Result<T, Violation> {
    Err(Violation(what.to_string()))
}

/// What the log must hold.
#[derive(Debug, Default)]
struct Expected {
    /// All that was ever written and may be there: record 1 first. What is before `acknowledged` must.
    records: Vec<Vec<u8>>,
    /// Hash over the records through each.
    sums: Vec<u64>,
    acknowledged: u64,
    snapshot: Snapshot,
}

impl Expected {
    fn push(&mut self, record: &[u8]) {
        let mut bytes = self.sum(self.records.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(record);
        self.sums.push(hash_of(&bytes));
        self.records.push(record.to_vec());
    }

    fn sum(&self, through: u64) -> u64 {
        match through.checked_sub(1) {
            Some(at) => self.sums[at as usize],
            None => 0,
        }
    }

    /// Holds what was found against it; what was found is what there is from here on.
    fn compare(&mut self, found: &Recovered) -> Result<(), Violation> {
        let Snapshot { through, sum } = found.snapshot;
        if through < self.snapshot.through {
            let kept = self.snapshot.through;
            return violation(format!(
                "the snapshot is at {through}, one at {kept} was kept"
            ));
        }
        let first = found.records.first().map_or(through + 1, |record| record.0);
        if first > through + 1 {
            return violation(format!(
                "records begin at {first}, and the snapshot is at {through}"
            ));
        }
        for (at, (index, record)) in found.records.iter().enumerate() {
            if *index != first + at as u64 {
                let due = first + at as u64;
                return violation(format!("record {index} is where {due} should be"));
            }
            if self.records.get(*index as usize - 1) != Some(record) {
                return violation(format!("record {index} was never written there"));
            }
        }
        let last = first - 1 + found.records.len() as u64;
        if last < self.acknowledged {
            let acknowledged = self.acknowledged;
            return violation(format!("ends at {last}, {acknowledged} was acknowledged"));
        }
        if through > last || sum != self.sum(through) {
            return violation(format!(
                "the snapshot at {through} is not of what was written"
            ));
        }
        self.records.truncate(last as usize);
        self.sums.truncate(last as usize);
        self.acknowledged = last;
        self.snapshot = found.snapshot;
        Ok(())
    }
}

struct Trial {
    disk: SimulatedDisk,
    rng: Rng,
    options: Options,
    tally: Tally,
    expected: Expected,
    /// Bits may flip in this run.
    may_rot: bool,
    has_rotted: bool,
    /// Errors come at all in this run.
    may_fail: bool,
    steps: u64,
}

/// Whether the process goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    GoesOn,
    Ended,
}

impl Trial {
    fn new(seed: u64, defect: Option<Defect>, print: bool) -> Self {
        let mut rng = Rng::new(seed);
        let torn_sectors = rng.chance(150);
        let settings = Settings {
            torn_sectors,
            // Two segments and a snapshot, up to some segments.
            capacity: match rng.chance(300) {
                true => rng.within(20 << 10, 64 << 10),
                false => u64::MAX,
            },
        };
        Self {
            disk: SimulatedDisk::new(rng.bits(), settings, print),
            options: Options {
                writes_through: rng.chance(300),
                sectors_are_whole: !torn_sectors,
                defect,
            },
            tally: Tally::default(),
            expected: Expected::default(),
            // With sectors torn, damage at the end is no news.
            may_rot: !torn_sectors && rng.chance(150),
            has_rotted: false,
            may_fail: rng.chance(500),
            steps: rng.within(30, 120),
            rng,
        }
    }

    /// Processes one after the other, and in the end one without faults after a power cut.
    fn live(&mut self) -> Result<(), Violation> {
        while self.steps > 0 {
            let Some(mut log) = self.begin()? else {
                return Ok(());
            };
            while self.steps > 0 && self.step(&mut log)? == Life::GoesOn {
                self.steps -= 1;
            }
            self.disk.restart();
        }
        self.disk.cut_power();
        self.disk.faults = Faults::default();
        let Some(mut log) = self.begin()? else {
            return Ok(());
        };
        // It is as good as new.
        self.append(&mut log)?;
        self.sync(&mut log)?;
        self.disk.cut_power();
        self.begin()?;
        Ok(())
    }

    /// Recovers, over and over while the disk spoils it. `None` if the log refuses, with reason.
    fn begin(&mut self) -> Result<Option<Log>, Violation> {
        let mut spoiled = 0;
        loop {
            match Log::recover(&mut self.disk, self.options) {
                Ok((log, found)) => {
                    self.tally.add("log: recovered");
                    let lost = self.expected.records.len() as u64;
                    self.expected.compare(&found)?;
                    let lost = lost - self.expected.records.len() as u64;
                    self.tally.add_many("log: record of a torn tail", lost);
                    return Ok(Some(log));
                }
                Err(LogError::Damaged(what)) if self.has_rotted => {
                    self.tally.add("log: refused damage");
                    self.disk.note(format_args!("refused: {what}"));
                    return Ok(None);
                }
                Err(LogError::Damaged(what)) => {
                    return violation(format!("refuses, and nothing was damaged: {what}"));
                }
                Err(LogError::Disk(DiskError::Io { .. } | DiskError::Stopped)) => {
                    self.tally.add("log: recovery spoiled");
                    spoiled += 1;
                    self.disk.restart();
                    if spoiled == SPOILED_RECOVERIES_MAX {
                        self.disk.faults = Faults::default();
                    }
                    if spoiled < SPOILED_RECOVERIES_MAX && self.rng.chance(300) {
                        self.stop_soon();
                    }
                }
                Err(error) => return violation(format!("recovery failed: {error:?}")),
            }
        }
    }

    fn step(&mut self, log: &mut Log) -> Result<Life, Violation> {
        match self.rng.below(100) {
            0..45 => self.append(log),
            45..65 => self.sync(log),
            65..75 => self.read(log),
            75..83 => self.compact(log),
            83..93 => {
                self.stop_soon();
                Ok(Life::GoesOn)
            }
            93..97 => {
                self.change_weather();
                Ok(Life::GoesOn)
            }
            _ => {
                if self.may_rot && self.rng.chance(300) {
                    self.has_rotted |= self.disk.flip_bit().is_some();
                }
                Ok(Life::GoesOn)
            }
        }
    }

    fn stop_soon(&mut self) {
        let stop = match self.rng.chance(600) {
            true => Stop::PowerCut,
            false => Stop::Crash,
        };
        self.disk.stop_within(self.rng.within(1, 12), stop);
    }

    fn change_weather(&mut self) {
        let often = |rng: &mut Rng| {
            if rng.chance(400) {
                rng.within(20, 300)
            } else {
                0
            }
        };
        self.disk.faults = Faults {
            slow: often(&mut self.rng),
            ..Faults::default()
        };
        if self.may_fail {
            self.disk.faults.read = often(&mut self.rng);
            self.disk.faults.write = often(&mut self.rng);
            self.disk.faults.sync = often(&mut self.rng);
        }
    }

    fn append(&mut self, log: &mut Log) -> Result<Life, Violation> {
        let count = self.rng.within(1, 4);
        let mut batch = Vec::new();
        for _ in 0..count {
            let len = match self.rng.chance(200) {
                true => self.rng.below(1500),
                false => self.rng.below(100),
            };
            let mut record = self.rng.bits().to_le_bytes().to_vec(); // one of its kind
            record.resize(8 + len as usize, self.rng.bits() as u8 | 1);
            batch.push(record);
        }
        match log.append(&mut self.disk, &batch) {
            Ok(last) => {
                batch.iter().for_each(|record| self.expected.push(record));
                if last != self.expected.records.len() as u64 {
                    return violation(format!("record {last} was appended out of order"));
                }
                self.tally.add("log: batch appended");
                Ok(Life::GoesOn)
            }
            Err(LogError::Refused(_)) => {
                self.tally.add("log: append refused");
                Ok(Life::GoesOn)
            }
            Err(error) => {
                // It may have been written, or a part of it.
                batch.iter().for_each(|record| self.expected.push(record));
                self.failed(&error)
            }
        }
    }

    fn sync(&mut self, log: &mut Log) -> Result<Life, Violation> {
        match log.sync(&mut self.disk) {
            Ok(last) => {
                self.expected.acknowledged = last;
                self.tally.add("log: synced");
                Ok(Life::GoesOn)
            }
            Err(error) => self.failed(&error),
        }
    }

    fn read(&mut self, log: &mut Log) -> Result<Life, Violation> {
        let last = self.expected.records.len() as u64;
        if last == 0 {
            return Ok(Life::GoesOn);
        }
        let index = self.rng.within(1, last);
        match log.read(&mut self.disk, index) {
            Ok(record) if record == self.expected.records[index as usize - 1] => {
                self.tally.add("log: record read");
                Ok(Life::GoesOn)
            }
            Ok(_) => violation(format!("record {index} reads as what was never written")),
            Err(LogError::Disk(DiskError::Io { .. })) => {
                self.tally.add("log: read failed");
                Ok(Life::GoesOn)
            }
            Err(LogError::Refused(_)) if index <= self.expected.snapshot.through => {
                Ok(Life::GoesOn)
            }
            Err(error) => self.failed(&error),
        }
    }

    fn compact(&mut self, log: &mut Log) -> Result<Life, Violation> {
        let last = self.expected.records.len() as u64;
        let through = match self.rng.chance(300) {
            true => last,
            false => self.rng.within(log.snapshot().through, last),
        };
        let snapshot = Snapshot {
            through,
            sum: self.expected.sum(through),
        };
        match log.compact(&mut self.disk, snapshot) {
            Ok(()) => {
                self.expected.snapshot = snapshot;
                self.expected.acknowledged = self.expected.acknowledged.max(through);
                self.tally.add("log: compacted");
                Ok(Life::GoesOn)
            }
            Err(LogError::Refused(_)) => Ok(Life::GoesOn),
            Err(error) => self.failed(&error),
        }
    }

    /// The process ends with an error of the disk: fail-stop.
    fn failed(&mut self, error: &LogError) -> Result<Life, Violation> {
        match error {
            LogError::Disk(DiskError::Io { .. }) => {
                self.tally.add("log: ended by an error");
                Ok(Life::Ended)
            }
            LogError::Disk(DiskError::Stopped) => Ok(Life::Ended),
            LogError::Damaged(_) if self.has_rotted => {
                self.tally.add("log: refused damage");
                Ok(Life::Ended)
            }
            _ => violation(format!("failed: {error:?}")),
        }
    }
}
