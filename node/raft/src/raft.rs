//! The state of one server, its inputs, and the end of a turn.

use std::collections::BTreeMap;

use crate::config::{Config, ELECTION_PRIORITY_MAX};
use crate::configuration::Configuration;
use crate::follower_reads::FollowerReads;
use crate::freshness::Known;
use crate::lease::Promise;
use crate::log::{EntryKind, EntryMeta, Log, LogChange};
use crate::message::Message;
use crate::nomination::Nomination;
use crate::output::{Output, Refused};
use crate::progress::Progress;
use crate::quorum::Quorum;
use crate::random::Random;
use crate::reads::Reads;
use crate::transfer::{Handover, Transfer};
use crate::types::{Index, LogId, ServerId, Term, Time};

/// One server of a cluster. See the crate's documentation for what its driver must do.
///
/// Invariant: `commit <= verified` unless it leads, and the log is never cut at or below `commit`.
#[derive(Clone, Debug)]
pub struct Raft {
    pub(crate) id: ServerId,
    pub(crate) config: Config,
    pub(crate) random: Random,
    pub(crate) term: Term,
    /// Whom this server voted for in `term`. Invariant: changes only together with `term`, or from
    /// `None`.
    pub(crate) vote: Option<ServerId>,
    pub(crate) log: Log,
    /// Invariant: never falls.
    pub(crate) commit: Index,
    /// The log is persistent through here.
    pub(crate) persisted: Index,
    /// The log is known to match that of the term's leader through here: all that may be
    /// acknowledged to it or committed by its word. Outlives a pre-candidacy in the same term.
    pub(crate) verified: Index,
    /// Counts truncations: a report of persistence from before one says nothing about now.
    pub(crate) generation: u64,
    pub(crate) state: State,
    /// It votes and stores, and never campaigns or serves again, but to hand on what only it holds (see
    /// `stand_in`).
    pub(crate) is_retired: bool,
    /// When it stands in, if it does not campaign by itself and has refused a candidate that lacks what it
    /// holds. Outlives terms; `None` as soon as there is a leader.
    pub(crate) stand_in_due: Option<Time>,
    /// Rounds of pre-votes and votes of this server in a row that came to nothing, up to a bound.
    pub(crate) rounds_failed: u32,
    /// The log says that reads under a lease are on.
    pub(crate) lease_reads: bool,
    /// Outlives terms. Invariant: while it holds, no vote is given against it.
    pub(crate) promise: Option<Promise>,
    /// Orders to campaign that the leader of this term sent before this are void. Outlives roles.
    pub(crate) dismissed: Option<(Term, Time)>,
    pub(crate) freshness: Known,
    /// The last id of a question for a read index. Invariant: only grows, whatever becomes of terms.
    pub(crate) read_index_last: u64,
    pub(crate) log_changes: Vec<LogChange>,
    pub(crate) outputs: Vec<Output>,
}

/// The role, with what only that role knows.
#[derive(Clone, Debug)]
pub(crate) enum State {
    Follower(Follower),
    PreCandidate(Candidacy),
    Candidate(Candidacy),
    Leader(Box<Leader>),
}

#[derive(Clone, Debug)]
pub(crate) struct Follower {
    pub(crate) leader: Option<ServerId>,
    /// When the leader was last heard.
    pub(crate) heard: Time,
    pub(crate) election_due: Time,
    /// An acknowledgement is to be sent at the end of the turn.
    pub(crate) ack_due: bool,
    /// The leader's process seems to be gone; anything from it clears this.
    pub(crate) is_suspicious: bool,
    /// The leader told it to campaign, and it asks whether it would be elected.
    pub(crate) nomination: Option<Nomination>,
    pub(crate) reads: FollowerReads,
}

