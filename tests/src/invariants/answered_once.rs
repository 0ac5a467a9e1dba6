//! Every request is answered at most once, by the server that was asked, and with the kind of answer
//! that belongs to it.

use std::collections::BTreeSet;

use kontiki_node::driver::Answer;

use super::{Asked, Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct AnsweredOnce {
    answered: BTreeSet<u64>,
}

impl Invariant for AnsweredOnce {
    fn name(&self) -> &'static str {
        "answered once"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        for (id, result) in turn.replies() {
            if !self.answered.insert(id) {
                return Err(format!("request {id} was answered twice"));
            }
            let Some((server, asked, _)) = ledger.open.get(&id) else {
                return Err(format!("request {id} was answered and never asked"));
            };
            if *server != turn.server {
                return Err(format!("request {id} was asked of {server}"));
            }
            let fits = match (asked, result) {
                (_, Err(_)) => true,
                (Asked::Write { .. }, Ok(answer)) => matches!(answer, Answer::Written { .. }),
                (Asked::Read { .. } | Asked::Bounded { .. } | Asked::Stale { .. }, Ok(answer)) => {
                    matches!(answer, Answer::Read { .. })
                }
                (Asked::Change { .. }, Ok(answer)) => matches!(answer, Answer::Changed(_)),
                (Asked::Transfer { .. }, Ok(answer)) => matches!(answer, Answer::Transferred(_)),
                (Asked::Administration, Ok(answer)) => {
                    !matches!(answer, Answer::Written { .. } | Answer::Read { .. })
                }
            };
            if !fits {
                return Err(format!("{asked:?} was answered with {result:?}"));
            }
        }
        Ok(())
    }
}
