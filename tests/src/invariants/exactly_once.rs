//! In a session each sequence is applied at most once, and one that was acknowledged exactly once,
//! however often it was asked for; every answer to it is the first.

use std::collections::BTreeMap;

use kontiki_node::driver::{Answer, Refusal};
use kontiki_node::host::{SessionId, SessionRefusal, Stamp};
use kontiki_raft::LogId;

use super::{Asked, Invariant, Ledger, Turn};

type Place = (SessionId, u64);

/// The entry that answers named, and the reply, once a server said it whose memory did not change.
#[derive(Debug)]
struct Answered {
    id: LogId,
    reply: Option<Vec<u8>>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct ExactlyOnce {
    /// Values are unique, so they name a place in a session.
    places: BTreeMap<u64, Place>,
    applied: BTreeMap<Place, LogId>,
    answers: BTreeMap<Place, Answered>,
    /// The largest sequence that a client said it has no use for any more.
    acknowledged: BTreeMap<SessionId, u64>,
}

impl Invariant for ExactlyOnce {
    fn name(&self) -> &'static str {
        "exactly once"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        for (_, asked) in turn.asked {
            if let Asked::Write {
                value,
                stamp: Some(stamp),
                ..
            } = asked
            {
                let said = self.acknowledged.entry(stamp.session).or_default();
                *said = (*said).max(stamp.acknowledged);
                self.places.insert(*value, (stamp.session, stamp.sequence));
            }
        }
        for applied in turn.applied {
            let Some(place) = self.places.get(&applied.value) else {
                continue;
            };
            let first = *self.applied.entry(*place).or_insert(applied.id);
            if first != applied.id {
                let ((session, sequence), again) = (*place, applied.id);
                return Err(format!(
                    "session {} sequence {sequence} was applied at {first} and at {again}",
                    session.0
                ));
            }
        }
        for (id, result) in turn.replies() {
            if let Some((_, asked, _)) = ledger.open.get(&id)
                && let Asked::Write {
                    stamp: Some(stamp), ..
                } = asked
            {
                let is_rotted = ledger.rotted.contains(&turn.server);
                self.answered(*stamp, result, is_rotted)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, ledger: &Ledger) -> Result<(), String> {
        for ((session, sequence), Answered { id, .. }) in &self.answers {
            let place = Some(&(*session, *sequence));
            let applied = ledger.applied.get(&id.index);
            if applied.and_then(|applied| self.places.get(&applied.value)) != place {
                return Err(format!(
                    "session {} sequence {sequence}, acknowledged at {id}, is lost",
                    session.0
                ));
            }
        }
        Ok(())
    }
}

impl ExactlyOnce {
    fn answered(
        &mut self,
        stamp: Stamp,
        result: &Result<Answer, Refusal>,
        is_rotted: bool,
    ) -> Result<(), String> {
        let place = (stamp.session, stamp.sequence);
        let what = format!("session {} sequence {}", place.0.0, place.1);
        match result {
            Ok(Answer::Written { reply, id }) => {
                if self.applied.get(&place) != Some(id) {
                    let applied = self.applied.get(&place);
                    return Err(format!("{what}: answered {id}, applied {applied:?}"));
                }
                let first = self.answers.entry(place).or_insert(Answered {
                    id: *id,
                    reply: None,
                });
                let is_same =
                    is_rotted || first.reply.get_or_insert_with(|| reply.clone()) == reply;
                if first.id != *id || !is_same {
                    return Err(format!(
                        "{what}: answered {first:?}, and then {id} {reply:?}"
                    ));
                }
            }
            Err(Refusal::ReplyForgotten(id)) if self.applied.get(&place) != Some(id) => {
                return Err(format!("{what}: said to be applied at {id}, and is not"));
            }
            Err(Refusal::Session(SessionRefusal::AlreadyAcknowledged { acknowledged, .. })) => {
                let said = self.acknowledged.get(&stamp.session).copied();
                if said.is_none_or(|said| said < *acknowledged) {
                    return Err(format!(
                        "{what}: refused below {acknowledged}, and its client said {said:?}"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
