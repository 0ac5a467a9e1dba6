//! The answer to a read of bounded staleness reflects everything that was committed, as seen by any
//! server, so long before the server took the read up; whatever its clock, within the drift that clocks
//! may have.

use std::collections::BTreeMap;
use std::time::Duration;

use kontiki_node::driver::Answer;
use kontiki_raft::Index;

use super::{Asked, Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct BoundedStaleness {
    /// When somebody first counted so much as committed. Both grow.
    committed: Vec<(u64, Index)>,
    /// When open reads were taken up, and what they allow.
    asked: BTreeMap<u64, (u64, Duration)>,
}

impl Invariant for BoundedStaleness {
    fn name(&self) -> &'static str {
        "bounded staleness"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        let last = self.committed.last().map_or(Index(0), |last| last.1);
        if turn.status.commit > last {
            self.committed.push((turn.now, turn.status.commit));
        }
        for (id, asked) in turn.asked {
            if let Asked::Bounded { limit, .. } = asked {
                self.asked.insert(*id, (turn.now, *limit));
            }
        }
        for (id, result) in turn.replies() {
            let asked = self.asked.remove(&id);
            // By a clock that is not trusted, it is taken for a stale one.
            let asked = asked.filter(|_| {
                let open = ledger.open.get(&id);
                matches!(open, Some((_, Asked::Bounded { .. }, _)))
            });
            let (Some((since, limit)), Ok(Answer::Read { applied, .. })) = (asked, result) else {
                continue;
            };
            let before = since.saturating_sub(limit.as_nanos() as u64);
            let known = self.committed.partition_point(|(at, _)| *at < before);
            let owed = match known {
                0 => Index(0),
                known => self.committed[known - 1].1,
            };
            if *applied < owed {
                let (applied, owed) = (applied.0, owed.0);
                return Err(format!(
                    "a read that allows {limit:?} was answered as of {applied}; {owed} was committed \
                     longer before"
                ));
            }
        }
        self.asked.retain(|id, _| {
            ledger.open.contains_key(id) || turn.asked.iter().any(|(it, _)| it == id)
        });
        Ok(())
    }
}
