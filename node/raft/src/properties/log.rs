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
    /// Cut off after this percentage of the log.
    Truncate { percent: u64 },
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let voters = prop_oneof![4 => Just(None), 1 => (1u64..4).prop_map(Some)];
    let append = (0u64..3, 0u32..100, voters).prop_map(|(later, size, voters)| Change::Append {
        later,
        size,
        voters,
    });
    let truncate = (0u64..101).prop_map(|percent| Change::Truncate { percent });
    prop::collection::vec(prop_oneof![5 => append, 1 => truncate], 0..40)
}

/// Every entry as it is; entry 1 is the first.
#[derive(Default)]
struct SlowLog(Vec<EntryMeta>);

impl SlowLog {
    fn term(&self, index: u64) -> Option<Term> {
        match index {
            0 => Some(Term(0)),
            _ => self.0.get(index as usize - 1).map(|entry| entry.term),
        }
    }

    fn last(&self) -> LogId {
        let index = self.0.len() as u64;
        let term = self.term(index).expect("held");
        let index = Index(index);
        LogId { term, index }
    }

    fn agreement_at_most(&self, at: LogId) -> LogId {
        (0..=at.index.0)
            .rev()
            .filter_map(|index| self.term(index).map(|term| (index, term)))
            .find(|(_, term)| *term <= at.term)
            .map(|(index, term)| LogId {
                term,
                index: Index(index),
            })
            .expect("0 has term 0")
    }

    fn bytes(&self, after: usize, to: usize) -> usize {
        let entries = self.0.iter().take(to).skip(after);
        entries.map(|entry| entry.size as usize).sum()
    }

    fn batch_end(&self, from: usize, entries_max: usize, bytes_max: usize) -> Index {
        let fits =
            |last: &usize| last - from < entries_max && self.bytes(from - 1, *last) <= bytes_max;
        let last = (from..=self.0.len()).take_while(fits).last();
        Index(last.unwrap_or(from) as u64)
    }

    fn configuration_at(&self, index: usize) -> (Index, Configuration) {
        let held = self.0.iter().take(index).enumerate().rev();
        held.filter_map(|(at, entry)| match &entry.kind {
            EntryKind::Configuration(it) => Some((Index(at as u64 + 1), (**it).clone())),
            _ => None,
        })
        .next()
        .unwrap_or_default()
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
            match change {
                Change::Append { later, size, voters } => {
                    let term = Term((slow.last().term.0 + later).max(1));
                    let id = log.append(entry(term, size, voters));
                    slow.0.push(entry(term, size, voters));
                    prop_assert_eq!(id, slow.last());
                }
                Change::Truncate { percent } => {
                    let after = slow.0.len() as u64 * percent / 100;
                    log.truncate(Index(after));
                    slow.0.truncate(after as usize);
                }
            }
        }
        let end = slow.0.len();
        prop_assert_eq!((log.first(), log.last()), (Index(1), slow.last()));
        let last = slow.configuration_at(end);
        prop_assert_eq!(log.configuration(), (last.0, &last.1));
        for index in 0..end + 3 {
            let at = Index(index as u64);
            prop_assert_eq!(log.term(at), slow.term(at.0));
            let (found, expected) = (log.configuration_at(at), slow.configuration_at(index));
            prop_assert_eq!(found, (expected.0, &expected.1));
            for term in 0..slow.last().term.0 + 2 {
                let id = LogId { term: Term(term), index: at };
                prop_assert_eq!(log.agreement_at_most(id), slow.agreement_at_most(id));
                prop_assert_eq!(log.contains(id), slow.term(at.0) == Some(id.term));
            }
            for to in index..=end {
                prop_assert_eq!(log.bytes(at, Index(to as u64)), slow.bytes(index, to));
            }
            if (1..=end).contains(&index) {
                let found = log.batch_end(at, entries_max, bytes_max);
                prop_assert_eq!(found, slow.batch_end(index, entries_max.max(1), bytes_max));
            }
        }
    }
}
