//! Applies committed entries to the machine, in order, each once.

use kontiki_raft::{EntryKind, Index, LogId};

use super::interface::{Answer, Refusal};
use super::log::PayloadLog;
use crate::machine::{Command, StateMachine};

/// Commands handed to the machine at once.
const BATCH_MAX: usize = 1024;

pub(super) struct Applier {
    machine: Box<dyn StateMachine>,
    /// Invariant: only grows, by one entry after the other.
    applied: Index,
    /// The first Activate entry, once applied.
    activated: Option<Index>,
}

/// An entry that was applied.
pub(super) struct Applied {
    pub(super) id: LogId,
    outcome: Outcome,
}

enum Outcome {
    Command(Vec<u8>),
    Activated(Index),
    Nothing,
}

impl Applied {
    pub(super) fn into_answer(self) -> Answer {
        match self.outcome {
            Outcome::Command(reply) => Answer::Written { reply, id: self.id },
            Outcome::Activated(index) => Answer::Activated(index),
            Outcome::Nothing => Answer::Done,
        }
    }
}

impl Applier {
    pub(super) fn new(machine: Box<dyn StateMachine>) -> Self {
        Self {
            machine,
            applied: Index(0),
            activated: None,
        }
    }

    pub(super) fn machine(&self) -> &dyn StateMachine {
        &*self.machine
    }

    pub(super) fn applied(&self) -> Index {
        self.applied
    }

    pub(super) fn activated(&self) -> Option<Index> {
        self.activated
    }

    /// Applies everything up to `commit`.
    pub(super) fn apply(&mut self, log: &PayloadLog, commit: Index) -> Vec<Applied> {
        let mut done = Vec::with_capacity((commit.0 - self.applied.0) as usize);
        let mut batch = Vec::new();
        while self.applied < commit {
            self.applied = self.applied.next();
            let entry = log.get(self.applied).expect("what is committed is held");
            if entry.kind == EntryKind::Command {
                batch.push(Command {
                    id: entry.id,
                    bytes: entry.payload,
                });
                if batch.len() == BATCH_MAX {
                    self.flush(&mut batch, &mut done);
                }
                continue;
            }
            self.flush(&mut batch, &mut done);
            let outcome = match entry.kind {
                EntryKind::Activate => {
                    Outcome::Activated(*self.activated.get_or_insert(entry.id.index))
                }
                _ => Outcome::Nothing,
            };
            done.push(Applied {
                id: entry.id,
                outcome,
            });
        }
        self.flush(&mut batch, &mut done);
        done
    }

    fn flush(&mut self, batch: &mut Vec<Command<'_>>, done: &mut Vec<Applied>) {
        if batch.is_empty() {
            return;
        }
        let replies = self.machine.apply(batch);
        assert_eq!(
            replies.len(),
            batch.len(),
            "a machine answers every command"
        );
        let applied = batch.drain(..).zip(replies);
        done.extend(applied.map(|(command, reply)| Applied {
            id: command.id,
            outcome: Outcome::Command(reply),
        }));
    }

    pub(super) fn read(&self, query: &[u8]) -> Result<Answer, Refusal> {
        let reply = self
            .machine
            .read(query)
            .map_err(|why| Refusal::RefusedByMachine(why.0))?;
        Ok(Answer::Read {
            reply,
            applied: self.applied,
        })
    }
}
