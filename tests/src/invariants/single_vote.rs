//! A server votes for at most one candidate in a term (Raft paper section 5.2), itself included.

use std::collections::BTreeMap;

use kontiki_node::driver::Output;
use kontiki_raft::{Message, ServerId, Term};

use super::{Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct SingleVote {
    votes: BTreeMap<(ServerId, Term), ServerId>,
}

impl SingleVote {
    fn vote(&mut self, voter: ServerId, term: Term, candidate: ServerId) -> Result<(), String> {
        let first = *self.votes.entry((voter, term)).or_insert(candidate);
        if first != candidate {
            let term = term.0;
            return Err(format!(
                "voted for {first} and for {candidate} in term {term}"
            ));
        }
        Ok(())
    }
}

impl Invariant for SingleVote {
    fn name(&self) -> &'static str {
        "single vote"
    }

    fn check(&mut self, turn: &Turn<'_>, _ledger: &Ledger) -> Result<(), String> {
        for output in turn.outputs {
            let Output::Send(envelope) = output else {
                continue;
            };
            match &envelope.message {
                Message::VoteReply(reply) if reply.granted && !reply.pre => {
                    self.vote(turn.server, reply.term, envelope.to)?;
                }
                Message::Vote(vote) if !vote.pre => {
                    self.vote(turn.server, vote.term, turn.server)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}
