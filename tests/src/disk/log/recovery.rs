//! Recovery: what a process finds that begins.

use std::collections::BTreeMap;

use super::block::{self, Block, Found};
use super::{
    Batch, Defect, FOLDER, Log, LogError, Options, SEGMENT_BLOCKS, SNAPSHOT, Segment, Snapshot,
    path,
};
use crate::disk::{Disk, DiskError, SECTOR};
use crate::trace::hash_of;

/// What was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Of the state.
    pub snapshot: Snapshot,
    /// The records held, each with its index.
    pub records: Vec<(u64, Vec<u8>)>,
}

impl Log {
    /// Opens the log, or begins one on an empty disk. `Damaged` if something is missing that was synced;
    /// other errors are of the disk, and it may be tried again by another process.
    pub fn recover(disk: &mut impl Disk, options: Options) -> Result<(Self, Recovered), LogError> {
        let names = prepare(disk)?;
        let snapshot = read_snapshot(disk, &names)?;
        let mut log = Self {
            options,
            snapshot,
            segments: Vec::new(),
            used: SEGMENT_BLOCKS,
            batches: BTreeMap::new(),
            written: (0, 0),
            synced: (0, 0),
            is_broken: false,
        };
        let mut records = Vec::new();
        let mut scan = Scan::default();
        for name in names.iter().filter(|name| name.ends_with(".log")) {
            let (batch, first) = parse(name).ok_or_else(|| damaged(name, "not a name"))?;
            // Whoever made this segment had synced all that was before.
            scan.synced = scan.synced.max(batch - 1);
            let file = disk.open(&path(name))?;
            let mut content = vec![0; SEGMENT_BLOCKS * SECTOR];
            match disk.read(file, 0, &mut content) {
                Err(DiskError::Io { .. }) if options.has(Defect::TakesReadErrorForTheEnd) => {}
                Err(DiskError::PastEnd { .. }) => return Err(damaged(name, "too short")),
                read => read?,
            }
            if log.segments.is_empty() || options.has(Defect::AcceptsGap) {
                log.written = (batch - 1, first - 1);
            }
            let name = name.clone();
            log.segments.push(Segment { file, name, first });
            log.used = 0;
            scan.blocks(&content, &options)?;
            records.extend(log.take(&scan)?);
        }
        log.judge(&scan)?;
        log.settle(disk)?;
        Ok((log, Recovered { snapshot, records }))
    }

    /// Goes on through the batches of a segment as far as they are whole and follow each other.
    fn take(&mut self, scan: &Scan) -> Result<Vec<(u64, Vec<u8>)>, LogError> {
        let mut records = Vec::new();
        let segment = self.segments.last().expect("just found");
        while let Some((block, blocks)) = scan.found.get(&(self.written.0 + 1)) {
            let is_torn = blocks.iter().any(Option::is_none);
            if is_torn && self.has(Defect::RefusesTornTail) {
                return Err(damaged(&segment.name, "torn"));
            }
            if is_torn && !self.has(Defect::AcceptsTornTail) {
                break;
            }
            let mut bytes = Vec::new();
            let mut index = self.written.1 + 1;
            for block in blocks {
                match block {
                    Some(block) => bytes.extend_from_slice(&block.payload),
                    None => bytes.resize(bytes.len() + block::PAYLOAD, 0),
                }
            }
            let is_next = blocks.iter().flatten().all(|block| block.index == index);
            let held = match block::records(&bytes) {
                Some(held) if is_next => held,
                _ => return Err(damaged(&segment.name, "not what was written")),
            };
            let batch = Batch {
                file: segment.file,
                block: *block,
                blocks: blocks.len(),
                index,
            };
            self.batches.insert(self.written.0 + 1, batch);
            self.used = block + blocks.len();
            for record in held {
                records.push((index, record));
                index += 1;
            }
            self.written = (self.written.0 + 1, index - 1);
        }
        self.synced = self.written;
        Ok(records)
    }

