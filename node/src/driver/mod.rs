//! `turn(now, inputs) -> outputs`: the one owner of [`kontiki_raft::Raft`], deterministic.
//!
//! One turn takes everything that came in, steps the engine through all of it, and gives out one
//! batch. It has no thread, clock or socket; the node's loop and the simulator run the same code.
//! In memory mode what is appended counts as persistent at once.
//!
//! - `exchange` messages in and out; `serve` requests; `view` and `inspect` what others may see;
//! - `entry` how an entry is encoded; `log` where the payloads are; `origin` which voters the cluster began with;
//! - `requests` who waits for what; `reads` how fresh an answer is; `sessions` what a leader writes into entries of sessions;
//! - `snapshots` compaction, and snapshots that are sent; `receive` those that are received; `outgoing`,
//!   `incoming`, `piece` by piece;
//! - `state_bytes` what is held, and the limit of it;
//! - `applier` feeds the host of the machine, which may live on another thread;
//! - `counters` what is counted;
//! - `queues` how full what waits is;
//! - `settings` what members are configured with; `warnings` what of it does not fit;
//! - `controls` the control entries in the log; `versions` which version of the machine is in force;
//!   `digests` whether all servers have the same state.

mod applier;
mod controls;
mod counters;
mod digests;
mod envelope;
mod exchange;
mod incoming;
mod inspect;
mod interface;
mod log;
mod origin;
mod outgoing;
mod piece;
mod queues;
mod reads;
mod receive;
mod requests;
mod samples;
mod serve;
mod sessions;
mod settings;
mod snapshots;
mod standstill;
mod state_bytes;
mod status;
mod versions;
mod view;
mod warnings;

/// What is fuzzed by itself.
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz {
    pub(crate) use super::piece::{Header, open, seal};
}

use std::time::Duration;

use bytes::Bytes;
use kontiki_raft::{ClusterId, Config, Raft, Role, ServerId, Time};

use applier::Applier;
use controls::Controls;
use digests::Reports;
use log::PayloadLog;
use origin::Origin;
use requests::{Asked, Requests};
use samples::Samples;
use sessions::SessionClock;
use settings::Comparison;
use snapshots::Snapshots;
use versions::Known;

pub use counters::Counters;
pub use digests::CheckpointConfig;
pub use inspect::{INSPECT_BYTES_MAX, INSPECT_ENTRIES_MAX, Inspection, LogEntry};
pub use interface::*;
pub use queues::Queue;
pub use reads::ReadMode;
pub use samples::Stage;
pub use sessions::SessionBounds;
pub(crate) use settings::COMMAND_BYTES_SAFE;
pub use settings::Settings;
pub use snapshots::SnapshotSettings;
pub use state_bytes::StateBytes;
pub use warnings::{Warning, WarningReason};

use crate::host::{Batch, Done, Host, Job, Quarantine};
use crate::machine::{StateMachine, StopReason};

/// Initial voters of a cluster.
pub const INITIAL_VOTERS_MAX: usize = 9;

/// Settings of a [`Driver`].
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// The engine's.
    pub raft: Config,
    /// The leader activates the cluster by itself (embedded use, where no operator does it).
    pub activate: bool,
    /// Writes that may wait for their outcome; past it they are refused.
    pub pending_writes_max: usize,
    /// How long a membership change that has begun may be waited for; then its outcome is *unknown*.
    pub change_wait_max: Duration,
    /// How snapshots travel.
    pub snapshots: SnapshotSettings,
    /// Bytes of entries committed and not applied; past it a leader refuses writes, and a follower stores
    /// no more entries.
    pub unapplied_bytes_max: usize,
    /// Bytes of the cluster's data that this server may hold; past it, as the leader, it refuses commands
    /// that may make the state larger. `None`: as many as there are.
    pub state_bytes_max: Option<u64>,
    /// Bytes of the largest command that clients may write; the driver does not look at it.
    pub command_bytes_max: usize,
    /// Stale reads are answered.
    pub dirty_read: bool,
    /// While this server leads, reads under a lease are on.
    pub lease_reads: bool,
    /// When digests are taken.
    pub checkpoint: CheckpointConfig,
    /// What this server, when it leads, bounds sessions by.
    pub sessions: SessionBounds,
}

