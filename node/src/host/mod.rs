//! The replicated state of one server, and the only caller of its machine: entries in, answers out.
//!
//! Everything that the log decides besides membership is here: the machine's state, whether writes
//! are accepted, the version in force, the sessions, and whether this server's state is what the
//! others' is. It is asked by [`Job`]s, one after the other, and answers each with a [`Done`], so that
//! it can live on the node thread or on one of its own.

mod control;
mod digest;
mod job;
mod receiving;
mod sessions;
mod snapshot;
mod worker;

use std::fmt;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kontiki_raft::{EntryKind, Index, LogId};

use crate::driver::{Answer, Refusal};
use crate::entry::{self, Decoded};
use crate::machine::{Command, Effects, StateMachine, Version};

pub use control::Control;
use digest::{Differs, Digests};
pub use digest::{Digest, Rolling};
pub use job::{Applied, Batch, Done, HostStatus, Job, Outcome};
pub use receiving::Discarded;
use receiving::Receiving;
pub use sessions::{
    Admission, Clock, DecodeError, Opening, Remembered, SessionId, SessionRefusal, Sessions,
    SessionsStatus, Stamp,
};
use snapshot::BothViews;
pub use snapshot::HostView;
pub use worker::{JOBS_MAX, Worker};

/// Commands handed to the machine at once.
const BATCH_MAX: usize = 1024;
/// Bytes of the state hashed by one [`Job::Digest`]: some 25 us, and what the view takes to write them.
const DIGEST_BYTES_MAX: usize = 256 << 10;

/// Why a server is quarantined: it applies, campaigns and serves no more, and keeps its memory.
pub type Quarantine = String;

/// The replicated state of one server.
pub struct Host {
    machine: Box<dyn StateMachine>,
    /// Invariant: only grows, by one entry after the other, or to where a snapshot is.
    applied: LogId,
    /// The first Activate entry, once applied.
    activated: Option<Index>,
    /// Reads under a lease are on.
    lease_reads: bool,
    /// In force; 0 before the first is. Invariant: never falls.
    version: Version,
    /// What this program can run.
    versions: RangeInclusive<Version>,
    sessions: Sessions,
    digests: Digests,
    /// Commands and configurations applied since the last checkpoint.
    unchecked: u64,
    /// The snapshot that is being taken in.
    receiving: Option<Receiving>,
    /// What the machine said last that its state takes.
    machine_bytes: usize,
    /// Once set, the machine is not called any more: its state may be half changed.
    quarantine: Option<Quarantine>,
}

/// Commands that the machine is about to be given.
struct Gathered<'a> {
    commands: Vec<Command<'a>>,
    /// Those of sessions, by their place among them.
    stamps: Vec<(usize, Stamp)>,
}

