//! Keeps the host fed with what is committed, wherever it lives, and remembers what it said last.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use kontiki_raft::{Index, Role, SERVERS_MAX};

use super::incoming::PIECES_WITH_HOST_MAX;
use super::interface::{Output, Refusal};
use super::log::PayloadLog;
use super::standstill::Standstill;
use crate::host::{Done, Host, HostStatus, JOBS_MAX, Job, Quarantine};
use crate::machine::{Growth, Place, Refused, StateMachine, Validator, Version};

/// Bytes of entries handed to the host at once, unless one entry is larger.
const APPLY_BYTES_MAX: usize = 1 << 20;
/// Batches given to a host on a thread and not done: one in work, one to go on with.
const APPLIES_MAX: usize = 2;
/// Jobs that reads do not take: two batches, a role, a digest, a restore, the end, the pieces of a snapshot
/// and the end of one that is given up, and a snapshot for every server that a configuration can have.
const JOBS_KEPT: usize = 7 + PIECES_WITH_HOST_MAX + SERVERS_MAX;

pub(super) struct Applier<R> {
    home: Home<R>,
    validator: Validator,
    growth: Growth,
    machine: &'static str,
    versions: RangeInclusive<Version>,
    /// Handed to the host through here.
    submitted: Index,
    /// As of the last batch that was done.
    status: HostStatus,
    quarantine: Option<Quarantine>,
    /// Whether the machine hangs.
    pub(super) standstill: Standstill,
    applies: usize,
    /// A piece of the state is being hashed.
    digesting: bool,
    /// Jobs given to a host on a thread and not done.
    jobs: usize,
    roles: Roles,
    /// Bytes of entries committed and not applied, as of the last turn.
    unapplied_bytes: usize,
    unapplied_bytes_max: usize,
    /// Confirmed reads of what is not submitted yet.
    reads: BTreeMap<Index, Vec<(Bytes, R)>>,
    reads_waiting: usize,
    /// The host restores a snapshot; this had been submitted before.
    restoring_from: Option<Index>,
}

/// Where the host is.
enum Home<R> {
    /// Here.
    Inline(Box<Host>),
    /// It lives here, and is away to restore a snapshot; it does these once it is back. Bounded as
    /// jobs are.
    Away(Vec<Job<R>>),
    /// On its thread.
    Thread,
}

/// What the machine is told of roles: one at a time, so that a busy one is not flooded with them.
#[derive(Default)]
struct Roles {
    told: Option<Role>,
    is_telling: bool,
    /// The last that changed while it was being told another.
    next: Option<Role>,
}

impl<R> Applier<R> {
    /// Answers the host as well if it is to live on a thread of its own.
    pub(super) fn new(
        machine: Box<dyn StateMachine>,
        unapplied_bytes_max: usize,
    ) -> (Self, Option<Host>) {
        let place = machine.place();
        let (validator, growth, name) = (machine.validator(), machine.growth(), machine.name());
        let versions = machine.versions();
        let host = Host::new(machine);
        let status = host.status();
        let (home, elsewhere) = match place {
            Place::Inline => (Home::Inline(Box::new(host)), None),
            Place::Thread => (Home::Thread, Some(host)),
        };
        let applier = Self {
            home,
            validator,
            growth,
            machine: name,
            versions,
            submitted: Index(0),
            status,
            quarantine: None,
            standstill: Standstill::default(),
            applies: 0,
            digesting: false,
            jobs: 0,
            roles: Roles::default(),
            unapplied_bytes: 0,
            unapplied_bytes_max,
            reads: BTreeMap::new(),
            reads_waiting: 0,
            restoring_from: None,
        };
        (applier, elsewhere)
    }

    pub(super) fn validate(&self, command: &[u8]) -> Result<(), Refusal> {
        let version = self.status.version;
        // It has no part in the state, so a panic costs no more than the command.
        let validate = AssertUnwindSafe(|| (self.validator)(version, command));
        let valid = catch_unwind(validate);
        let valid =
            valid.unwrap_or_else(|_| Err(Refused("the machine's validator panicked".into())));
        valid.map_err(|why| Refusal::RefusedByMachine(why.0))
    }

