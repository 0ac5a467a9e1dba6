//! A file between page cache and medium: of every sector, and of the length, the versions since it was
//! last synced.

use super::SECTOR;
use crate::rng::Rng;

/// Versions of one sector that are kept apart; of more, the oldest is a version that never arrived.
const VERSIONS_MAX: usize = 8;

pub(super) type Sector = [u8; SECTOR];

/// Something that reaches the medium whole.
///
/// Invariant: `cached` is the last of `unsynced`, if there is one.
#[derive(Clone, Debug)]
pub(super) struct Cell<T> {
    durable: T,
    cached: T,
    /// Written since it was last synced, each with the number of its write.
    unsynced: Vec<(u64, T)>,
}

impl<T: Copy + PartialEq> Cell<T> {
    fn new(value: T) -> Self {
        Self {
            durable: value,
            cached: value,
            unsynced: Vec::new(),
        }
    }

    fn set(&mut self, number: u64, value: T) {
        if self.unsynced.len() == VERSIONS_MAX {
            self.unsynced.remove(0);
        }
        self.unsynced.push((number, value));
        self.cached = value;
    }

    fn sync(&mut self) {
        if let Some((_, last)) = self.unsynced.pop() {
            self.durable = last;
            self.unsynced.clear();
        }
    }

    fn is_dirty(&self) -> bool {
        !self.unsynced.is_empty()
    }

    /// Chooses what is on the medium: the newest version `arrival` times in a thousand, else any older
    /// one.
    fn settle(&mut self, rng: &mut Rng, arrival: u64, fates: &mut Fates) {
        let Some(((last, newest), older)) = self.unsynced.split_last() else {
            return;
        };
        let (last, newest) = (*last, *newest);
        if rng.chance(arrival) {
            self.durable = newest;
            fates.arrived.push(last);
        } else {
            let at = rng.index(older.len() + 1);
            if let Some(at) = at.checked_sub(1) {
                self.durable = older[at].1;
                fates.arrived.push(older[at].0);
            }
            fates.lost.push(last);
        }
        self.unsynced.clear();
    }

    /// Reads see the medium again.
    fn evict(&mut self) {
        self.cached = self.durable;
    }
}

/// Numbers of the writes of which something arrived, and of those of which something was lost.
#[derive(Debug, Default)]
pub(super) struct Fates {
    pub(super) arrived: Vec<u64>,
    pub(super) lost: Vec<u64>,
}

impl Fates {
    /// Whether something arrived before something that was written earlier.
    pub(super) fn is_reordered(&self) -> bool {
        match (self.lost.iter().min(), self.arrived.iter().max()) {
            (Some(lost), Some(arrived)) => lost < arrived,
            _ => false,
        }
    }

    /// Whether a write arrived in part.
    pub(super) fn is_torn(&self) -> bool {
        self.lost.iter().any(|number| self.arrived.contains(number))
    }
}

/// The content of a file.
#[derive(Clone, Debug)]
pub(super) struct File {
    sectors: Vec<Cell<Sector>>,
    len: Cell<u64>,
}

