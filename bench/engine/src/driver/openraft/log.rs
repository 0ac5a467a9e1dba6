//! Its log: entries in a ring.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::{LogFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{Entry, LogId, OptionalSend, Vote};

use super::{StorageError, Types};

/// Clones share one log.
#[derive(Clone, Debug, Default)]
pub struct LogStore(Arc<Mutex<Log>>);

#[derive(Debug, Default)]
struct Log {
    vote: Option<Vote<u64>>,
    purged: Option<LogId<u64>>,
    /// After `purged`, without a gap.
    entries: VecDeque<Entry<Types>>,
}

impl Log {
    fn first(&self) -> u64 {
        self.purged.map_or(0, |purged| purged.index + 1)
    }

    /// How many entries there are before `index`.
    fn place(&self, index: u64) -> usize {
        let place = index.saturating_sub(self.first()) as usize;
        place.min(self.entries.len())
    }
}

impl LogStore {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry<Types>>, StorageError> {
        let log = self.lock();
        let from = match range.start_bound() {
            Bound::Included(index) => log.place(*index),
            Bound::Excluded(index) => log.place(index + 1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => log.place(index + 1),
            Bound::Excluded(index) => log.place(*index),
            Bound::Unbounded => log.entries.len(),
        };
        Ok(log.entries.range(from..to.max(from)).cloned().collect())
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let log = self.lock();
        let last = log.entries.back().map(|entry| entry.log_id);
        Ok(LogState {
            last_purged_log_id: log.purged,
            last_log_id: last.or(log.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError> {
        self.lock().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError> {
        Ok(self.lock().vote)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.lock().entries.extend(entries);
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId<u64>) -> Result<(), StorageError> {
        let mut log = self.lock();
        let kept = log.place(from.index);
        log.entries.truncate(kept);
        Ok(())
    }

    async fn purge(&mut self, through: LogId<u64>) -> Result<(), StorageError> {
        let mut log = self.lock();
        let dropped = log.place(through.index + 1);
        log.entries.drain(..dropped);
        log.purged = Some(through);
        Ok(())
    }
}