#[derive(Clone, Debug)]
pub(crate) struct Candidacy {
    /// Answers so far; its own included.
    pub(crate) votes: BTreeMap<ServerId, bool>,
    /// When it asked for them.
    pub(crate) asked: Time,
    /// When to try again.
    pub(crate) retry_due: Time,
    /// No leader is disturbed by trying again soon: its process is gone, or there is none.
    pub(crate) is_urgent: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Leader {
    pub(crate) elected: Time,
    /// The no-op of this term.
    pub(crate) term_start: Index,
    /// It did not campaign by right, and leads only to hand on what it holds (see `stand_in`).
    pub(crate) stands_in: bool,
    pub(crate) progress: BTreeMap<ServerId, Progress>,
    pub(crate) heartbeat_due: Time,
    pub(crate) reads: Reads,
    pub(crate) transfer: Option<Transfer>,
    pub(crate) handover: Handover,
    /// Servers that were told to campaign, each with the time of the last such message: as long as there is
    /// one, no read is served under a lease. A server is taken out when it has promised its vote again
    /// since, which voids what it was told.
    pub(crate) released: BTreeMap<ServerId, Time>,
    /// Snapshots begun in this term.
    pub(crate) snapshots: u64,
}

impl Raft {
    /// A server with an empty log, which waits to be bootstrapped or added.
    ///
    /// Panics if an election timeout is not above the heartbeat, or the range is empty.
    pub fn new(id: ServerId, config: Config, now: Time) -> Self {
        assert!(
            config.election_timeout_min > config.heartbeat,
            "election timeout too short"
        );
        assert!(
            config.election_timeout_max >= config.election_timeout_min,
            "empty timeout range"
        );
        assert!(
            config.election_priority <= ELECTION_PRIORITY_MAX,
            "election priority out of range"
        );
        let mut random = Random::new(config.seed.wrapping_add(id.0));
        let timeout = random.between(config.election_timeout_min, config.election_timeout_max)
            + handicap(&config);
        let follower = Follower {
            leader: None,
            heard: now,
            election_due: now + timeout,
            ack_due: false,
            is_suspicious: false,
            nomination: None,
            reads: FollowerReads::default(),
        };
        Self {
            id,
            config,
            random,
            term: Term(0),
            vote: None,
            log: Log::default(),
            commit: Index(0),
            persisted: Index(0),
            verified: Index(0),
            generation: 0,
            state: State::Follower(follower),
            is_retired: false,
            stand_in_due: None,
            rounds_failed: 0,
            lease_reads: false,
            promise: None,
            dismissed: None,
            freshness: Known::default(),
            read_index_last: 0,
            log_changes: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Gives a server with an empty log its first entry, 1@1: the initial configuration, which is
    /// committed by being the same everywhere. `false`, and nothing done, if the log is not empty.
    pub fn bootstrap(&mut self, now: Time, configuration: Configuration) -> bool {
        if self.log.last().index != Index(0) {
            return false;
        }
        self.term = self.term.max(Term(1));
        let kind = EntryKind::Configuration(Box::new(configuration));
        let meta = EntryMeta {
            term: Term(1),
            kind: kind.clone(),
            size: 0,
        };
        let id = self.log.append(meta);
        self.log_changes.push(LogChange::Created { id, kind });
        self.commit = id.index;
        // Nobody has ever led: nothing is disturbed by trying soon.
        let delay = self
            .random
            .between(std::time::Duration::ZERO, 2 * self.config.heartbeat);
        self.verified = self.verified.max(id.index);
        let delay = delay + handicap(&self.config);
        if let State::Follower(follower) = &mut self.state {
            follower.election_due = follower.election_due.min(now + delay);
        }
        true
    }

    /// Acts on every deadline that has passed. Call it first in every turn.
    pub fn tick(&mut self, now: Time) {
        match &self.state {
            State::Follower(follower) if now >= follower.election_due => {
                self.on_election_timeout(now);
            }
            State::PreCandidate(candidacy) | State::Candidate(candidacy)
                if now >= candidacy.retry_due =>
            {
                self.on_election_timeout(now);
            }
            State::Leader(_) => self.on_leader_time(now),
            State::Follower(_) if self.stand_in_due.is_some_and(|due| now >= due) => {
                self.stand_in(now);
            }
            _ => {}
        }
    }

    /// A message from another server of this cluster, addressed to exactly this one. `entries` are
    /// those of an append, in order; empty otherwise.
    pub fn receive(&mut self, now: Time, from: ServerId, message: Message, entries: &[EntryMeta]) {
        if let State::Leader(leader) = &mut self.state
            && let Some(progress) = leader.progress.get_mut(&from)
        {
            progress.reachable = true;
        }
        match message {
            Message::Vote(vote) => self.on_vote(now, from, vote),
            Message::VoteReply(reply) => self.on_vote_reply(now, from, reply),
            Message::Append(append) => self.on_append(now, from, append, entries),
            Message::AppendAck(ack) => self.on_append_ack(now, from, ack),
            Message::Heartbeat(heartbeat) => self.on_heartbeat(now, from, heartbeat),
            Message::HeartbeatAck(ack) => self.on_heartbeat_ack(now, from, ack),
            Message::TimeoutNow(request) => self.on_timeout_now(now, from, request),
            Message::SnapshotChunk(chunk) => self.on_snapshot_chunk(now, from, chunk),
            Message::SnapshotAck(ack) => self.on_snapshot_ack(now, from, ack),
            Message::ReadIndex(asked) => self.on_read_index(now, from, asked),
            Message::ReadIndexReply(reply) => self.on_read_index_reply(from, reply),
        }
    }

    /// The log is persistent through `id`, as it was in `generation` (see [`Raft::generation`]).
    pub fn persisted(&mut self, now: Time, id: LogId, generation: u64) {
        if generation != self.generation || !self.log.contains(id) || id.index <= self.persisted {
            return;
        }
        self.persisted = id.index;
        match &mut self.state {
            State::Follower(follower) => follower.ack_due |= follower.leader.is_some(),
            State::Leader(_) => self.advance_commit(now),
            State::PreCandidate(_) | State::Candidate(_) => {}
        }
    }

    /// A connection to `peer` is up again.
    pub fn connected(&mut self, peer: ServerId) {
        if let State::Leader(leader) = &mut self.state
            && let Some(progress) = leader.progress.get_mut(&peer)
        {
            progress.reachable = true;
            progress.on_lost();
        }
    }

    /// The connection to `peer` broke; `gone` if its process, or that incarnation, is no more.
    pub fn disconnected(&mut self, now: Time, peer: ServerId, gone: bool) {
        match &mut self.state {
            State::Leader(leader) => {
                if let Some(progress) = leader.progress.get_mut(&peer) {
                    progress.reachable = false;
                    progress.on_lost();
                    if gone && progress.snapshot().is_some() {
                        progress.on_compacted();
                    }
                }
            }
            State::Follower(follower) if gone && follower.leader == Some(peer) => {
                // A short random delay, so that not all candidates ask at once.
                let delay = self
                    .random
                    .between(std::time::Duration::ZERO, self.config.heartbeat / 2)
                    + handicap(&self.config);
                follower.is_suspicious = true;
                follower.election_due = follower.election_due.min(now + delay);
            }
            _ => {}
        }
    }

    /// Never campaigns or serves from here on: what its log says cannot be applied here. It goes on
    /// voting and storing, so that the others keep its weight. A leader names a successor first. Only if
    /// nobody can be elected without what it holds, it leads for as long as it takes to hand that on.
    pub fn retire(&mut self, now: Time) {
        self.is_retired = true;
        match self.state {
            State::Leader(_) => self.resign(now),
            State::PreCandidate(_) | State::Candidate(_) => {
                self.become_follower(now, self.term, None);
            }
            State::Follower(_) => {}
        }
    }

    /// Ends the turn: moves what is to be sent and answered into `outputs`, in order, and answers
    /// when the next turn is due at the latest.
    pub fn finish(&mut self, now: Time, outputs: &mut Vec<Output>) -> Time {
        self.send_ack();
        self.assert_invariants();
        let due = match &self.state {
            State::Leader(_) => self.lead(now),
            State::Follower(follower) => {
                let due = match self.may_campaign() {
                    true => follower.election_due,
                    false => Time::NEVER,
                };
                let stand_in_due = self.stand_in_due.unwrap_or(Time::NEVER);
                due.min(stand_in_due).min(self.ask_read_index(now))
            }
            State::PreCandidate(candidacy) | State::Candidate(candidacy) => candidacy.retry_due,
        };
        outputs.append(&mut self.outputs);
        due
    }

    fn lead(&mut self, now: Time) -> Time {
        self.confirm_reads(now);
        self.drive_transfer(now);
        let heartbeats_due = self.send_heartbeats(now);
        heartbeats_due.min(self.send_appends(now))
    }

    /// Takes what the driver must do to its log, in order.
    pub fn take_log_changes(&mut self) -> Vec<LogChange> {
        std::mem::take(&mut self.log_changes)
    }

    pub(crate) fn quorum(&self) -> Quorum<'_> {
        Quorum::new(self.log.configuration().1, self.config.min_majority)
    }

    pub(crate) fn is_voter(&self) -> bool {
        self.log.configuration().1.is_voter(self.id)
    }

    pub(crate) fn may_campaign(&self) -> bool {
        (self.is_voter() || self.is_leaving()) && !self.is_retired
    }

    /// A voter that a configuration takes out which it does not know to be committed. Until that is, it
    /// may be the only one whose log a quorum accepts: it campaigns, and leads until it is committed
    /// (thesis section 4.2.2).
    fn is_leaving(&self) -> bool {
        let (index, configuration) = self.log.configuration();
        index > self.commit
            && !configuration.is_voter(self.id)
            && self.log.configuration_at(self.commit).1.is_voter(self.id)
    }

    pub(crate) fn send(&mut self, to: ServerId, message: Message) {
        self.outputs.push(Output::Send { to, message });
    }

    /// Everyone else that the configuration in force names as a voter.
    pub(crate) fn other_voters(&self) -> Vec<ServerId> {
        let (_, configuration) = self.log.configuration();
        let mut voters = configuration.servers();
        voters.retain(|server| *server != self.id && configuration.is_voter(*server));
        voters.into_iter().collect()
    }

    /// Refuses unless this server leads and has its quorum.
    pub(crate) fn check_serving(&self, now: Time) -> Result<(), Refused> {
        let State::Leader(leader) = &self.state else {
            return Err(Refused::NotLeader(self.leader()));
        };
        self.check_may_serve()?;
        let is_reachable = |server: ServerId| {
            server == self.id
                || leader
                    .progress
                    .get(&server)
                    .is_some_and(|progress| progress.reachable)
        };
        if self.hears_quorum(now) && self.quorum().reached(is_reachable) {
            Ok(())
        } else {
            Err(Refused::QuorumLost)
        }
    }

    /// Follows `leader` (or nobody yet) in `term`.
    pub(crate) fn become_follower(&mut self, now: Time, term: Term, leader: Option<ServerId>) {
        assert!(
            term >= self.term,
            "terms never fall: {term:?} after {:?}",
            self.term
        );
        if term > self.term {
            self.enter_term(term);
        }
        // What it has committed, as a leader perhaps, is in every later leader's log.
        self.verified = self.verified.max(self.commit);
        self.fail_reads();
        let timeout = self.draw_election_timeout();
        self.state = State::Follower(Follower {
            leader,
            heard: now,
            election_due: now + timeout,
            ack_due: false,
            is_suspicious: false,
            nomination: None,
            reads: FollowerReads::default(),
        });
    }

    /// A new term: no vote is given in it, and nothing verified against its leader.
    pub(crate) fn enter_term(&mut self, term: Term) {
        self.term = term;
        self.vote = None;
        self.verified = self.commit;
    }

    pub(crate) fn draw_election_timeout(&mut self) -> std::time::Duration {
        let (min, max) = (
            self.config.election_timeout_min,
            self.config.election_timeout_max,
        );
        self.random.between(min, max) + handicap(&self.config)
    }

    pub(crate) fn set_commit(&mut self, index: Index) {
        assert!(
            index >= self.commit,
            "commit never falls: {index:?} after {:?}",
            self.commit
        );
        assert!(
            index <= self.log.last().index,
            "{index:?} is beyond the log"
        );
        self.commit = index;
    }
}

/// How much longer than one of the highest priority a server waits before it campaigns.
fn handicap(config: &Config) -> std::time::Duration {
    u32::from(ELECTION_PRIORITY_MAX - config.election_priority) * config.heartbeat
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_with_one_seed_draw_timeouts_of_their_own() {
        let due = |id: u64, seed| {
            let config = Config {
                seed,
                ..Config::default()
            };
            match Raft::new(ServerId(id), config, Time(0)).state {
                State::Follower(follower) => follower.election_due,
                _ => unreachable!("a server starts as a follower"),
            }
        };
        assert_ne!(due(1, 0), due(2, 0));
        // A caller that takes the id for a seed: mixed in by exclusive or, it would vanish.
        assert_ne!(due(1, 1), due(2, 2));
    }
}
