//! A small append-only log, right on this disk, and wrong on request.
//!
//! Segments of a fixed size are filled with zeros and synced before they get their names, which say the
//! first batch and the first record in them: `00000005-00000012.log`. A batch is blocks of one sector.
//! Each block says which batch was synced when it was written: so recovery knows of each batch that is
//! missing whether it may be.
//!
//! 1. Records are acknowledged by [`Log::sync`], after their blocks are synced, and never before.
//! 2. A write or sync that failed ends the log: what is on the medium is not known, and a second sync
//!    tells nothing. Recovery writes the last segment anew before it believes it.
//! 3. A segment begins once all before it is synced: only the last one can be torn.
//! 4. The snapshot is written after the records that it covers, and records are removed after the
//!    snapshot; segments from the oldest on, each synced before the next.
//! 5. Recovery cuts off what did not arrive, and erases it. It refuses what was there and is not any
//!    more.

mod block;
mod defect;
mod recovery;

use std::collections::BTreeMap;
use std::fmt;

use block::Block;
pub use defect::Defect;
pub use recovery::Recovered;

use super::{Disk, DiskError, Handle, SECTOR};
use crate::trace::hash_of;

const FOLDER: &str = "log";
const SNAPSHOT: &str = "log/snapshot";
/// Blocks of a segment.
const SEGMENT_BLOCKS: usize = 16;

/// How a log works.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Writes through, batch by batch, instead of syncing.
    pub writes_through: bool,
    /// The disk never leaves a sector half written: what is neither a block nor empty is damage. If not,
    /// it may also be a torn tail, and damage in what was last synced cannot be told from that.
    pub sectors_are_whole: bool,
    /// What it gets wrong.
    pub defect: Option<Defect>,
}

/// What a state machine keeps, as far as this log is concerned: where it is, and a hash over all records
/// up to there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The last record that it covers; 0 for none.
    pub through: u64,
    /// Hash over all of them.
    pub sum: u64,
}

/// Where a batch is.
#[derive(Clone, Copy, Debug)]
struct Batch {
    file: Handle,
    block: usize,
    blocks: usize,
    /// Of its first record.
    index: u64,
}

#[derive(Clone, Debug)]
struct Segment {
    file: Handle,
    name: String,
    /// Of the first record in it, or to come.
    first: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Log {
    options: Options,
    snapshot: Snapshot,
    /// Oldest first; never empty.
    segments: Vec<Segment>,
    /// Blocks that are used of the last one.
    used: usize,
    /// Of every batch held.
    batches: BTreeMap<u64, Batch>,
    /// The last batch and record that were written, and that were synced.
    written: (u64, u64),
    synced: (u64, u64),
    is_broken: bool,
}

/// Why the log does not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogError {
    /// *Failed*: it does not fit, or is not there. The log goes on.
    Refused(&'static str),
    /// *Unknown*: the disk failed, and the log with it, unless it was only a read.
    Disk(DiskError),
    /// What was there is not there any more.
    Damaged(String),
}

impl From<DiskError> for LogError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Disk(_) => write!(f, "the disk failed"),
            Self::Damaged(what) => write!(f, "damaged: {what}"),
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Disk(error) => Some(error),
            Self::Refused(_) | Self::Damaged(_) => None,
        }
    }
}

impl Log {
    /// Writes a batch of records; answers the index of the last. They are there once [`Log::sync`] says
    /// so. `Disk`: some of them may be there after a recovery, from the first on.
    pub fn append(&mut self, disk: &mut impl Disk, records: &[Vec<u8>]) -> Result<u64, LogError> {
        self.check()?;
        let mut bytes = Vec::new();
        for record in records {
            block::push_record(&mut bytes, record);
        }
        let blocks = block::blocks_for(bytes.len());
        if blocks == 0 || blocks > SEGMENT_BLOCKS {
            return Err(LogError::Refused("a batch is up to a segment"));
        }
        if self.used + blocks > SEGMENT_BLOCKS {
            self.roll(disk)?;
        }
        let header = Block {
            batch: self.written.0 + 1,
            index: self.written.1 + 1,
            synced: self.synced.0,
            position: 0,
            blocks: blocks as u16,
            payload: Vec::new(),
        };
        let encoded = block::encode(&header, &bytes);
        let file = self.segments.last().expect("never empty").file;
        let offset = (self.used * SECTOR) as u64;
        let written = match self.options.writes_through {
            true => disk.write_synced(file, offset, &encoded),
            false => disk.write(file, offset, &encoded),
        };
        self.or_break(written)?;
        let batch = Batch {
            file,
            block: self.used,
            blocks,
            index: header.index,
        };
        self.batches.insert(header.batch, batch);
        self.used += blocks;
        self.written = (header.batch, self.written.1 + records.len() as u64);
        if self.options.writes_through {
            self.synced = self.written;
        }
        Ok(self.written.1)
    }

    /// Waits until all that was appended is on the medium; answers the index of the last record, which
    /// is acknowledged by that.
    pub fn sync(&mut self, disk: &mut impl Disk) -> Result<u64, LogError> {
        self.check()?;
        if self.has(Defect::AcknowledgesBeforeSync) {
            return Ok(self.written.1);
        }
        if self.synced != self.written {
            let file = self.segments.last().expect("never empty").file;
            let mut synced = disk.sync(file);
            if synced.is_err() && self.has(Defect::RetriesFailedSync) {
                synced = disk.sync(file);
            }
            self.or_break(synced)?;
            self.synced = self.written;
        }
        Ok(self.synced.1)
    }