impl File {
    pub(super) fn empty() -> Self {
        Self {
            sectors: Vec::new(),
            len: Cell::new(0),
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len.cached
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.len.is_dirty() || self.sectors.iter().any(Cell::is_dirty)
    }

    pub(super) fn read(&self, offset: u64, into: &mut [u8]) {
        let start = offset as usize;
        let mut at = 0;
        while at < into.len() {
            let (sector, from) = ((start + at) / SECTOR, (start + at) % SECTOR);
            let taken = (SECTOR - from).min(into.len() - at);
            into[at..at + taken].copy_from_slice(&self.sectors[sector].cached[from..from + taken]);
            at += taken;
        }
    }

    pub(super) fn write(&mut self, number: u64, offset: u64, bytes: &[u8]) {
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        let needed = end.div_ceil(SECTOR).max(self.sectors.len());
        self.sectors.resize(needed, Cell::new([0; SECTOR]));
        let mut at = start;
        while at < end {
            let (sector, from) = (at / SECTOR, at % SECTOR);
            let taken = (SECTOR - from).min(end - at);
            let cell = &mut self.sectors[sector];
            let mut content = cell.cached;
            content[from..from + taken].copy_from_slice(&bytes[at - start..at - start + taken]);
            cell.set(number, content);
            at += taken;
        }
        if end as u64 > self.len.cached {
            self.len.set(number, end as u64);
        }
    }

    pub(super) fn sync(&mut self) {
        self.sectors.iter_mut().for_each(Cell::sync);
        self.len.sync();
    }

    /// Only what these bytes are in, and the length.
    pub(super) fn sync_range(&mut self, offset: u64, bytes: usize) {
        if bytes > 0 {
            let (start, end) = (offset as usize, offset as usize + bytes - 1);
            let touched = &mut self.sectors[start / SECTOR..=end / SECTOR];
            touched.iter_mut().for_each(Cell::sync);
        }
        self.len.sync();
    }

    /// A sync that fails: some of it arrived, all of it counts as clean. Of what was lost the cache
    /// keeps the new content, or drops it.
    pub(super) fn fail_to_sync(&mut self, rng: &mut Rng) {
        let mut fates = Fates::default();
        let arrival = rng.below(1001);
        let is_evicted = rng.chance(500);
        for cell in &mut self.sectors {
            let was_dirty = cell.is_dirty();
            cell.settle(rng, arrival, &mut fates);
            if was_dirty && is_evicted {
                cell.evict();
            }
        }
        // The length is of the journal, which did not fail.
        self.len.sync();
    }

    /// The power goes. Answers whether some sector is half old, half new.
    pub(super) fn lose_power(
        &mut self,
        rng: &mut Rng,
        arrival: u64,
        is_tearing: bool,
        fates: &mut Fates,
    ) -> bool {
        let mut is_torn = false;
        for cell in &mut self.sectors {
            let old = cell.durable;
            cell.settle(rng, arrival, fates);
            if is_tearing && cell.durable != old && rng.chance(200) {
                let at = rng.within(1, SECTOR as u64 - 1) as usize;
                cell.durable[at..].copy_from_slice(&old[at..]);
                is_torn = true;
            }
            cell.evict();
        }
        self.len.settle(rng, arrival, fates);
        self.len.evict();
        let sectors = (self.len.durable as usize).div_ceil(SECTOR);
        // What is past the end is nowhere; within the end, what did not arrive is zeros.
        self.sectors.truncate(sectors);
        self.sectors.resize(sectors, Cell::new([0; SECTOR]));
        if let Some(last) = self.sectors.last_mut() {
            let used = self.len.durable as usize - (sectors - 1) * SECTOR;
            last.durable[used..].fill(0);
            last.evict();
        }
        is_torn
    }

    /// Sectors that are as the medium has them.
    pub(super) fn clean_sectors(&self) -> Vec<usize> {
        let cells = self.sectors.iter().enumerate();
        let clean = cells.filter(|(_, cell)| !cell.is_dirty());
        clean.map(|(at, _)| at).collect()
    }

    /// Changes one bit of a clean sector on the medium, which is read from there the next time.
    pub(super) fn flip(&mut self, sector: usize, bit: usize) {
        let cell = &mut self.sectors[sector];
        cell.durable[bit / 8] ^= 1 << (bit % 8);
        cell.evict();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(file: &File) -> Vec<u8> {
        let mut content = vec![0; file.len() as usize];
        file.read(0, &mut content);
        content
    }

    #[test]
    fn what_is_synced_stays_and_of_the_rest_every_subset_of_sectors_occurs() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let mut file = File::empty();
            file.write(1, 0, &[1; 3 * SECTOR]);
            file.sync();
            file.write(2, SECTOR as u64, &[2; 2 * SECTOR]);
            file.lose_power(&mut rng, 500, false, &mut Fates::default());
            let content = content(&file);
            assert_eq!(content[..SECTOR], [1; SECTOR]);
            let sector = |at: usize| {
                let sector = &content[at * SECTOR..(at + 1) * SECTOR];
                assert!(sector.iter().all(|byte| *byte == sector[0]), "torn");
                sector[0]
            };
            seen.insert((sector(1), sector(2)));
        }
        let all = [(1, 1), (1, 2), (2, 1), (2, 2)];
        assert!(seen.into_iter().eq(all));
    }

    #[test]
    fn an_older_version_may_arrive_and_a_longer_file_may_be_zeros() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let mut file = File::empty();
            file.write(1, 0, &[1; 10]);
            file.write(2, 0, &[2; 20]);
            let mut fates = Fates::default();
            file.lose_power(&mut rng, 500, false, &mut fates);
            let content = content(&file);
            seen.insert((content.len(), content.first().copied()));
        }
        let all = [(0, None), (10, Some(0)), (10, Some(1)), (10, Some(2))];
        assert!(all.iter().all(|one| seen.contains(one)), "{seen:?}");
        assert!(seen.contains(&(20, Some(0))) && seen.contains(&(20, Some(2))));
    }

    #[test]
    fn a_failed_sync_takes_all_for_clean_and_the_next_one_saves_nothing() {
        let mut lost = 0;
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let mut file = File::empty();
            file.write(1, 0, &[1; SECTOR]);
            file.sync();
            file.write(2, 0, &[2; SECTOR]);
            file.fail_to_sync(&mut rng);
            assert!(!file.is_dirty());
            let cached = content(&file)[0];
            file.sync();
            file.lose_power(&mut rng, 1000, false, &mut Fates::default());
            lost += u64::from(cached == 2 && content(&file)[0] == 1);
        }
        assert!(
            lost > 20,
            "read as written and lost all the same: {lost} of 200"
        );
    }

    #[test]
    fn a_synced_write_syncs_no_other() {
        let mut rng = Rng::new(1);
        let mut file = File::empty();
        file.write(1, 0, &[1; 2 * SECTOR]);
        file.write(2, SECTOR as u64, &[2; SECTOR]);
        file.sync_range(SECTOR as u64, SECTOR);
        file.lose_power(&mut rng, 0, false, &mut Fates::default());
        let content = content(&file);
        assert_eq!(
            (content[0], content[SECTOR], content.len()),
            (0, 2, 2 * SECTOR)
        );
    }
}
