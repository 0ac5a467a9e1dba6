//! The replicated state of one server, and the only caller of its machine: entries in, answers out.
//!
//! Everything that the log decides besides membership is here: the machine's state, whether writes
//! are accepted, the version in force. It is asked by [`Job`]s, one after the other, and answers each
//! with a [`Done`], so that it can live on the node thread or on one of its own.

mod control;
mod job;
mod snapshot;
mod worker;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kontiki_raft::{EntryKind, Index, LogId};

use crate::driver::{Answer, Refusal};
use crate::entry::{self, Decoded};
use crate::machine::{Command, Effects, StateMachine, Version};

pub use control::Control;
pub use job::{Applied, Batch, Done, HostStatus, Job, Outcome};
pub use snapshot::HostView;
pub use worker::{JOBS_MAX, Worker};

/// Commands handed to the machine at once.
const BATCH_MAX: usize = 1024;

/// Why a server is quarantined: it applies, campaigns and serves no more, and keeps its memory.
pub type Quarantine = String;

/// The replicated state of one server.
pub struct Host {
    machine: Box<dyn StateMachine>,
    /// Invariant: only grows, by one entry after the other, or to where a snapshot is.
    applied: LogId,
    /// The first Activate entry, once applied.
    activated: Option<Index>,
    /// In force.
    version: Version,
    /// Once set, the machine is not called any more: its state may be half changed.
    quarantine: Option<Quarantine>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host of {} at {}", self.machine.name(), self.applied)
    }
}

impl Host {
    /// Around a machine in its initial state.
    pub fn new(machine: Box<dyn StateMachine>) -> Self {
        Self {
            machine,
            applied: LogId::default(),
            activated: None,
            version: 1,
            quarantine: None,
        }
    }

    /// The machine, to look at.
    pub fn machine(&self) -> &dyn StateMachine {
        &*self.machine
    }

    /// What others may see of it.
    pub fn status(&self) -> HostStatus {
        HostStatus {
            applied: self.applied,
            activated: self.activated,
            version: self.version,
        }
    }

    /// Does a job. A machine that panics in it is never called again.
    pub fn run<R>(&mut self, job: Job<R>) -> Done<R> {
        match job {
            Job::Apply { batch } => match self.guarded("apply", |host| host.apply(&batch)) {
                Ok(batch) => Done::Applied(Box::new(batch)),
                Err(why) => Done::Quarantined(why),
            },
            Job::Read { query, reply } => {
                let result = self.guarded("read", |host| host.read(&query));
                let result = result.unwrap_or_else(|why| Err(Refusal::Quarantined(why)));
                Done::Read {
                    reply,
                    result,
                    quarantine: self.quarantine.clone(),
                }
            }
            Job::Role(role) => {
                let mut effects = Effects::default();
                let told = self.guarded("on_role", |host| host.machine.on_role(role, &mut effects));
                match told {
                    Ok(()) => Done::Told(effects),
                    Err(why) => Done::Quarantined(why),
                }
            }
            Job::Snapshot { to } => match self.guarded("snapshot", |host| host.view()) {
                Ok(view) => Done::Snapshot { to, view },
                Err(why) => Done::Quarantined(why),
            },
            Job::Restore { last, mut state } => {
                match self.guarded("restore", |host| host.restore(last, &mut state)) {
                    Ok(Ok(())) => Done::Restored(Ok(self.status())),
                    Ok(Err(why)) => Done::Restored(Err(why.0)),
                    Err(why) => Done::Quarantined(why),
                }
            }
            Job::Stop(reason) => match self.guarded("stop", |host| host.machine.stop(&reason)) {
                Ok(()) => Done::Stopped,
                Err(why) => Done::Quarantined(why),
            },
        }
    }

    /// Calls the machine, unless it is in quarantine, and puts it there if it panics.
    fn guarded<T>(
        &mut self,
        what: &str,
        call: impl FnOnce(&mut Self) -> T,
    ) -> Result<T, Quarantine> {
        if let Some(why) = &self.quarantine {
            return Err(why.clone());
        }
        catch_unwind(AssertUnwindSafe(|| call(self))).map_err(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            let why = format!(
                "the machine panicked in {what} after entry {}: {}",
                self.applied,
                text.as_deref().unwrap_or("no message")
            );
            self.quarantine.insert(why).clone()
        })
    }

    fn apply(&mut self, encoded: &[u8]) -> Batch {
        let mut batch = Batch::default();
        let mut commands = Vec::new();
        let mut rest = encoded;
        while let Some(entry) = entry::decode_trusted(rest) {
            rest = &rest[entry.size..];
            assert_eq!(
                entry.id.index,
                Index(self.applied.index.0 + commands.len() as u64 + 1),
                "entries are applied in order"
            );
            if entry.kind == EntryKind::Command {
                commands.push(Command {
                    id: entry.id,
                    bytes: entry.payload,
                });
                if commands.len() < BATCH_MAX {
                    continue;
                }
                self.flush(&mut commands, &mut batch);
            } else {
                self.flush(&mut commands, &mut batch);
                self.decide(&entry, &mut batch);
            }
        }
        self.flush(&mut commands, &mut batch);
        batch.status = self.status();
        batch
    }

    fn flush(&mut self, commands: &mut Vec<Command<'_>>, batch: &mut Batch) {
        let Some(last) = commands.last().map(|command| command.id) else {
            return;
        };
        let replies = self
            .machine
            .apply(self.version, commands, &mut batch.effects);
        assert_eq!(
            replies.len(),
            commands.len(),
            "a machine answers every command"
        );
        let applied = commands.drain(..).zip(replies);
        batch
            .entries
            .extend(applied.map(|(command, reply)| Applied {
                id: command.id,
                outcome: Outcome::Reply(reply),
            }));
        self.applied = last;
    }

    /// An entry that is no command of the machine.
    fn decide(&mut self, entry: &Decoded<'_>, batch: &mut Batch) {
        let id = entry.id;
        let outcome = match &entry.kind {
            EntryKind::Control => match Control::decode(entry.payload) {
                Some(Control::Activate) => {
                    Outcome::Activated(*self.activated.get_or_insert(id.index))
                }
                // Of a later program: nothing that this one could have answered for.
                None => Outcome::Nothing,
            },
            EntryKind::Configuration(configuration) => {
                let effects = &mut batch.effects;
                self.machine.on_configuration(id, configuration, effects);
                Outcome::Nothing
            }
            EntryKind::Noop | EntryKind::Command => Outcome::Nothing,
        };
        self.applied = id;
        batch.entries.push(Applied { id, outcome });
    }

    fn read(&self, query: &[u8]) -> Result<Answer, Refusal> {
        let refused = |why: crate::machine::Refused| Refusal::RefusedByMachine(why.0);
        let reply = self.machine.read(query).map_err(refused)?;
        Ok(Answer::Read {
            reply,
            applied: self.applied.index,
        })
    }
}

#[cfg(test)]
mod tests;