    /// A record that is not compacted, from the disk.
    pub fn read(&self, disk: &mut impl Disk, index: u64) -> Result<Vec<u8>, LogError> {
        let holds = |(_, batch): &(&u64, &Batch)| batch.index <= index;
        let batch = self.batches.iter().rev().find(holds);
        let (number, batch) = batch.ok_or(LogError::Refused("the record is compacted"))?;
        let mut sectors = vec![0; batch.blocks * SECTOR];
        match disk.read(batch.file, (batch.block * SECTOR) as u64, &mut sectors) {
            Err(DiskError::Io { .. }) if self.has(Defect::TakesReadErrorForTheEnd) => {}
            read => read?,
        }
        let mut bytes = Vec::new();
        for sector in sectors.chunks(SECTOR) {
            match block::decode(sector, !self.has(Defect::BelievesFlippedBits)) {
                block::Found::Whole(block) => bytes.extend_from_slice(&block.payload),
                _ if self.has(Defect::TakesReadErrorForTheEnd) => {}
                _ => return Err(LogError::Damaged(format!("batch {number}"))),
            }
        }
        let records = block::records(&bytes).unwrap_or_default();
        let at = (index - batch.index) as usize;
        let record = records.get(at).cloned();
        if record.is_none() && self.has(Defect::TakesReadErrorForTheEnd) {
            return Ok(Vec::new());
        }
        record.ok_or(LogError::Refused("there is no such record"))
    }

    /// Keeps the snapshot of a state that holds all records through `snapshot.through`, and removes
    /// segments that hold nothing else.
    pub fn compact(&mut self, disk: &mut impl Disk, snapshot: Snapshot) -> Result<(), LogError> {
        self.check()?;
        if !self.has(Defect::SnapshotsAhead) {
            self.sync(disk)?;
        }
        if self.has(Defect::CompactsAhead) {
            self.remove_through(disk, snapshot.through)?;
        }
        let mut content = Vec::new();
        content.extend_from_slice(&snapshot.through.to_le_bytes());
        content.extend_from_slice(&snapshot.sum.to_le_bytes());
        content.extend_from_slice(&hash_of(&content).to_le_bytes());
        self.make(disk, SNAPSHOT, &content)?;
        let synced = disk.sync_folder(FOLDER);
        self.or_break(synced)?;
        self.snapshot = snapshot;
        self.remove_through(disk, snapshot.through)
    }

    /// What the last snapshot was.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot
    }

    fn remove_through(&mut self, disk: &mut impl Disk, through: u64) -> Result<(), LogError> {
        let is_unordered = self.has(Defect::RemovesInNoOrder) || self.has(Defect::AcceptsGap);
        while self
            .segments
            .get(1)
            .is_some_and(|next| next.first <= through + 1)
        {
            let gone = self.segments.remove(0);
            let next = self.segments[0].first;
            self.batches.retain(|_, batch| batch.index >= next);
            let removed = disk.remove(&path(&gone.name));
            self.or_break(removed)?;
            if !is_unordered {
                let synced = disk.sync_folder(FOLDER);
                self.or_break(synced)?;
            }
        }
        Ok(())
    }

    /// Begins a segment after the last one.
    fn roll(&mut self, disk: &mut impl Disk) -> Result<(), LogError> {
        self.sync(disk)?;
        let (batch, first) = (self.written.0 + 1, self.written.1 + 1);
        let name = format!("{batch:08}-{first:08}.log");
        let file = self.make(disk, &path(&name), &[0; SEGMENT_BLOCKS * SECTOR])?;
        if !self.has(Defect::RenamesWithoutFolderSync) {
            let synced = disk.sync_folder(FOLDER);
            self.or_break(synced)?;
        }
        self.segments.push(Segment { file, name, first });
        self.used = 0;
        Ok(())
    }

    /// A file with this content, whole, under its name, which is not synced yet.
    fn make(&mut self, disk: &mut impl Disk, name: &str, bytes: &[u8]) -> Result<Handle, LogError> {
        let new = format!("{name}.new");
        let file = disk.create(&new);
        let file = self.or_break(file)?;
        match disk.write(file, 0, bytes) {
            Err(DiskError::NoSpace) => {
                let removed = disk.remove(&new);
                self.or_break(removed)?;
                return Err(LogError::Refused("the disk is full"));
            }
            written => self.or_break(written)?,
        }
        let synced = disk.sync(file);
        self.or_break(synced)?;
        let renamed = disk.rename(&new, name);
        self.or_break(renamed)?;
        Ok(file)
    }

    fn check(&self) -> Result<(), LogError> {
        match self.is_broken {
            true => Err(LogError::Refused("the disk failed before")),
            false => Ok(()),
        }
    }

    /// Whatever the disk failed at: the log does nothing more.
    fn or_break<T>(&mut self, result: Result<T, DiskError>) -> Result<T, LogError> {
        self.is_broken |= result.is_err();
        Ok(result?)
    }

    fn has(&self, defect: Defect) -> bool {
        self.options.has(defect)
    }
}

impl Options {
    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }
}

fn path(name: &str) -> String {
    format!("{FOLDER}/{name}")
}
