//! The log, which keeps terms as runs, against one that keeps every entry.

use proptest::prelude::*;

use crate::configuration::Configuration;
use crate::log::{EntryKind, EntryMeta, Log};
use crate::types::{Index, LogId, ServerId, Term};

/// What may be done to a log.
#[derive(Clone, Debug)]
enum Change {
    /// An entry of a term this much later; a configuration of so many voters, or a command.
    Append {
        later: u64,
        size: u32,
        voters: Option<u64>,
    },
    /// Cut off after this percentage of what is held.
    Truncate { percent: u64 },
    /// Compacted through this percentage of what is held.
    Compact { percent: u64 },
    /// A snapshot of so many entries more, of a term this much later, takes its place.
    Replace {
        further: u64,
        later: u64,
        voters: u64,
    },
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let voters = prop_oneof![4 => Just(None), 1 => (1u64..4).prop_map(Some)];
    let append = (0u64..3, 0u32..100, voters).prop_map(|(later, size, voters)| Change::Append {
        later,
        size,
        voters,
    });
    let truncate = (0u64..101).prop_map(|percent| Change::Truncate { percent });
    let compact = (0u64..101).prop_map(|percent| Change::Compact { percent });
    let replace =
        (1u64..5, 0u64..3, 1u64..4).prop_map(|(further, later, voters)| Change::Replace {
            further,
            later,
            voters,
        });
    let change = prop_oneof![20 => append, 4 => truncate, 3 => compact, 1 => replace];
    prop::collection::vec(change, 0..40)
}

/// Every entry held as it is.
#[derive(Default)]
struct SlowLog {
    base: LogId,
    base_configuration: (Index, Configuration),
    entries: Vec<EntryMeta>,
}

impl SlowLog {
    /// The entry at `index`, if it is held.
    fn entry(&self, index: u64) -> Option<&EntryMeta> {
        let at = index.checked_sub(self.base.index.0 + 1)?;
        self.entries.get(at as usize)
    }

    fn term(&self, index: u64) -> Option<Term> {
        if index == self.base.index.0 {
            return Some(self.base.term);
        }
        self.entry(index).map(|entry| entry.term)
    }

    fn last(&self) -> LogId {
        let index = Index(self.base.index.0 + self.entries.len() as u64);
        let term = self.entries.last().map_or(self.base.term, |it| it.term);
        LogId { term, index }
    }

    /// This percentage of what is held, in entries.
    fn share(&self, percent: u64) -> usize {
        self.entries.len() * percent as usize / 100
    }

    fn compact(&mut self, count: usize) {
        let through = self.base.index.0 + count as u64;
        self.base_configuration = self.configuration_at(through);
        self.base = LogId {
            term: self.term(through).expect("held"),
            index: Index(through),
        };
        self.entries.drain(..count);
    }

    fn agreement_at_most(&self, at: LogId) -> LogId {
        let from = at.index.0.min(self.last().index.0);
        for index in (0..=from).rev().map(Index) {
            match self.term(index.0) {
                Some(term) if term <= at.term => return LogId { term, index },
                Some(_) => {}
                None => return LogId { index, ..at }, // not known any more
            }
        }
        unreachable!("0 has term 0, if it is known")
    }

    fn bytes(&self, after: u64, to: u64) -> usize {
        let held = (after + 1..=to).filter_map(|index| self.entry(index));
        held.map(|entry| entry.size as usize).sum()
    }

    fn batch_end(&self, from: u64, entries_max: u64, bytes_max: usize) -> Index {
        let fits =
            |last: &u64| last - from < entries_max && self.bytes(from - 1, *last) <= bytes_max;
        let last = (from..=self.last().index.0).take_while(fits).last();
        Index(last.unwrap_or(from))
    }

    fn before_tail(&self, bytes: usize, entries_min: u64) -> Index {
        let last = self.last().index.0;
        let mut dropped = self.base.index.0;
        while last - dropped > entries_min && self.bytes(dropped, last) > bytes {
            dropped += 1;
        }
        Index(dropped)
    }

    fn configuration_at(&self, index: u64) -> (Index, Configuration) {
        (self.base.index.0 + 1..=index)
            .rev()
            .find_map(|index| match &self.entry(index)?.kind {
                EntryKind::Configuration(it) => Some((Index(index), (**it).clone())),
                _ => None,
            })
            .unwrap_or_else(|| self.base_configuration.clone())
    }
}

fn entry(term: Term, size: u32, voters: Option<u64>) -> EntryMeta {
    let kind = match voters {
        Some(count) => {
            let configuration = Configuration::of((1..=count).map(ServerId));
            EntryKind::Configuration(Box::new(configuration))
        }
        None => EntryKind::Command,
    };
    EntryMeta { term, kind, size }
}

proptest! {
    #[test]
    fn the_log_is_what_a_list_of_all_entries_is(
        changes in changes(),
        entries_max in 0usize..6,
        bytes_max in 0usize..300,
    ) {
        let (mut log, mut slow) = (Log::default(), SlowLog::default());
        for change in changes {
            apply(change, &mut log, &mut slow);
        }
        let (first, end) = (slow.base.index.0 + 1, slow.last().index.0);
        prop_assert_eq!((log.base(), log.first()), (slow.base, Index(first)));
        prop_assert_eq!(log.last(), slow.last());
        let last = slow.configuration_at(end);
        prop_assert_eq!(log.configuration(), (last.0, &last.1));
        let tail = log.before_tail(bytes_max, entries_max);
        prop_assert_eq!(tail, slow.before_tail(bytes_max, entries_max as u64));
        for index in 0..end + 3 {
            let at = Index(index);
            prop_assert_eq!(log.term(at), slow.term(index));
            if index + 1 >= first {
                let (found, expected) = (log.configuration_at(at), slow.configuration_at(index));
                prop_assert_eq!(found, (expected.0, &expected.1));
            }
            for term in 0..slow.last().term.0 + 2 {
                let id = LogId { term: Term(term), index: at };
                prop_assert_eq!(log.agreement_at_most(id), slow.agreement_at_most(id));
                prop_assert_eq!(log.contains(id), slow.term(index) == Some(id.term));
            }
            for to in index..=end {
                prop_assert_eq!(log.bytes(at, Index(to)), slow.bytes(index, to));
            }
            if (first..=end).contains(&index) {
                let found = log.batch_end(at, entries_max, bytes_max);
                prop_assert_eq!(found, slow.batch_end(index, entries_max.max(1) as u64, bytes_max));
            }
        }
    }
}

/// The same to both.
fn apply(change: Change, log: &mut Log, slow: &mut SlowLog) {
    match change {
        Change::Append {
            later,
            size,
            voters,
        } => {
            let term = Term((slow.last().term.0 + later).max(1));
            let id = log.append(entry(term, size, voters));
            slow.entries.push(entry(term, size, voters));
            assert_eq!(id, slow.last());
        }
        Change::Truncate { percent } => {
            slow.entries.truncate(slow.share(percent));
            log.truncate(slow.last().index);
        }
        Change::Compact { percent } => {
            slow.compact(slow.share(percent));
            log.compact(slow.base.index);
        }
        Change::Replace {
            further,
            later,
            voters,
        } => {
            let LogId { term, index } = slow.last();
            slow.base = LogId {
                term: Term((term.0 + later).max(1)),
                index: Index(index.0 + further),
            };
            let configuration = Configuration::of((1..=voters).map(ServerId));
            slow.base_configuration = (index.next(), configuration);
            slow.entries.clear();
            log.replace(slow.base, slow.base_configuration.clone());
        }
    }
}
