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
}

/// Metadata of the entries after `base`.
///
/// Invariant: `runs` starts above `base.index` and both its indexes and its terms strictly grow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// The entry before the first one held; 0@0 while nothing is compacted.
    base: LogId,
    /// Where each term begins: (first index, term).
    runs: Vec<(Index, Term)>,
    /// Encoded size of each entry.
    sizes: VecDeque<u32>,
    /// Configurations among the entries held, in order.
    configurations: Vec<(Index, Configuration)>,
    /// In force before the first of those: empty while nothing is compacted.
    base_configuration: Configuration,
}

impl Log {
    pub(crate) fn first(&self) -> Index {
        self.base.index.next()
    }

    pub(crate) fn last(&self) -> LogId {
        let index = Index(self.base.index.0 + self.sizes.len() as u64);
        LogId {
            term: self.runs.last().map_or(self.base.term, |run| run.1),
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
        Some(self.runs[after - 1].1)
    }

    pub(crate) fn contains(&self, id: LogId) -> bool {
        self.term(id.index) == Some(id.term)
    }

    /// The last entry at or below `at.index` whose term is not above `at.term`: a log that holds
    /// `at` can agree with this one at most up to there.
    pub(crate) fn agreement_at_most(&self, at: LogId) -> LogId {
        let mut index = at.index.min(self.last().index).max(self.base.index);
        loop {
            let term = self.term(index).unwrap_or_default();
            if term <= at.term || index == self.base.index {
                return LogId { term, index };
            }
            let run = self.runs.partition_point(|run| run.0 <= index) - 1;
            index = self.runs[run].0.previous();
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
        if self.runs.last().map_or(self.base.term, |run| run.1) != id.term {
            self.runs.push((id.index, id.term));
        }
        self.sizes.push_back(entry.size);
        if let EntryKind::Configuration(configuration) = entry.kind {
            self.configurations.push((id.index, *configuration));
        }
        id
    }

    pub(crate) fn truncate(&mut self, after: Index) {
        assert!(after >= self.base.index, "{after:?} is compacted");
        self.sizes.truncate((after.0 - self.base.index.0) as usize);
        self.runs.retain(|run| run.0 <= after);
        self.configurations
            .retain(|configuration| configuration.0 <= after);
    }

    /// Encoded bytes of the entries after `after` up to `to`.
    pub(crate) fn bytes(&self, after: Index, to: Index) -> usize {
        let from = after.0.saturating_sub(self.base.index.0) as usize;
        let to = to.0.saturating_sub(self.base.index.0) as usize;
        self.sizes
            .range(from.min(to)..to)
            .map(|size| *size as usize)
            .sum()
    }

    /// The last index of a batch that starts at `from` and keeps to both bounds; at least `from`.
    pub(crate) fn batch_end(&self, from: Index, entries_max: usize, bytes_max: usize) -> Index {
        let start = (from.0 - self.first().0) as usize;
        let mut bytes = 0;
        let taken = self
            .sizes
            .range(start..)
            .take(entries_max.max(1))
            .take_while(|size| {
                bytes += **size as usize;
                bytes <= bytes_max
            })
            .count();
        Index(from.0 + taken.max(1) as u64 - 1)
    }

    /// The configuration in force, that is the last one, and its entry; 0 if there is none.
    pub(crate) fn configuration(&self) -> (Index, &Configuration) {
        self.configurations
            .last()
            .map_or((Index(0), &self.base_configuration), |(index, last)| {
                (*index, last)
            })
    }

    /// The last configuration at or below `index`.
    pub(crate) fn configuration_at(&self, index: Index) -> (Index, &Configuration) {
        let after = self
            .configurations
            .partition_point(|entry| entry.0 <= index);
        match after.checked_sub(1) {
            Some(at) => (self.configurations[at].0, &self.configurations[at].1),
            None => (Index(0), &self.base_configuration),
        }
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
