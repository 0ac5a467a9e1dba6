//! What a server says to a leader that it holds of the leader's log it does hold: its log and the
//! leader's agree up to there. What it acknowledges a leader may commit.

use kontiki_node::driver::Output;
use kontiki_raft::{AppendOutcome, Index, Message};

use super::{Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct GenuineAcknowledgements;

impl Invariant for GenuineAcknowledgements {
    fn name(&self) -> &'static str {
        "genuine acknowledgements"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        for output in turn.outputs {
            let Output::Send(envelope) = output else {
                continue;
            };
            let Message::AppendAck(ack) = &envelope.message else {
                continue;
            };
            let AppendOutcome::Accepted(through) = ack.outcome else {
                continue;
            };
            let Some(leader) = ledger.servers.get(&envelope.to) else {
                continue;
            };
            // Later than its own term its log may be another.
            if through == Index(0) || leader.last.term != ack.term || !leader.last.leads() {
                continue;
            }
            let at = through.0 as usize - 1;
            let (here, there) = (ledger.log(turn.server).get(at), leader.log.get(at));
            if here.map(|entry| entry.id) != there.map(|entry| entry.id) {
                return Err(format!(
                    "acknowledges {here:?} to {} in its term {}, which has {there:?}",
                    envelope.to, ack.term.0
                ));
            }
        }
        Ok(())
    }
}
