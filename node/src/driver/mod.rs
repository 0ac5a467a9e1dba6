//! `turn(now, inputs) -> outputs`: the one owner of [`kontiki_raft::Raft`], deterministic.
//!
//! One turn takes everything that came in, steps the engine through all of it, and gives out one
//! batch. It has no thread, clock or socket; the node's loop and the simulator run the same code.
//! In memory mode what is appended counts as persistent at once.
//!
//! - `exchange` messages in and out; `serve` requests; `view` what others may see;
//! - `entry` how an entry is encoded; `log` where the payloads are;
//! - `requests` who waits for what;
//! - `applier` the machine, and what else follows from applied entries.

mod applier;
mod entry;
mod exchange;
mod interface;
mod log;
mod requests;
mod samples;
mod serve;
mod view;

use bytes::Bytes;
use kontiki_raft::{ClusterId, Config, Index, Raft, Role, ServerId, Time};

use applier::Applier;
use log::PayloadLog;
use requests::{Asked, Requests};
use samples::Samples;

pub use interface::*;
pub use samples::Stage;

use crate::machine::StateMachine;

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
}

/// One server: engine, payloads, machine, and those who wait.
pub struct Driver<R> {
    raft: Raft,
    log: PayloadLog,
    applier: Applier,
    requests: Requests<R>,
    activate: bool,
    cluster: Option<ClusterId>,
    /// The initial voters, if it was this server that was told.
    bootstrapped: Option<Vec<ServerId>>,
    /// The Activate entry in the log, committed or not.
    activate_entry: Option<Index>,
    standing: Standing,
    counters: Counters,
    samples: Samples,
    now: Time,
    engine_outputs: Vec<kontiki_raft::Output>,
}

impl<R> Driver<R> {
    /// A fresh server. `server` must never have been used before.
    pub fn new(
        server: ServerId,
        config: DriverConfig,
        machine: Box<dyn StateMachine>,
        now: Time,
    ) -> Self {
        let raft = Raft::new(server, config.raft, now);
        let standing = Standing {
            role: raft.role(),
            term: raft.term(),
            leader: None,
        };
        Self {
            raft,
            log: PayloadLog::default(),
            applier: Applier::new(machine),
            requests: Requests::new(config.pending_writes_max),
            activate: config.activate,
            cluster: None,
            bootstrapped: None,
            activate_entry: None,
            standing,
            counters: Counters::default(),
            samples: Samples::default(),
            now,
            engine_outputs: Vec::new(),
        }
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
        self.raft.tick(now);
        self.follow_log(&Bytes::new());
        for input in inputs.drain(..) {
            self.take(input, outputs);
        }
        self.activate_if_alone();
        self.persist();
        self.apply(outputs);
        let mut engine_outputs = std::mem::take(&mut self.engine_outputs);
        let mut due = self.raft.finish(now, &mut engine_outputs);
        for output in engine_outputs.drain(..) {
            if self.perform(output, outputs) {
                due = now;
            }
        }
        self.engine_outputs = engine_outputs;
        self.log.forget_encoded();
        let waiting_due = self.answer_waiting(outputs);
        self.show_standing(outputs);
        due.min(waiting_due)
    }

    fn take(&mut self, input: Input<R>, outputs: &mut Vec<Output<R>>) {
        match input {
            Input::Peer(envelope) => self.receive(envelope),
            Input::Connected(peer) => self.raft.connected(peer),
            Input::Disconnected(peer, loss) => {
                self.raft.disconnected(self.now, peer, loss == Loss::Gone);
            }
            Input::Write { command, reply } => self.write(&command, reply, outputs),
            Input::Read {
                query,
                stale,
                reply,
            } => {
                if stale {
                    self.read_stale(&query, reply, outputs);
                } else {
                    self.ask(Asked::Query { query, reply }, outputs);
                }
            }
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
            Input::Transfer { target, reply } => self.transfer(target, reply, outputs),
            Input::TriggerElection { reply } => {
                let result = self.raft.trigger_election(self.now).map_err(Refusal::from);
                self.follow_log(&Bytes::new());
                let result = result.map(|()| Answer::Triggered(self.raft.term()));
                self.answer(reply, result, outputs);
            }
            Input::Status { reply } => {
                let status = Answer::Status(Box::new(self.status()));
                outputs.push(Output::Reply(reply, Ok(status)));
            }
        }
    }

    // --- the end of a turn --------------------------------------------------------------------

    fn apply(&mut self, outputs: &mut Vec<Output<R>>) {
        let commit = self.raft.commit();
        if commit == self.applier.applied() {
            return;
        }
        self.samples.on_committed(commit, self.now);
        let from = self.applier.applied();
        for applied in self.applier.apply(&self.log, commit) {
            let mut applied = Some(applied);
            while let Some(index) = applied.as_ref().map(|applied| applied.id.index)
                && let Some((id, reply)) = self.requests.take_write(index)
            {
                let Some(reply) = reply else { continue };
                let result = match applied.take_if(|applied| applied.id == id) {
                    Some(applied) => Ok(applied.into_answer()),
                    // Another entry took its place for ever.
                    None => Err(self.not_leader()),
                };
                self.answer(reply, result, outputs);
            }
        }
        self.counters.applied += commit.0 - from.0;
        self.samples.on_applied(commit, self.now);
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
        let answered =
            self.requests
                .take_answered_changes(&status, in_force, leads, holds_configuration);
        let transferring = self.raft.is_transferring();
        let transfers =
            self.requests
                .take_answered_transfers(self.now, self.raft.id(), standing, transferring);
        for (reply, result) in answered.into_iter().chain(transfers) {
            self.answer(reply, result, outputs);
        }
        self.requests.due()
    }

    fn show_standing(&mut self, outputs: &mut Vec<Output<R>>) {
        let standing = self.current_standing();
        if standing == self.standing {
            return;
        }
        let was = std::mem::replace(&mut self.standing, standing);
        self.counters.elected +=
            u64::from(standing.role == Role::Leader && was.role != Role::Leader);
        self.counters.campaigns +=
            u64::from(self.raft.vote() == Some(self.raft.id()) && standing.term > was.term);
        outputs.push(Output::Standing(standing));
    }
}
