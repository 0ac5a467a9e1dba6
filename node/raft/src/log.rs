//! The log as the algorithm sees it: terms, sizes and configurations. Payloads are the driver's.

use std::collections::VecDeque;

use crate::configuration::Configuration;
use crate::types::{Index, LogId, Term};

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Appended by a new leader (paper section 8).
    Noop,
    /// Who belongs to the cluster, from here on.
    Configuration(Box<Configuration>),
    /// A command of the state machine.
    Command,
    /// Something else of the driver's, which it tells apart by the payload.
    Control,
}

/// An entry without its payload and its index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryMeta {
    /// Term of the leader that created it.
    pub term: Term,
    /// What it is.
    pub kind: EntryKind,
    /// Its encoded size in bytes.
    pub size: u32,
}

/// What the driver must do to its copy of the log, in order, before anything else is asked of
/// [`crate::Raft`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogChange {
    /// Drop every entry after this one.
    Truncated {
        /// The last one to keep.
        after: Index,
    },
    /// Append these of the entries that came with the message just received.
    Received {
        /// First.
        from: Index,
        /// Last.
        to: Index,
    },
    /// Append an entry that the engine made.
    Created {
        /// Its place.
        id: LogId,
        /// `Noop` or `Configuration`.
        kind: EntryKind,
    },
    /// Drop every entry: a snapshot took the place of all. The next one follows `last`.
    Replaced {
        /// The last entry that the snapshot covers.
        last: LogId,
    },
}

/// Metadata of the entries after `base`.
///
/// Invariant: `runs` starts above `base.index` and both its indexes and its terms strictly grow;
/// `ends` never falls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// The entry before the first one held; 0@0 while nothing is compacted.
    base: LogId,
    /// Where each term begins: (first index, term).
    runs: Vec<(Index, Term)>,
    /// Where each entry ends, in encoded bytes since `start` was 0: the bytes between any two are
    /// one subtraction away.
    ends: VecDeque<u64>,
    /// Where the first entry held begins.
    start: u64,
    /// Configurations among the entries held, in order.
    configurations: Vec<(Index, Configuration)>,
    /// In force before the first of those, with its entry: empty while nothing is compacted.
    base_configuration: (Index, Configuration),
}

impl Log {
    /// The entry before the first one held.
    pub(crate) fn base(&self) -> LogId {
        self.base
    }

    pub(crate) fn first(&self) -> Index {
        self.base.index.next()
    }

    pub(crate) fn last(&self) -> LogId {
        let index = Index(self.base.index.0 + self.ends.len() as u64);
        LogId {
            term: self.run_term(self.runs.len()),
            index,
        }
    }

