//! What was acknowledged of a load, and what must be true of it whatever happened meanwhile.

use std::collections::BTreeMap;

use crate::client::Written;
use crate::machine::Reply;

/// How changes ended, and those that were made.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Changes that were made and acknowledged, by their place in the log: number and fee.
    pub made: BTreeMap<u64, (u64, u64)>,
    /// Changes that the bank refused: nothing was changed.
    pub refused: u64,
    /// Changes that were not and will not be applied.
    pub failed: u64,
    /// Changes that may or may not be applied.
    pub unknown: u64,
    /// The last error.
    pub last_error: Option<String>,
    faults: Vec<String>,
}

impl History {
    /// A change was acknowledged.
    pub fn acknowledge(&mut self, written: &Written) {
        match written.reply {
            Reply::Done { number, fee, .. } => {
                if self.made.insert(written.index, (number, fee)).is_some() {
                    let index = written.index;
                    self.faults.push(format!("two changes are at {index}"));
                }
            }
            Reply::Refused(_) => self.refused += 1,
        }
    }

    /// What cannot be if every change was made once, in the order of the log, and under versions that
    /// only grow. Empty: all is well.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.faults.clone();
        let entries: Vec<_> = self.made.iter().collect();
        for pair in entries.windows(2) {
            let [(before, (number, fee)), (after, (next_number, next_fee))] = pair else {
                continue;
            };
            if next_number <= number {
                faults.push(format!(
                    "change {number} is at {before}, and {next_number} after it at {after}"
                ));
            }
            if next_fee < fee {
                faults.push(format!(
                    "a fee of {fee} at {before}, and of {next_fee} after it at {after}"
                ));
            }
        }
        faults
    }

    /// All fees that are known to have been charged.
    pub fn fees(&self) -> u64 {
        self.made.values().map(|(_, fee)| fee).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(made: &[(u64, u64, u64)]) -> History {
        let mut history = History::default();
        for (index, number, fee) in made.iter().copied() {
            let balance = 0;
            history.acknowledge(&Written {
                reply: Reply::Done {
                    number,
                    balance,
                    fee,
                },
                index,
            });
        }
        history
    }

    #[test]
    fn one_change_after_the_other_is_no_fault() {
        let fine = history(&[(9, 3, 1), (4, 1, 0), (7, 2, 0)]);
        assert_eq!(fine.faults(), Vec::<String>::new());
        assert_eq!(fine.fees(), 1);
    }

    #[test]
    fn what_was_made_twice_or_under_an_older_version_is_found() {
        for (made, fault) in [
            (
                &[(4, 1, 0), (7, 1, 0)],
                "change 1 is at 4, and 1 after it at 7",
            ),
            (
                &[(4, 2, 0), (7, 1, 0)],
                "change 2 is at 4, and 1 after it at 7",
            ),
            (
                &[(4, 1, 1), (7, 2, 0)],
                "a fee of 1 at 4, and of 0 after it at 7",
            ),
            (&[(4, 1, 0), (4, 2, 0)], "two changes are at 4"),
        ] {
            assert_eq!(history(made).faults(), [fault]);
        }
    }
}
