//! At most one server leads a term (Raft paper, figure 3). What a server sends in a leader's name
//! counts as well, so that a leadership that was lost within its first turn is seen.

use std::collections::BTreeMap;

use kontiki_node::driver::Output;
use kontiki_raft::{Message, ServerId, Term};

use super::{Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, ServerId>,
}

impl ElectionSafety {
    fn claim(&mut self, term: Term, server: ServerId) -> Result<(), String> {
        let leader = *self.leaders.entry(term).or_insert(server);
        if leader != server {
            return Err(format!("{leader} and {server} both lead term {}", term.0));
        }
        Ok(())
    }
}

impl Invariant for ElectionSafety {
    fn name(&self) -> &'static str {
        "election safety"
    }

    fn check(&mut self, turn: &Turn<'_>, _ledger: &Ledger) -> Result<(), String> {
        if turn.leads() {
            self.claim(turn.status.standing.term, turn.server)?;
        }
        for output in turn.outputs {
            let Output::Send(envelope) = output else {
                continue;
            };
            match &envelope.message {
                Message::Append(append) => self.claim(append.term, turn.server)?,
                Message::Heartbeat(heartbeat) => self.claim(heartbeat.term, turn.server)?,
                _ => {}
            }
        }
        Ok(())
    }
}