    /// Term of the entry, or `None` if it is not held. The base has one.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last().index {
            return None;
        }
        let after = self.runs.partition_point(|run| run.0 <= index);
        Some(self.run_term(after))
    }

    /// The term before the run at `after`.
    fn run_term(&self, after: usize) -> Term {
        match after.checked_sub(1) {
            Some(run) => self.runs[run].1,
            None => self.base.term,
        }
    }

    pub(crate) fn contains(&self, id: LogId) -> bool {
        self.term(id.index) == Some(id.term)
    }

    /// The last entry at or below `at.index` whose term is not above `at.term`: a log that holds
    /// `at` can agree with this one at most up to there. What is below the base is not known any
    /// more, and answered as `at` says.
    pub(crate) fn agreement_at_most(&self, at: LogId) -> LogId {
        let mut index = at.index.min(self.last().index);
        loop {
            let Some(term) = self.term(index) else {
                return LogId { index, ..at };
            };
            if term <= at.term {
                return LogId { term, index };
            }
            let after = self.runs.partition_point(|run| run.0 <= index);
            index = match after.checked_sub(1) {
                Some(run) => self.runs[run].0.previous(),
                None => self.base.index.previous(), // the base itself is too new
            };
        }
    }

    pub(crate) fn append(&mut self, entry: EntryMeta) -> LogId {
        let last = self.last();
        let id = LogId {
            term: entry.term,
            index: last.index.next(),
        };
        assert!(
            id.term >= last.term,
            "terms in the log never fall: {id} after {last}"
        );
        if last.term != id.term {
            self.runs.push((id.index, id.term));
        }
        self.ends.push_back(self.end() + u64::from(entry.size));
        if let EntryKind::Configuration(configuration) = entry.kind {
            self.configurations.push((id.index, *configuration));
        }
        id
    }

    /// The entry at `index` takes so many encoded bytes.
    pub(crate) fn resize(&mut self, index: Index, size: u32) {
        let Some(at) = index.0.checked_sub(self.first().0) else {
            return;
        };
        let was = self.bytes(index.previous(), index) as u64;
        for end in self.ends.range_mut((at as usize).min(self.ends.len())..) {
            *end = *end - was + u64::from(size);
        }
    }

    pub(crate) fn truncate(&mut self, after: Index) {
        assert!(after >= self.base.index, "{after:?} is compacted");
        self.ends.truncate((after.0 - self.base.index.0) as usize);
        self.runs.retain(|run| run.0 <= after);
        self.configurations
            .retain(|configuration| configuration.0 <= after);
    }

    /// Drops every entry up to `through`, which becomes the base (paper section 7).
    pub(crate) fn compact(&mut self, through: Index) {
        let term = self.term(through).expect("only what is held is compacted");
        self.start = self.end_of(through);
        self.ends.drain(..(through.0 - self.base.index.0) as usize);
        self.runs.retain(|run| run.0 > through);
        let dropped = self
            .configurations
            .partition_point(|configuration| configuration.0 <= through);
        if let Some(last) = self.configurations.drain(..dropped).next_back() {
            self.base_configuration = last;
        }
        self.base = LogId {
            term,
            index: through,
        };
    }

    /// Drops everything: a snapshot through `last` takes its place.
    pub(crate) fn replace(&mut self, last: LogId, configuration: (Index, Configuration)) {
        *self = Self {
            base: last,
            base_configuration: configuration,
            ..Self::default()
        };
    }

    fn end(&self) -> u64 {
        self.ends.back().copied().unwrap_or(self.start)
    }

    /// Where the entry at `index` ends; the start for the base and what is before it.
    fn end_of(&self, index: Index) -> u64 {
        match index.0.saturating_sub(self.base.index.0).checked_sub(1) {
            Some(at) => self.ends.get(at as usize).copied().unwrap_or(self.end()),
            None => self.start,
        }
    }

    /// Encoded bytes of the entries after `after` up to `to`.
    pub(crate) fn bytes(&self, after: Index, to: Index) -> usize {
        self.end_of(to).saturating_sub(self.end_of(after)) as usize
    }

    /// The last entry to drop so that what is left is at most `bytes`, but `entries_min` entries at
    /// least. The base if nothing is to be dropped.
    pub(crate) fn before_tail(&self, bytes: usize, entries_min: usize) -> Index {
        let end = self.end();
        let dropped = self
            .ends
            .partition_point(|it| end - it > bytes as u64)
            .saturating_add(usize::from(end - self.start > bytes as u64))
            .min(self.ends.len().saturating_sub(entries_min));
        Index(self.base.index.0 + dropped as u64)
    }

    /// The last index of a batch that starts at `from` and keeps to both bounds; at least `from`.
    pub(crate) fn batch_end(&self, from: Index, entries_max: usize, bytes_max: usize) -> Index {
        let start = (from.0 - self.first().0) as usize;
        let bound = self.end_of(from.previous()) + bytes_max as u64;
        let fitting = self.ends.partition_point(|end| *end <= bound);
        let taken = fitting.saturating_sub(start).clamp(1, entries_max.max(1));
        Index(from.0 + taken as u64 - 1)
    }

    /// The configuration in force, that is the last one, and its entry; 0 if there is none.
    pub(crate) fn configuration(&self) -> (Index, &Configuration) {
        self.configurations
            .last()
            .map_or(self.base_configuration(), |(index, last)| (*index, last))
    }

    /// The last configuration at or below `index`.
    pub(crate) fn configuration_at(&self, index: Index) -> (Index, &Configuration) {
        let after = self
            .configurations
            .partition_point(|entry| entry.0 <= index);
        match after.checked_sub(1) {
            Some(at) => (self.configurations[at].0, &self.configurations[at].1),
            None => self.base_configuration(),
        }
    }

    fn base_configuration(&self) -> (Index, &Configuration) {
        (self.base_configuration.0, &self.base_configuration.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ServerId;

    fn log(terms: &[u64]) -> Log {
        let mut log = Log::default();
        for term in terms {
            let term = Term(*term);
            log.append(EntryMeta {
                term,
                kind: EntryKind::Command,
                size: 10,
            });
        }
        log
    }

    #[test]
    fn terms_are_found_at_every_index_and_nowhere_else() {
        let terms = [1, 1, 3, 3, 3, 7];
        let log = log(&terms);
        assert_eq!(log.term(Index(0)), Some(Term(0)));
        for (at, term) in terms.iter().enumerate() {
            assert_eq!(log.term(Index(at as u64 + 1)), Some(Term(*term)));
        }
        assert_eq!(log.term(Index(7)), None);
        assert_eq!(
            log.last(),
            LogId {
                term: Term(7),
                index: Index(6)
            }
        );
    }

    #[test]
    fn the_size_of_an_entry_may_be_said_later() {
        let mut log = log(&[1, 1, 3, 3]);
        log.compact(Index(1));
        log.resize(Index(3), 25);
        let sizes = (1..=4).map(|index| log.bytes(Index(index - 1), Index(index)));
        assert_eq!(sizes.collect::<Vec<_>>(), [0, 10, 25, 10]);
        assert_eq!(log.bytes(Index(1), Index(4)), 45);
        log.resize(Index(1), 9); // compacted
        log.resize(Index(9), 9); // not there
        assert_eq!(log.bytes(Index(1), Index(4)), 45);
    }

    #[test]
    fn agreement_skips_whole_terms_that_are_too_new() {
        let log = log(&[1, 1, 3, 3, 3, 7]);
        let at = |index, term| {
            log.agreement_at_most(LogId {
                term: Term(term),
                index: Index(index),
            })
            .index
            .0
        };
        assert_eq!(at(6, 7), 6);
        assert_eq!(at(6, 6), 5);
        assert_eq!(at(9, 3), 5);
        assert_eq!(at(5, 2), 2);
        assert_eq!(at(4, 0), 0);
    }

    #[test]
    fn compaction_changes_nothing_of_what_is_kept() {
        let mut whole = log(&[1, 1, 3, 3, 3, 7]);
        for server in [4, 5] {
            whole.append(EntryMeta {
                term: Term(7),
                kind: EntryKind::Configuration(Box::new(Configuration::of([ServerId(server)]))),
                size: 10,
            });
        }
        for through in 0..=8 {
            let mut log = whole.clone();
            log.compact(Index(through / 2)); // in two steps
            log.compact(Index(through));
            assert_eq!(
                (log.base().index, log.last()),
                (Index(through), whole.last())
            );
            for index in through..=9 {
                let index = Index(index);
                assert_eq!(log.term(index), whole.term(index), "{index:?} of {through}");
                assert_eq!(log.configuration_at(index), whole.configuration_at(index));
                assert_eq!(
                    log.bytes(Index(through), index),
                    whole.bytes(Index(through), index)
                );
            }
            assert_eq!(log.term(Index(through).previous()).is_some(), through == 0);
            log.append(EntryMeta {
                term: Term(7),
                kind: EntryKind::Command,
                size: 10,
            });
            assert_eq!(
                (log.last().index, log.term(Index(9))),
                (Index(9), Some(Term(7)))
            );
            if through < 8 {
                assert_eq!(
                    log.batch_end(Index(through + 1), 100, 20).0,
                    9.min(through + 2)
                );
            }
        }
    }

    #[test]
    fn what_is_below_the_base_is_answered_as_it_was_asked() {
        let mut log = log(&[1, 1, 3, 3]);
        log.compact(Index(3));
        let at = |index, term| {
            log.agreement_at_most(LogId {
                term: Term(term),
                index: Index(index),
            })
            .index
            .0
        };
        assert_eq!((at(4, 3), at(3, 3), at(9, 3)), (4, 3, 4));
        assert_eq!(
            (at(2, 1), at(0, 0)),
            (2, 0),
            "the hint is all that is known"
        );
        assert_eq!(at(4, 2), 2, "not even the base agrees");
    }

    #[test]
    fn the_tail_that_is_kept_is_within_its_bytes_but_not_below_its_entries() {
        let mut log = log(&[1; 10]);
        assert_eq!(log.before_tail(100, 0), Index(0), "all of it fits");
        assert_eq!(log.before_tail(99, 0), Index(1));
        assert_eq!(log.before_tail(35, 0), Index(7));
        assert_eq!(log.before_tail(35, 5), Index(5));
        assert_eq!(log.before_tail(0, 0), Index(10));
        assert_eq!(log.before_tail(0, 20), Index(0));
        log.compact(Index(4));
        assert_eq!(log.before_tail(35, 0), Index(7));
        assert_eq!(log.before_tail(60, 0), Index(4));
    }

    #[test]
    fn truncation_rolls_back_terms_and_configurations() {
        let mut log = log(&[1, 1]);
        let configuration = Configuration::of([ServerId(4)]);
        let kind = EntryKind::Configuration(Box::new(configuration.clone()));
        log.append(EntryMeta {
            term: Term(2),
            kind,
            size: 10,
        });
        assert_eq!(log.configuration(), (Index(3), &configuration));
        assert_eq!(log.configuration_at(Index(2)).0, Index(0));
        log.truncate(Index(2));
        assert_eq!(log.configuration(), (Index(0), &Configuration::default()));
        assert_eq!(
            log.last(),
            LogId {
                term: Term(1),
                index: Index(2)
            }
        );
    }

    #[test]
    fn a_batch_keeps_to_its_bounds_but_takes_one_entry_at_least() {
        let log = log(&[1; 10]);
        assert_eq!(log.batch_end(Index(1), 3, 1000), Index(3));
        assert_eq!(log.batch_end(Index(1), 100, 45), Index(4));
        assert_eq!(log.batch_end(Index(9), 100, 1000), Index(10));
        assert_eq!(log.batch_end(Index(2), 100, 5), Index(2));
        assert_eq!(log.bytes(Index(2), Index(5)), 30);
    }
}