/// One server: engine, payloads, machine, and those who wait.
pub struct Driver<R> {
    raft: Raft,
    log: PayloadLog,
    applier: Applier<R>,
    requests: Requests<R>,
    snapshots: Snapshots,
    activate: bool,
    dirty_read: bool,
    lease_reads: bool,
    cluster: Option<ClusterId>,
    origin: Origin,
    /// The control entries in the log, committed or not.
    controls: Controls,
    known: Known,
    checkpoint: CheckpointConfig,
    /// When this leader began, or appended its last checkpoint.
    checkpoint_at: Option<Time>,
    reports: Reports,
    comparison: Comparison,
    /// When the next piece of the state may be hashed.
    hash_due: Time,
    sessions: SessionClock,
    state_bytes_max: Option<u64>,
    /// As of the beginning of the turn, if there is a limit.
    held: StateBytes,
    standing: Standing,
    counters: Counters,
    samples: Samples,
    now: Time,
    engine_outputs: Vec<kontiki_raft::Output>,
}

impl<R> Driver<R> {
    /// A fresh server, and the host of its machine if that is to live on a thread of its own: it is
    /// given what [`Output::Job`] says, and what it answers goes into [`Input::Done`]. `server` must
    /// never have been used before.
    pub fn new(
        server: ServerId,
        config: DriverConfig,
        machine: Box<dyn StateMachine>,
        now: Time,
    ) -> (Self, Option<Host>) {
        let comparison = Comparison::new(Settings::of(&config));
        let (applier, host) = Applier::new(machine, config.unapplied_bytes_max);
        let tail_bytes = config.raft.log_tail_bytes;
        let raft = Raft::new(server, config.raft, now);
        let standing = Standing {
            role: raft.role(),
            term: raft.term(),
            leader: None,
        };
        let driver = Self {
            raft,
            log: PayloadLog::new(tail_bytes),
            applier,
            requests: Requests::new(config.pending_writes_max, config.change_wait_max),
            snapshots: Snapshots::new(config.snapshots),
            activate: config.activate,
            dirty_read: config.dirty_read,
            lease_reads: config.lease_reads,
            cluster: None,
            origin: Origin::default(),
            controls: Controls::default(),
            known: Known::default(),
            checkpoint: config.checkpoint,
            checkpoint_at: None,
            reports: Reports::default(),
            comparison,
            hash_due: now,
            sessions: SessionClock::new(config.sessions, now),
            state_bytes_max: config.state_bytes_max,
            held: StateBytes::default(),
            standing,
            counters: Counters::default(),
            samples: Samples::default(),
            now,
            engine_outputs: Vec::new(),
        };
        (driver, host)
    }

    /// Takes all `inputs`, appends to `outputs` in order, and answers when the next turn is due at
    /// the latest; it may be `now`.
    pub fn turn(
        &mut self,
        now: Time,
        inputs: &mut Vec<Input<R>>,
        outputs: &mut Vec<Output<R>>,
    ) -> Time {
        self.now = now;
        self.counters.turns += 1;
        self.compact();
        self.raft.tick(now);
        self.follow_log(&Bytes::new());
        self.advance_sessions();
        self.take_stock();
        for input in inputs.drain(..) {
            self.take(input, outputs);
        }
        self.activate_if_alone();
        self.raise_version();
        self.agree_on_leases();
        self.check_digests();
        self.compare_settings();
        self.tick_sessions();
        self.persist();
        self.give_up_useless_snapshot(outputs);
        self.apply(outputs);
        self.watch_machine();
        let hash_due = self.hash_state(outputs);
        let mut engine_outputs = std::mem::take(&mut self.engine_outputs);
        let mut due = self.raft.finish(now, &mut engine_outputs);
        for output in engine_outputs.drain(..) {
            if self.perform(output, outputs) {
                due = now;
            }
        }
        self.engine_outputs = engine_outputs;
        due = due.min(self.send_snapshots(outputs));
        self.log.forget_encoded();
        let waiting_due = self.answer_waiting(outputs);
        self.show_standing(outputs);
        due.min(waiting_due).min(hash_due).min(self.sessions_due())
    }