impl<'a> Gathered<'a> {
    fn push_stamped(&mut self, id: LogId, bytes: &'a [u8], stamp: Stamp) {
        self.stamps.push((self.commands.len(), stamp));
        self.commands.push(Command { id, bytes });
    }
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
            versions: machine.versions(),
            machine_bytes: machine.size(),
            machine,
            applied: LogId::default(),
            activated: None,
            lease_reads: false,
            version: 0,
            sessions: Sessions::default(),
            digests: Digests::default(),
            unchecked: 0,
            receiving: None,
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
            lease_reads: self.lease_reads,
            version: self.version,
            unchecked: self.unchecked,
            hashing: self.digests.is_hashing(),
            digest: self.digests.last(),
            sessions: self.sessions.status(),
            machine_bytes: self.machine_bytes,
        }
    }

    /// Does a job. A machine that panics in it is never called again.
    pub fn run<R>(&mut self, job: Job<R>) -> Done<R> {
        match job {
            Job::Apply { batch, count } => {
                let mut applied = Box::<Batch>::default();
                applied.entries.reserve_exact(count);
                match self.guarded("apply", |host| host.apply(&batch, count, &mut applied)) {
                    Ok(result) => {
                        self.quarantine = result.err();
                        applied.quarantine = self.quarantine.clone();
                        applied.status = self.status();
                        Done::Applied(applied)
                    }
                    Err(why) => Done::Quarantined(why),
                }
            }
            Job::Digest => {
                let hashed = |host: &mut Self| host.digests.go_on(DIGEST_BYTES_MAX);
                match self.guarded("a view of its state", hashed) {
                    Ok(Ok(())) => Done::Digested(self.status()),
                    Ok(Err(differs)) => {
                        Done::Quarantined(self.quarantine.insert(contradicted(differs)).clone())
                    }
                    Err(why) => Done::Quarantined(why),
                }
            }
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
            Job::Receive { attempt, piece } => {
                match self.guarded("restore", |host| host.receive(attempt, &piece)) {
                    Ok(result) => Done::Received { attempt, result },
                    Err(why) => Done::Quarantined(why),
                }
            }
            Job::GiveUp => Done::GaveUp(Discarded::new(self.receiving.take())),
            Job::Restore { last } => match self.guarded("restore", |host| host.restore(last)) {
                Ok(Ok(())) => Done::Restored(Ok(self.status())),
                Ok(Err(why)) => Done::Restored(Err(why.0)),
                Err(why) => Done::Quarantined(why),
            },
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

    /// Stops before the first entry that must not be applied here, and says why.
    fn apply(&mut self, encoded: &[u8], count: usize, batch: &mut Batch) -> Result<(), Quarantine> {
        let mut gathered = Gathered {
            commands: Vec::with_capacity(count.min(BATCH_MAX)),
            stamps: Vec::new(),
        };
        let mut rest = encoded;
        while let Some(entry) = entry::decode_trusted(rest) {
            rest = &rest[entry.size..];
            assert_eq!(
                entry.id.index,
                Index(self.applied.index.0 + gathered.commands.len() as u64 + 1),
                "entries are applied in order"
            );
            self.take(&entry, &mut gathered, batch)?;
            if gathered.commands.len() == BATCH_MAX {
                self.flush(&mut gathered, batch)?;
            }
        }
        self.flush(&mut gathered, batch)?;
        self.machine_bytes = self.machine.size();
        Ok(())
    }

    /// Gathers a command for the machine; decides anything else, after those that are gathered.
    fn take<'a>(
        &mut self,
        entry: &Decoded<'a>,
        gathered: &mut Gathered<'a>,
        batch: &mut Batch,
    ) -> Result<(), Quarantine> {
        let (id, bytes) = (entry.id, entry.payload);
        let outcome = match &entry.kind {
            EntryKind::Command => {
                gathered.commands.push(Command { id, bytes });
                return Ok(());
            }
            EntryKind::Control => match Control::decode(bytes) {
                Some(Control::InSession {
                    time,
                    stamp,
                    command,
                }) => match self.sessions.admit(time, stamp, id) {
                    Admission::Apply => {
                        gathered.push_stamped(id, command, stamp);
                        return Ok(());
                    }
                    Admission::Repeated => {
                        // The first may be among those gathered, and not have its reply yet.
                        self.flush(gathered, batch)?;
                        self.repeated(stamp)
                    }
                    Admission::Refused(why) => {
                        self.flush(gathered, batch)?;
                        Outcome::Refused(why.into())
                    }
                },
                control => {
                    self.flush(gathered, batch)?;
                    return self.decide(id, control, batch);
                }
            },
            EntryKind::Configuration(configuration) => {
                self.flush(gathered, batch)?;
                let effects = &mut batch.effects;
                self.machine.on_configuration(id, configuration, effects);
                self.unchecked += 1;
                Outcome::Nothing
            }
            EntryKind::Noop => {
                self.flush(gathered, batch)?;
                Outcome::Nothing
            }
        };
        self.digests.rolling.entry(id);
        match &outcome {
            Outcome::Repeated { reply, .. } => self.digests.rolling.repeated(reply),
            Outcome::Refused(_) => self.digests.rolling.refused(),
            _ => {}
        }
        self.settle(id, outcome, batch);
        Ok(())
    }

    fn flush(&mut self, gathered: &mut Gathered<'_>, batch: &mut Batch) -> Result<(), Quarantine> {
        let Some(last) = gathered.commands.last().map(|command| command.id) else {
            return Ok(());
        };
        self.check_version()?;
        let commands = &mut gathered.commands;
        let replies = self
            .machine
            .apply(self.version, commands, &mut batch.effects);
        assert_eq!(
            replies.len(),
            commands.len(),
            "a machine answers every command"
        );
        self.unchecked += commands.len() as u64;
        for (at, stamp) in gathered.stamps.drain(..) {
            self.sessions
                .remember(stamp.session, stamp.sequence, &replies[at]);
        }
        for (command, reply) in commands.drain(..).zip(replies) {
            self.digests.rolling.entry(command.id);
            self.digests.rolling.reply(&reply);
            batch.entries.push(Applied {
                id: command.id,
                outcome: Outcome::Reply(reply),
            });
        }
        self.applied = last;
        Ok(())
    }

    /// An entry that the machine has no command of was applied.
    fn settle(&mut self, id: LogId, outcome: Outcome, batch: &mut Batch) {
        self.applied = id;
        batch.entries.push(Applied { id, outcome });
    }

    /// The answer to a command that was applied before.
    fn repeated(&self, stamp: Stamp) -> Outcome {
        let first = self.sessions.remembered(stamp.session, stamp.sequence);
        match first.expect("it was admitted as repeated") {
            Remembered {
                id,
                reply: Some(reply),
            } => Outcome::Repeated {
                reply: reply.into(),
                id,
            },
            Remembered { id, reply: None } => Outcome::Refused(Refusal::ReplyForgotten(id)),
        }
    }

    /// A command must be applied the way that everyone applies it, or not at all.
    fn check_version(&self) -> Result<(), Quarantine> {
        if self.versions.contains(&self.version) {
            return Ok(());
        }
        let (name, applied) = (self.machine.name(), self.applied);
        let (version, low, high) = (self.version, self.versions.start(), self.versions.end());
        Err(format!(
            "the command after entry {applied} is to be applied under version {version} of the \
             machine {name}, and this program runs {low} to {high}: replace this server by one that \
             runs {version}"
        ))
    }

    /// A control entry that is no command of the machine.
    fn decide(
        &mut self,
        id: LogId,
        control: Option<Control<'_>>,
        batch: &mut Batch,
    ) -> Result<(), Quarantine> {
        self.digests.rolling.entry(id);
        let mut outcome = Outcome::Nothing;
        match control {
            Some(Control::Activate) => {
                outcome = Outcome::Activated(*self.activated.get_or_insert(id.index));
            }
            Some(Control::Version(version)) => self.version = self.version.max(version),
            Some(Control::Checkpoint) => {
                self.unchecked = 0;
                let view = BothViews::new(self.sessions.clone(), self.machine.snapshot());
                self.digests.begin(id.index, || Box::new(view));
            }
            Some(Control::Verdict(verdict)) => {
                self.digests.judge(verdict).map_err(contradicted)?;
            }
            Some(Control::OpenSession(opening)) => {
                let session = SessionId(id.index.0);
                self.sessions.open(session, &opening);
                outcome = Outcome::SessionOpened(session);
            }
            Some(Control::CloseSession(session)) => self.sessions.close(session),
            Some(Control::Clock(clock)) => self.sessions.tick(&clock),
            Some(Control::LeaseReads(are_on)) => self.lease_reads = are_on,
            Some(Control::InSession { .. }) => unreachable!("gathered, repeated or refused"),
            // Of a later program: nothing that this one could have answered for.
            None => {}
        }
        self.settle(id, outcome, batch);
        Ok(())
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

/// Why a server is quarantined whose digest is not that of the majority.
fn contradicted(Differs { mine, theirs }: Differs) -> Quarantine {
    let (index, value) = (mine.index.0, mine.value);
    format!(
        "its state differs: at entry {index} its digest is {value:016x}, and that of a majority of \
         voters {theirs:016x}; the machine is not deterministic, or memory changed: replace this \
         server"
    )
}

#[cfg(test)]
mod tests;
