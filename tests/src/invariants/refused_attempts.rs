//! An attempt to write that was refused is not applied, also in a session. A client repeats a write
//! under the same sequence, and each attempt is answered for itself: the entry that is applied must
//! come from an attempt that was not refused. Which attempts it can come from is known by its term: the
//! leader of that term made it, so one of the attempts that reached that server did.

use std::collections::BTreeMap;

use kontiki_node::driver::Refusal;
use kontiki_raft::{LogId, ServerId};

use super::{Asked, Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct RefusedAttempts {
    /// By value, which is unique to a write, and server: attempts that may have been proposed there.
    possible: BTreeMap<(u64, ServerId), u64>,
    /// By value: where it was applied first.
    applied: BTreeMap<u64, LogId>,
}

impl RefusedAttempts {
    fn check_value(&self, value: u64, ledger: &Ledger) -> Result<(), String> {
        let Some(id) = self.applied.get(&value) else {
            return Ok(());
        };
        let Some(leader) = ledger.leaders.get(&id.term) else {
            return Ok(()); // nobody saw who led that term
        };
        match self.possible.get(&(value, *leader)) {
            Some(0) => Err(format!(
                "value {value} was applied at {id}, and every attempt at {leader}, which led that \
                 term, was refused"
            )),
            None => Err(format!(
                "value {value} was applied at {id}, and was never asked of {leader}, which led that \
                 term"
            )),
            Some(_) => Ok(()),
        }
    }
}

/// Whether the answer says that this attempt is not in the log and never will be.
fn is_failed(refusal: &Refusal) -> bool {
    !matches!(
        refusal,
        Refusal::OutcomeUnknown | Refusal::ReplyForgotten(_)
    )
}

impl Invariant for RefusedAttempts {
    fn name(&self) -> &'static str {
        "refused attempts"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        for (_, asked) in turn.asked {
            if let Asked::Write { value, .. } = asked {
                *self.possible.entry((*value, turn.server)).or_default() += 1;
            }
        }
        let mut touched = Vec::new();
        for (id, result) in turn.replies() {
            if let Some((_, Asked::Write { value, .. }, _)) = ledger.open.get(&id)
                && result.as_ref().is_err_and(is_failed)
                && let Some(attempts) = self.possible.get_mut(&(*value, turn.server))
            {
                *attempts = attempts.saturating_sub(1);
                touched.push(*value);
            }
        }
        for applied in turn.applied {
            self.applied.entry(applied.value).or_insert(applied.id);
            touched.push(applied.value);
        }
        touched
            .into_iter()
            .try_for_each(|value| self.check_value(value, ledger))
    }
}

#[cfg(test)]
mod tests {
    use kontiki_raft::{Index, Term};

    use super::*;

    const SERVER: ServerId = ServerId(7);

    fn seen(attempts: u64, leader: ServerId) -> (RefusedAttempts, Ledger) {
        let id = LogId {
            term: Term(3),
            index: Index(9),
        };
        let mut ledger = Ledger::default();
        ledger.leaders.insert(Term(3), leader);
        let refused = RefusedAttempts {
            possible: [((5, SERVER), attempts)].into(),
            applied: [(5, id)].into(),
        };
        (refused, ledger)
    }

    #[test]
    fn what_was_refused_every_time_must_not_be_applied() {
        let (refused, ledger) = seen(0, SERVER);
        let why = refused.check_value(5, &ledger).expect_err("it was refused");
        assert!(why.contains("every attempt"), "{why}");
    }

    #[test]
    fn an_attempt_elsewhere_does_not_excuse_it() {
        let (refused, ledger) = seen(1, ServerId(8));
        let why = refused
            .check_value(5, &ledger)
            .expect_err("not asked there");
        assert!(why.contains("never asked"), "{why}");
    }

    #[test]
    fn one_attempt_that_was_not_refused_is_enough() {
        let (refused, ledger) = seen(1, SERVER);
        assert_eq!(refused.check_value(5, &ledger), Ok(()));
        assert_eq!(refused.check_value(6, &ledger), Ok(()), "not applied");
    }
}