    fn take(&mut self, input: Input<R>, outputs: &mut Vec<Output<R>>) {
        match input {
            Input::Peer(envelope) => self.receive(envelope, outputs),
            Input::Connected(peer) => self.raft.connected(peer),
            Input::Disconnected(peer, loss) => {
                self.raft.disconnected(self.now, peer, loss == Loss::Gone);
            }
            Input::SnapshotsConnected(peer) => self.on_snapshots_connected(peer),
            Input::Write { command, reply } => self.write(&command, reply, outputs),
            Input::WriteInSession {
                command,
                cluster,
                stamp,
                reply,
            } => self.write_in_session(&command, cluster, stamp, reply, outputs),
            Input::OpenSession { reply } => self.open_session(reply, outputs),
            Input::CloseSession {
                cluster,
                session,
                reply,
            } => self.close_session(cluster, session, reply, outputs),
            Input::Read {
                query,
                mode,
                forward,
                reply,
            } => self.take_read(query, mode, forward, reply, outputs),
            Input::Bootstrap {
                cluster,
                voters,
                reply,
            } => {
                let result = self.bootstrap(cluster, voters).map(|()| Answer::Done);
                self.answer(reply, result, outputs);
            }
            Input::Activate { reply } => self.activate(reply, outputs),
            Input::Change {
                change,
                until,
                reply,
            } => {
                // A leader that has committed nothing yet says so instead of waiting.
                if self.raft.role() == Role::Leader && !self.raft.is_term_committed() {
                    return self.answer(reply, Err(Refusal::NoCommit), outputs);
                }
                self.ask(
                    Asked::Change {
                        change,
                        until,
                        reply,
                    },
                    outputs,
                );
            }
            Input::Runs { server, versions } => self.learn_versions(server, &versions),
            Input::Transfer { target, reply } => self.transfer(target, reply, outputs),
            Input::Quarantine { why, reply } => self.quarantine_survivor(why, reply, outputs),
            Input::TriggerElection { reply } => {
                let result = self.raft.trigger_election(self.now);
                let result = result.map_err(|refused| self.refusal(refused));
                self.follow_log(&Bytes::new());
                let result = result.map(|()| Answer::Triggered(self.raft.term()));
                self.answer(reply, result, outputs);
            }
            Input::Done(done) => {
                self.applier.on_done();
                self.on_done(done, outputs);
            }
            Input::Back(host, done) => {
                let later = self.applier.on_back(host);
                self.on_done(done, outputs);
                for job in later {
                    self.give(job, outputs);
                }
            }
            Input::Inspect {
                first,
                payload_bytes_max,
                reply,
            } => {
                let inspection = self.inspect(first, payload_bytes_max);
                let answer = Answer::Inspected(Box::new(inspection));
                outputs.push(Output::Reply(reply, Ok(answer)));
            }
            Input::Status { reply } => {
                let status = Answer::Status(Box::new(self.status()));
                outputs.push(Output::Reply(reply, Ok(status)));
            }
        }
    }

    // --- the end of a turn --------------------------------------------------------------------

    /// Hands over what is committed, and what waits for it.
    fn apply(&mut self, outputs: &mut Vec<Output<R>>) {
        let commit = self.raft.commit();
        if commit > self.applier.applied() {
            self.samples.on_committed(commit, self.now);
        }
        while let Some(job) = self.applier.next_batch(&mut self.log, commit) {
            self.give(job, outputs);
        }
        self.applier.measure(&self.log, commit);
        for (query, reply) in self.applier.take_reads() {
            match self.applier.quarantine().cloned() {
                Some(why) => self.answer(reply, Err(Refusal::Quarantined(why)), outputs),
                None => self.give(Job::Read { query, reply }, outputs),
            }
        }
    }

    fn give(&mut self, job: Job<R>, outputs: &mut Vec<Output<R>>) {
        if let Some(done) = self.applier.give(job, outputs) {
            self.on_done(done, outputs);
        }
    }