    /// Refuses a log that lacks what was synced, or what the snapshot says.
    fn judge(&self, scan: &Scan) -> Result<(), LogError> {
        let through = self.snapshot.through;
        let (batch, last) = self.written;
        if batch < scan.synced && !self.has(Defect::AcceptsGap) {
            let synced = scan.synced;
            return Err(LogError::Damaged(format!(
                "ends at batch {batch}, and {synced} was synced"
            )));
        }
        if last < through {
            return Err(LogError::Damaged(format!(
                "ends at record {last}, and the snapshot is at {through}"
            )));
        }
        let first = self.segments.first().map_or(1, |segment| segment.first);
        if first > through + 1 && !self.has(Defect::CompactsAhead) {
            return Err(LogError::Damaged(format!(
                "begins at record {first}, and the snapshot is at {through}"
            )));
        }
        Ok(())
    }

    /// Writes the last segment as it was read: what a failed sync may have left in the cache alone is
    /// on the medium after this, and what is behind the end is gone.
    fn settle(&mut self, disk: &mut impl Disk) -> Result<(), LogError> {
        let Some(segment) = self.segments.last() else {
            return self.roll(disk);
        };
        let mut content = vec![0; self.used * SECTOR];
        disk.read(segment.file, 0, &mut content)?;
        if !self.has(Defect::LeavesTornTail) {
            content.resize(SEGMENT_BLOCKS * SECTOR, 0);
        }
        disk.write(segment.file, 0, &content)?;
        disk.sync(segment.file)?;
        Ok(())
    }
}

/// The blocks that were found.
#[derive(Debug, Default)]
struct Scan {
    /// By batch: the first block of it, and all that it should have.
    found: BTreeMap<u64, (usize, Vec<Option<Block>>)>,
    /// The last batch that somebody knew to be synced.
    synced: u64,
}

impl Scan {
    fn blocks(&mut self, content: &[u8], options: &Options) -> Result<(), LogError> {
        let is_checked = !options.has(Defect::BelievesFlippedBits);
        for (at, sector) in content.chunks(SECTOR).enumerate() {
            match block::decode(sector, is_checked) {
                Found::Nothing => {}
                Found::Damaged if options.sectors_are_whole => {
                    return Err(LogError::Damaged(format!("block {at}")));
                }
                Found::Damaged => {}
                Found::Whole(block) => {
                    self.synced = self.synced.max(block.synced);
                    let (position, count) = (block.position.into(), block.blocks.into());
                    let start = at.saturating_sub(position);
                    let batch = self.found.entry(block.batch);
                    let (_, blocks) = batch.or_insert_with(|| (start, vec![None; count]));
                    if let Some(place) = blocks.get_mut(position) {
                        *place = Some(block);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The folder, with what an earlier process left half made taken away; the names in it.
fn prepare(disk: &mut impl Disk) -> Result<Vec<String>, LogError> {
    match disk.create_folder(FOLDER) {
        Ok(()) | Err(DiskError::Exists(_)) => {}
        Err(error) => return Err(error.into()),
    }
    // Also if they were there: the process that made them may have died before it synced them.
    disk.sync_folder("")?;
    let mut names = disk.list(FOLDER)?;
    for name in names.extract_if(.., |name| name.ends_with(".new")) {
        disk.remove(&path(&name))?;
    }
    disk.sync_folder(FOLDER)?;
    Ok(names)
}

fn read_snapshot(disk: &mut impl Disk, names: &[String]) -> Result<Snapshot, LogError> {
    if !names.iter().any(|name| path(name) == SNAPSHOT) {
        return Ok(Snapshot::default());
    }
    let file = disk.open(SNAPSHOT)?;
    let mut content = [0; 24];
    match disk.read(file, 0, &mut content) {
        Err(DiskError::PastEnd { .. }) => return Err(damaged(SNAPSHOT, "too short")),
        read => read?,
    }
    let word = |at: usize| u64::from_le_bytes(content[at..at + 8].try_into().expect("8 bytes"));
    if word(16) != hash_of(&content[..16]) {
        return Err(damaged(SNAPSHOT, "not what was written"));
    }
    Ok(Snapshot {
        through: word(0),
        sum: word(8),
    })
}

fn parse(name: &str) -> Option<(u64, u64)> {
    let (batch, first) = name.strip_suffix(".log")?.split_once('-')?;
    let (batch, first) = (batch.parse().ok()?, first.parse().ok()?);
    (batch > 0 && first > 0).then_some((batch, first))
}

fn damaged(name: &str, how: &str) -> LogError {
    LogError::Damaged(format!("{name}: {how}"))
}
