//! `turn(now, inputs) -> outputs`: the one owner of [`kontiki_raft::Raft`], deterministic.
//!
//! One turn takes everything that came in, steps the engine through all of it, and gives out one
//! batch. It has no thread, clock or socket; the node's loop and the simulator run the same code.
//! In memory mode what is appended counts as persistent at once.
//!
//! - `entry` how an entry is encoded; `log` where the payloads are;
//! - `requests` who waits for what;
//! - `applier` the machine, and what else follows from applied entries.

mod applier;
mod entry;
mod interface;
mod log;
mod requests;
mod samples;

use std::time::Duration;

use bytes::Bytes;
use kontiki_raft::{
    ClusterId, Config, Configuration, EntryKind, EntryMeta, Index, LogChange, LogId, Message, Raft,
    ReadId, Role, ServerId, Time,
};

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
        self.activate_if_alone(outputs);
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

    // --- messages -----------------------------------------------------------------------------

    fn receive(&mut self, envelope: Envelope) {
        let me = self.raft.id();
        if envelope.to != me || envelope.from == me {
            self.counters.dropped_wrong_server += 1;
            return;
        }
        let is_stranger = match self.cluster {
            Some(cluster) => cluster != envelope.cluster,
            // Who knows this exact id was told it by the cluster that wants this server.
            None => envelope.cluster == ClusterId(0) || envelope.message.is_reply(),
        };
        if is_stranger {
            self.counters.dropped_wrong_cluster += 1;
            return;
        }
        let Some(entries) = decode_batch(&envelope) else {
            self.counters.dropped_malformed += 1;
            return;
        };
        self.cluster = Some(envelope.cluster);
        self.raft
            .receive(self.now, envelope.from, envelope.message, &entries);
        self.follow_log(&envelope.batch);
    }

    /// Does to the payloads what the engine did to its log. `batch` is what came with the message
    /// just received.
    fn follow_log(&mut self, batch: &Bytes) {
        loop {
            let changes = self.raft.take_log_changes();
            if changes.is_empty() {
                return;
            }
            for change in changes {
                match change {
                    LogChange::Truncated { after } => {
                        self.log.truncate(after);
                        self.activate_entry = self.activate_entry.filter(|entry| *entry <= after);
                    }
                    LogChange::Received { from, to } => self.store(batch, from, to),
                    LogChange::Created { id, kind } => {
                        self.log.push(id, &kind, &[]);
                    }
                }
            }
            self.persist();
        }
    }

    fn store(&mut self, batch: &Bytes, from: Index, to: Index) {
        let mut rest = &batch[..];
        while let Some(decoded) = entry::decode_trusted(rest) {
            let (encoded, after) = rest.split_at(decoded.size);
            let index = decoded.id.index;
            if (from..=to).contains(&index) {
                if decoded.kind == EntryKind::Activate {
                    self.activate_entry.get_or_insert(index);
                }
                self.log.push_encoded(index, encoded);
            }
            rest = after;
        }
    }

    /// In memory mode what is in the log is as persistent as it gets.
    fn persist(&mut self) {
        let (last, generation) = (self.raft.last(), self.raft.generation());
        self.raft.persisted(self.now, last, generation);
        self.samples.on_persisted(self.now);
        if self.raft.last() != last {
            self.follow_log(&Bytes::new());
        }
    }

    /// Performs one output of the engine. `true` if another turn is needed at once.
    fn perform(&mut self, output: kontiki_raft::Output, outputs: &mut Vec<Output<R>>) -> bool {
        match output {
            kontiki_raft::Output::Send { to, message } => {
                let batch = match &message {
                    Message::Append(append) => {
                        self.log.encoded(append.prev.index.next(), append.last)
                    }
                    _ => Bytes::new(),
                };
                let cluster = self.cluster.expect("a server that speaks has a cluster");
                let from = self.raft.id();
                outputs.push(Output::Send(Envelope {
                    cluster,
                    from,
                    to,
                    message,
                    batch,
                }));
                false
            }
            kontiki_raft::Output::ReadReady { id, index } => self.on_read_ready(id, index, outputs),
            kontiki_raft::Output::ReadFailed { id } => {
                let asked = self.requests.take_read(id);
                let refusal = self.not_leader();
                self.answer(asked.into_reply(), Err(refusal), outputs);
                false
            }
        }
    }

    // --- requests -----------------------------------------------------------------------------

    fn bootstrap(&mut self, cluster: ClusterId, mut voters: Vec<ServerId>) -> Result<(), Refusal> {
        voters.sort_unstable();
        voters.dedup();
        if voters.is_empty() || voters.len() > INITIAL_VOTERS_MAX {
            return Err(Refusal::Invalid(format!(
                "voters: {} given, 1 to {INITIAL_VOTERS_MAX} must be",
                voters.len()
            )));
        }
        if cluster == ClusterId(0) {
            return Err(Refusal::Invalid("cluster_id: must not be 0".to_owned()));
        }
        let me = self.raft.id();
        if !voters.contains(&me) {
            return Err(Refusal::WrongServer(me));
        }
        match (self.cluster, &self.bootstrapped) {
            (Some(mine), _) if mine != cluster => return Err(Refusal::AlreadyBootstrapped(mine)),
            (Some(mine), Some(told)) if *told != voters => {
                return Err(Refusal::AlreadyBootstrapped(mine));
            }
            _ => {}
        }
        self.cluster = Some(cluster);
        let configuration = Configuration::of(voters.iter().copied());
        self.bootstrapped = Some(voters);
        // A log that is not empty came from a leader of this very cluster: all is done.
        self.raft.bootstrap(self.now, configuration);
        self.follow_log(&Bytes::new());
        Ok(())
    }

    fn write(&mut self, command: &[u8], reply: R, outputs: &mut Vec<Output<R>>) {
        let result = self
            .check_write(command)
            .and_then(|()| self.propose(EntryKind::Command, command));
        match result {
            Ok(id) => {
                self.counters.proposed += 1;
                self.requests.wait_for_write(id, Some(reply));
            }
            Err(refusal) => self.answer(reply, Err(refusal), outputs),
        }
    }

    fn check_write(&self, command: &[u8]) -> Result<(), Refusal> {
        if self.raft.role() == Role::Leader {
            if self.activate_entry.is_none() {
                return Err(Refusal::NotActivated);
            }
            self.requests.check_room_for_write()?;
            self.applier
                .machine()
                .validate(command)
                .map_err(|why| Refusal::RefusedByMachine(why.0))
        } else {
            Err(self.not_leader())
        }
    }

    fn propose(&mut self, kind: EntryKind, command: &[u8]) -> Result<LogId, Refusal> {
        let size = (entry::HEADER_BYTES + command.len()) as u32;
        let id = self.raft.propose(self.now, [(kind.clone(), size)])?;
        self.log.push(id, &kind, command);
        self.samples.on_appended(id.index, self.now);
        Ok(id)
    }

    fn activate(&mut self, reply: R, outputs: &mut Vec<Output<R>>) {
        if self.raft.role() != Role::Leader {
            let refusal = self.not_leader();
            return self.answer(reply, Err(refusal), outputs);
        }
        if let Some(index) = self.applier.activated() {
            return self.answer(reply, Ok(Answer::Activated(index)), outputs);
        }
        match self.propose(EntryKind::Activate, &[]) {
            Ok(id) => {
                self.activate_entry.get_or_insert(id.index);
                self.requests.wait_for_write(id, Some(reply));
            }
            Err(refusal) => self.answer(reply, Err(refusal), outputs),
        }
    }

    /// Without an operator the leader activates as soon as it may.
    fn activate_if_alone(&mut self, _outputs: &mut Vec<Output<R>>) {
        if self.activate
            && self.activate_entry.is_none()
            && self.raft.is_term_committed()
            && let Ok(id) = self.propose(EntryKind::Activate, &[])
        {
            self.activate_entry = Some(id.index);
            self.requests.wait_for_write(id, None);
        }
    }

    fn read_stale(&mut self, query: &[u8], reply: R, outputs: &mut Vec<Output<R>>) {
        if self.raft.role() == Role::Joiner {
            return self.answer(reply, Err(Refusal::NotAMember), outputs);
        }
        let result = self.applier.read(query);
        self.answer(reply, result, outputs);
    }

    /// Asks for something that leadership must be confirmed for first.
    fn ask(&mut self, asked: Asked<R>, outputs: &mut Vec<Output<R>>) {
        let id = self.requests.next_read();
        match self.raft.read(self.now, id) {
            Ok(()) => self.requests.wait_for_read(id, asked),
            Err(refused) => {
                let refusal = self.refusal(refused);
                self.answer(asked.into_reply(), Err(refusal), outputs);
            }
        }
    }

    fn on_read_ready(&mut self, id: ReadId, index: Index, outputs: &mut Vec<Output<R>>) -> bool {
        assert!(
            self.applier.applied() >= index,
            "a turn applies before it answers"
        );
        match self.requests.take_read(id) {
            Asked::Query { query, reply } => {
                let result = self.applier.read(&query);
                self.answer(reply, result, outputs);
                false
            }
            Asked::Change {
                change,
                until,
                reply,
            } => {
                if let Err(refusal) = self.requests.check_room_for_change() {
                    self.answer(reply, Err(refusal), outputs);
                    return false;
                }
                match self.raft.change(self.now, &change) {
                    Ok(()) => self.requests.wait_for_change(change, until, reply),
                    Err(refused) => {
                        let refusal = self.refusal(refused);
                        self.answer(reply, Err(refusal), outputs);
                    }
                }
                self.follow_log(&Bytes::new());
                true
            }
        }
    }

    fn transfer(&mut self, target: Option<ServerId>, reply: R, outputs: &mut Vec<Output<R>>) {
        let result = self.requests.check_room_for_change();
        let now = self.now;
        let result = result.and_then(|()| {
            self.raft
                .transfer(now, target)
                .map_err(|refused| self.refusal(refused))
        });
        match result {
            Ok(()) => {
                let patience = 2 * self.raft.config().election_timeout_max;
                self.requests
                    .wait_for_transfer(target, now + patience, reply);
            }
            Err(refusal) => self.answer(reply, Err(refusal), outputs),
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
        let answered = self
            .requests
            .take_answered_changes(&status, in_force, leads);
        let transferring = self.raft.is_transferring();
        let transfers =
            self.requests
                .take_answered_transfers(self.now, self.raft.id(), standing, transferring);
        for (reply, result) in answered.into_iter().chain(transfers) {
            self.answer(reply, result, outputs);
        }
        self.requests.due()
    }

    fn current_standing(&self) -> Standing {
        let leader = match self.raft.role() {
            Role::Leader if !self.raft.is_serving(self.now) => None,
            _ => self.raft.leader(),
        };
        Standing {
            role: self.raft.role(),
            term: self.raft.term(),
            leader,
        }
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

    fn answer(&mut self, reply: R, result: Result<Answer, Refusal>, outputs: &mut Vec<Output<R>>) {
        self.counters.refused += u64::from(result.is_err());
        outputs.push(Output::Reply(reply, result));
    }

    fn not_leader(&self) -> Refusal {
        match self.raft.leader() {
            Some(leader) if leader != self.raft.id() => Refusal::NotLeader(leader),
            _ if self.raft.role() == Role::Joiner => Refusal::NotAMember,
            _ => Refusal::NoLeader,
        }
    }

    fn refusal(&self, refused: kontiki_raft::Refused) -> Refusal {
        match refused {
            kontiki_raft::Refused::NotLeader(_) => self.not_leader(),
            other => Refusal::from(other),
        }
    }

    // --- what others may see ------------------------------------------------------------------

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Who leads, as of the last turn.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// A description, as of the last turn.
    pub fn status(&self) -> Status {
        let (index, configuration) = self.raft.configuration();
        let committed = self.raft.committed_configuration();
        let is_voter = committed.1.is_voter(self.raft.id());
        Status {
            cluster: self.cluster,
            server: self.raft.id(),
            standing: self.current_standing(),
            first: self.raft.first(),
            last: self.raft.last(),
            commit: self.raft.commit(),
            applied: self.applier.applied(),
            configuration: ConfigurationStatus {
                index,
                committed: index <= self.raft.commit(),
                configuration: configuration.clone(),
            },
            progress: self.peer_statuses(),
            activated: self.applier.activated().is_some(),
            // A server is made a voter only once it has caught up, and an initial one starts with
            // all there is: to be a voter of a committed configuration is to have caught up once.
            ready: is_voter && self.applier.activated().is_some(),
            min_majority: self.raft.config().min_majority,
            serving: self.raft.is_serving(self.now),
            transferring: self.raft.is_transferring(),
            term_committed: self.raft.is_term_committed(),
            machine: self.applier.machine().name(),
        }
    }

    fn peer_statuses(&self) -> Vec<PeerStatus> {
        let learners = &self.raft.configuration().1.learners;
        let status = |peer: kontiki_raft::PeerProgress| PeerStatus {
            server: peer.server,
            matched: peer.matched,
            heard: peer.heard,
            reachable: peer.reachable,
            learner: learners.get(&peer.server).copied(),
            stalled: peer.is_stalled,
        };
        self.raft.progress().map(status).collect()
    }

    /// Hands over the sampled gaps between the stages of a write since the last call.
    pub fn drain_samples(&mut self, each: impl FnMut(Stage, Duration)) {
        self.samples.drain(each);
    }

    /// The entry at an index with its payload, if it is held.
    pub fn entry(&self, index: Index) -> Option<(LogId, &[u8])> {
        self.log.get(index).map(|entry| (entry.id, entry.payload))
    }

    /// The engine, to look at.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The machine, to look at.
    pub fn machine(&self) -> &dyn StateMachine {
        self.applier.machine()
    }
}

/// The metadata of the entries in an envelope. `None` if they are not what an append says.
fn decode_batch(envelope: &Envelope) -> Option<Vec<EntryMeta>> {
    let Message::Append(append) = &envelope.message else {
        return envelope.batch.is_empty().then(Vec::new);
    };
    let mut entries = Vec::new();
    let mut rest = &envelope.batch[..];
    let mut index = append.prev.index;
    while !rest.is_empty() {
        let decoded = entry::decode(rest)?;
        index = index.next();
        if decoded.id.index != index {
            return None;
        }
        entries.push(decoded.meta());
        rest = &rest[decoded.size..];
    }
    (index == append.last).then_some(entries)
}

impl From<kontiki_raft::Refused> for Refusal {
    fn from(refused: kontiki_raft::Refused) -> Self {
        use kontiki_raft::Refused;
        match refused {
            Refused::NotLeader(Some(leader)) => Self::NotLeader(leader),
            Refused::NotLeader(None) => Self::NoLeader,
            Refused::QuorumLost => Self::QuorumLost,
            Refused::Transferring => Self::Transferring,
            Refused::Full { what, max } => Self::QueueFull { what, max },
            Refused::NoCommit => Self::NoCommit,
            Refused::UnstableConfig => Self::UnstableConfig,
            Refused::StaleConfig { in_force, seen } => Self::StaleConfig { in_force, seen },
            Refused::LastServer => Self::LastServer,
            Refused::BelowMinMajority { left, min_majority } => {
                Self::BelowMinMajority { left, min_majority }
            }
            Refused::NotAVoter(server) => Self::NotAVoter(server),
        }
    }
}