    fn on_done(&mut self, done: Done<R>, outputs: &mut Vec<Output<R>>) {
        match done {
            Done::Applied(batch) => self.on_applied(*batch, outputs),
            Done::Read {
                reply,
                result,
                quarantine,
            } => {
                self.answer(reply, result, outputs);
                if let Some(why) = quarantine {
                    self.quarantine(why, outputs);
                }
            }
            Done::Digested(status) => self.applier.on_digested(status),
            Done::Told(mut effects) => {
                let effects = effects.take().into_iter().map(|(_, effect)| effect);
                outputs.extend(effects.map(Output::Effect));
                if let Some(job) = self.applier.on_told() {
                    self.give(job, outputs);
                }
            }
            Done::Stopped => {}
            Done::Snapshot { to, view } => self.on_snapshot_taken(to, view),
            Done::Received { attempt, result } => self.on_piece_taken(attempt, result, outputs),
            Done::GaveUp(rest) => {
                self.on_given_up();
                outputs.push(Output::Discard(rest));
            }
            Done::Restored(result) => self.on_restored(result, outputs),
            Done::Quarantined(why) => {
                self.quarantine(why, outputs);
                self.on_restored(Err("the machine is in quarantine".into()), outputs);
            }
        }
    }

    fn on_applied(&mut self, mut batch: Batch, outputs: &mut Vec<Output<R>>) {
        let from = self.applier.applied();
        let through = batch.status.applied.index;
        self.applier.on_status(batch.status);
        self.raft.set_lease_reads(batch.status.lease_reads);
        self.controls.settle(through);
        // An effect is the leader's whose entry it is: of no other server, and not after its term.
        let term = self.raft.term();
        let is_leader = self.raft.role() == Role::Leader;
        for (id, effect) in batch.effects.take() {
            if is_leader && id.term == term {
                outputs.push(Output::Effect(effect));
            }
        }
        for applied in batch.entries {
            self.counters.repeated += u64::from(applied.is_repeated());
            let mut applied = Some(applied);
            while let Some(index) = applied.as_ref().map(|applied| applied.id.index)
                && let Some((id, reply)) = self.requests.take_write(index)
            {
                let Some(reply) = reply else { continue };
                let result = match applied.take_if(|applied| applied.id == id) {
                    Some(applied) => applied.into_answer(self.cluster),
                    // Another entry took its place for ever.
                    None => Err(self.not_leader()),
                };
                self.answer(reply, result, outputs);
            }
        }
        self.counters.applied += through.0 - from.0;
        self.samples.on_applied(through, self.now);
        if let Some(why) = batch.quarantine {
            self.quarantine(why, outputs);
        }
    }

    /// Stops applying, campaigning and serving; keeps log and memory.
    fn quarantine(&mut self, why: Quarantine, outputs: &mut Vec<Output<R>>) {
        if !self.applier.on_quarantine(why) {
            return;
        }
        self.raft.retire(self.now);
        self.follow_log(&Bytes::new());
        for (_, reply) in self.requests.take_writes() {
            if let Some(reply) = reply {
                self.answer(reply, Err(Refusal::OutcomeUnknown), outputs);
            }
        }
    }

    /// The server ends: tells the machine why.
    pub fn stop(&mut self, reason: StopReason, outputs: &mut Vec<Output<R>>) {
        self.give(Job::Stop(reason), outputs);
    }

    /// Answers those whose wish has come true, or cannot any more.
    fn answer_waiting(&mut self, outputs: &mut Vec<Output<R>>) -> Time {
        if self.requests.nobody_waits() {
            return Time::NEVER;
        }
        let standing = self.current_standing();
        let (index, committed) = self.raft.committed_configuration();
        let status = ConfigurationStatus {
            index,
            committed: true,
            configuration: committed.clone(),
        };
        let leads = standing.role == Role::Leader;
        let in_force = self.raft.configuration().1;
        let raft = &self.raft;
        let holds_configuration = |server| {
            server == raft.id()
                || raft
                    .progress()
                    .any(|peer| peer.server == server && peer.matched >= index)
        };
        let answered = self.requests.take_answered_changes(
            self.now,
            &status,
            in_force,
            leads,
            holds_configuration,
        );
        let transferring = self.raft.is_transferring();
        let transfers =
            self.requests
                .take_answered_transfers(self.now, self.raft.id(), standing, transferring);
        for (reply, result) in answered.into_iter().chain(transfers) {
            self.answer(reply, result, outputs);
        }
        self.requests.due()
    }
}

#[cfg(test)]
mod tests;