    /// Whether the command may make the state larger.
    pub(super) fn grows(&self, command: &[u8]) -> bool {
        let grows = AssertUnwindSafe(|| (self.growth)(self.status.version, command));
        catch_unwind(grows).unwrap_or(true)
    }

    /// Jobs that are not done, and reads that wait to be one.
    pub(super) fn jobs(&self) -> usize {
        self.jobs + self.reads_waiting
    }

    pub(super) fn name(&self) -> &'static str {
        self.machine
    }

    pub(super) fn versions(&self) -> RangeInclusive<Version> {
        self.versions.clone()
    }

    /// The machine, if it is on this thread.
    pub(super) fn machine(&self) -> Option<&dyn StateMachine> {
        match &self.home {
            Home::Inline(host) => Some(host.machine()),
            Home::Away(_) | Home::Thread => None,
        }
    }

    pub(super) fn status(&self) -> HostStatus {
        self.status
    }

    pub(super) fn applied(&self) -> Index {
        self.status.applied.index
    }

    /// The machine has been given the entries through here.
    pub(super) fn submitted(&self) -> Index {
        self.submitted
    }

    pub(super) fn quarantine(&self) -> Option<&Quarantine> {
        self.quarantine.as_ref()
    }

    pub(super) fn on_status(&mut self, status: HostStatus) {
        self.status = status;
        self.applies = self.applies.saturating_sub(1);
    }

    /// A piece of the state was hashed.
    pub(super) fn on_digested(&mut self, status: HostStatus) {
        self.status = status;
        self.digesting = false;
    }

    /// There is a piece of the state to be hashed.
    pub(super) fn may_hash(&self) -> bool {
        self.status.hashing && !self.digesting && self.quarantine.is_none()
    }

    /// Remembers the first reason. `true` if there was none.
    pub(super) fn on_quarantine(&mut self, why: Quarantine) -> bool {
        let is_new = self.quarantine.is_none();
        self.quarantine.get_or_insert(why);
        is_new
    }

    /// Looks at how far the machine is behind.
    pub(super) fn measure(&mut self, log: &PayloadLog, commit: Index) {
        self.unapplied_bytes = log.bytes(self.applied(), commit);
    }

    /// Refuses once the machine is too far behind, as of the last turn.
    pub(super) fn check_backlog(&self) -> Result<(), Refusal> {
        if self.unapplied_bytes < self.unapplied_bytes_max {
            return Ok(());
        }
        Err(Refusal::QueueFull {
            what: "backlog of the machine in bytes",
            max: self.unapplied_bytes_max,
        })
    }

    /// The role changed: the job that tells the machine, unless it is being told another; then only
    /// the last of the changes follows.
    pub(super) fn tell(&mut self, role: Role) -> Option<Job<R>> {
        if self.quarantine.is_some() {
            return None;
        }
        self.roles.next = Some(role);
        self.next_role()
    }

    /// The machine was told a role: the job that tells it the next.
    pub(super) fn on_told(&mut self) -> Option<Job<R>> {
        self.roles.is_telling = false;
        self.next_role()
    }

    fn next_role(&mut self) -> Option<Job<R>> {
        if self.roles.is_telling {
            return None;
        }
        let told = self.roles.told;
        let role = self.roles.next.take().filter(|next| Some(*next) != told)?;
        self.roles.told = Some(role);
        self.roles.is_telling = true;
        Some(Job::Role(role))
    }

    /// The next batch for the host, of what is committed; `None` if there is none, or it has enough.
    pub(super) fn next_batch(&mut self, log: &mut PayloadLog, commit: Index) -> Option<Job<R>> {
        let is_away = !matches!(self.home, Home::Inline(_));
        let is_busy = is_away && (self.applies == APPLIES_MAX || self.restoring_from.is_some());
        if self.submitted >= commit || is_busy || self.quarantine.is_some() {
            return None;
        }
        let first = self.submitted.next();
        let last = log.end_of_batch(first, commit, APPLY_BYTES_MAX);
        self.submitted = last;
        self.applies += 1;
        let batch = log.encoded(first, last);
        let count = (last.0 - first.0 + 1) as usize;
        Some(Job::Apply { batch, count })
    }

    /// A confirmed read: to be answered once everything through `index` is applied. Answers the job
    /// if that is submitted already; jobs are done in order.
    pub(super) fn read(
        &mut self,
        index: Index,
        query: Bytes,
        reply: R,
    ) -> Result<Option<Job<R>>, (R, Refusal)> {
        if let Some(why) = &self.quarantine {
            return Err((reply, Refusal::Quarantined(why.clone())));
        }
        if self.jobs + self.reads_waiting + JOBS_KEPT >= JOBS_MAX {
            let (what, max) = ("queue of reads for the machine", JOBS_MAX - JOBS_KEPT);
            return Err((reply, Refusal::QueueFull { what, max }));
        }
        if self.submitted >= index {
            return Ok(Some(Job::Read { query, reply }));
        }
        self.reads_waiting += 1;
        self.reads.entry(index).or_default().push((query, reply));
        Ok(None)
    }

    /// Reads whose entries are submitted by now, or all of them once the host is in quarantine.
    pub(super) fn take_reads(&mut self) -> Vec<(Bytes, R)> {
        if self.reads.is_empty() {
            return Vec::new();
        }
        let later = match self.quarantine {
            Some(_) => BTreeMap::new(),
            None => self.reads.split_off(&self.submitted.next()),
        };
        let due = std::mem::replace(&mut self.reads, later);
        let due: Vec<_> = due.into_values().flatten().collect();
        self.reads_waiting -= due.len();
        due
    }

    /// Has a job done: at once, or by the thread that `outputs` goes to.
    pub(super) fn give(&mut self, job: Job<R>, outputs: &mut Vec<Output<R>>) -> Option<Done<R>> {
        self.digesting |= matches!(job, Job::Digest);
        match &mut self.home {
            Home::Inline(host) => Some(host.run(job)),
            Home::Away(later) => {
                self.jobs += 1;
                later.push(job);
                None
            }
            Home::Thread => {
                self.jobs += 1;
                outputs.push(Output::Job(job));
                None
            }
        }
    }

    /// A thread has done a job.
    pub(super) fn on_done(&mut self) {
        self.jobs -= 1;
    }

    /// Has a snapshot restored, off the node thread. Nothing is applied until that is over.
    pub(super) fn restore(&mut self, job: Job<R>, outputs: &mut Vec<Output<R>>) {
        self.restoring_from = Some(self.submitted);
        match std::mem::replace(&mut self.home, Home::Thread) {
            Home::Inline(host) => {
                self.home = Home::Away(Vec::new());
                outputs.push(Output::Away(host, job));
            }
            Home::Thread => {
                self.jobs += 1;
                outputs.push(Output::Job(job));
            }
            Home::Away(_) => unreachable!("one snapshot at a time"),
        }
    }

    /// The host goes on from the snapshot, or from where it was.
    pub(super) fn on_restored(&mut self, status: Option<&HostStatus>) {
        let before = self.restoring_from.take();
        match (status, before) {
            (Some(status), _) => {
                self.status = *status;
                self.submitted = status.applied.index;
            }
            (None, Some(before)) => self.submitted = before,
            (None, None) => {}
        }
    }

    /// The host is back. Answers what it is to do now.
    pub(super) fn on_back(&mut self, host: Box<Host>) -> Vec<Job<R>> {
        let later = match std::mem::replace(&mut self.home, Home::Inline(host)) {
            Home::Away(later) => later,
            Home::Inline(_) | Home::Thread => unreachable!("it was away"),
        };
        self.jobs -= later.len();
        later
    }
}
