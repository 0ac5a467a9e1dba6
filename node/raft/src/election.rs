//! Elections: paper section 5.2 and 5.4.1, pre-vote (thesis section 9.6), CheckQuorum (thesis
//! section 6.2), and campaigns on request.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::log::EntryKind;
use crate::message::{Message, Vote, VoteReply};
use crate::output::Refused;
use crate::raft::{Candidacy, Leader, Raft, State};
use crate::reads::Reads;
use crate::transfer::Handover;
use crate::types::{ServerId, Term, Time};

/// Part of a heartbeat for which one of two servers that campaign at once goes before: some round trips,
/// and less than it takes until the other asks again.
const HEADWAY: u32 = 4;

/// Doublings of the time that a candidate waits for answers, while its rounds come to nothing. The times are
/// bounded by election timeouts as well.
const DOUBLINGS_MAX: u32 = 6;

/// Why a server campaigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A quorum would vote for it.
    PreVotes,
    /// It was asked to, by whoever may (ExRaft's `trigger_election`).
    Asked,
    /// The leader of this term told it to.
    Released(Term),
}

impl Raft {
    /// Campaigns at once, whatever the leader says (ExRaft's `trigger_election`); voters honour it
    /// although they have a leader. A leader campaigns anew. A no-op on a candidate. Refused while this
    /// server has promised its vote to the leader: that can hand over, or campaign anew itself.
    pub fn trigger_election(&mut self, now: Time) -> Result<(), Refused> {
        if !self.is_voter() {
            return Err(Refused::NotAVoter(self.id));
        }
        if self.is_retired {
            return Err(Refused::Retired);
        }
        if matches!(self.state, State::Candidate(_)) {
            return Ok(());
        }
        if let Some(wait) = self.is_bound(now, self.id, None) {
            return Err(Refused::Promised(wait));
        }
        self.campaign(now, Cause::Asked);
        Ok(())
    }

    pub(crate) fn on_election_timeout(&mut self, now: Time) {
        if let Some(wait) = self.is_bound(now, self.id, None)
            && let State::Follower(follower) = &mut self.state
        {
            // It suspects the leader, and has promised it not to vote: not even for itself.
            let apart = self
                .random
                .between(Duration::ZERO, self.config.heartbeat / 2);
            follower.election_due = now + wait + apart;
            return;
        }
        if !matches!(self.state, State::Follower(_)) {
            self.rounds_failed = (self.rounds_failed + 1).min(DOUBLINGS_MAX);
        }
        if self.campaigns_by_itself() {
            self.pre_campaign(now);
        } else if let State::Follower(follower) = &mut self.state {
            // Only a voter campaigns by itself, and none of priority 0; a leader that went silent is a leader
            // no longer.
            follower.leader = None;
            follower.election_due = Time::NEVER;
            self.fail_reads();
        } else {
            self.become_follower(now, self.term, None);
        }
    }

    /// Asks whether an election could be won, without raising the term: a server that was cut off
    /// does not disturb the others when it comes back.
    pub(crate) fn pre_campaign(&mut self, now: Time) {
        let is_urgent = match &self.state {
            // In the term of the bootstrap nobody has ever led. A first round may find the others not yet
            // bootstrapped or not yet connected.
            State::Follower(follower) => follower.is_suspicious || self.term <= Term(1),
            State::PreCandidate(candidacy) => candidacy.is_urgent,
            // An election was under way, and nobody won it.
            State::Candidate(_) => true,
            State::Leader(_) => false,
        };
        // A suspect's voters may not have noticed yet: ask again soon.
        self.fail_reads();
        let pause = match is_urgent {
            true => self.draw_urgent_pause(),
            false => self.draw_election_timeout(),
        };
        self.state = State::PreCandidate(self.candidacy(now, pause, is_urgent));
        self.ask_for_votes(Vote {
            term: self.term.next(),
            last: self.log.last(),
            pre: true,
            forced: false,
            released: None,
        });
        self.count_votes(now);
    }

    pub(crate) fn campaign(&mut self, now: Time, cause: Cause) {
        self.fail_reads();
        self.enter_term(self.term.next());
        self.vote = Some(self.id);
        let pause = self.draw_candidate_timeout();
        self.state = State::Candidate(self.candidacy(now, pause, true));
        self.ask_for_votes(Vote {
            term: self.term,
            last: self.log.last(),
            pre: false,
            forced: cause != Cause::PreVotes,
            released: match cause {
                Cause::Released(term) => Some(term),
                Cause::PreVotes | Cause::Asked => None,
            },
        });
        self.count_votes(now);
    }

    fn candidacy(&self, now: Time, pause: Duration, is_urgent: bool) -> Candidacy {
        Candidacy {
            votes: BTreeMap::from([(self.id, true)]),
            asked: now,
            retry_due: now + pause,
            is_urgent,
        }
    }

    /// How long a candidate waits for votes: some heartbeats, and no longer than an election timeout.
    /// Candidates that share the votes of the living, while a voter that is gone could still decide it,
    /// would otherwise wait for that: with an election timeout of a minute, a minute. The pre-vote that
    /// follows disturbs nobody.
    ///
    /// It doubles with every round that came to nothing, because a heartbeat may be shorter than a round
    /// trip: if answers come later than this, no round is ever won.
    fn draw_candidate_timeout(&mut self) -> Duration {
        let wait = (4 * self.config.heartbeat) * (1 << self.rounds_failed);
        let min = self.config.election_timeout_min.min(wait);
        let max = self.config.election_timeout_max.min(2 * wait);
        self.random.between(min, max)
    }

    /// How long an urgent pre-candidate waits before it asks again. It doubles likewise, up to half an
    /// election timeout at least.
    fn draw_urgent_pause(&mut self) -> Duration {
        let wait = self.config.heartbeat * (1 << self.rounds_failed);
        let min = (self.config.election_timeout_min / 2).min(wait);
        let max = self.config.election_timeout_min.min(2 * wait);
        self.random.between(min, max)
    }

    fn ask_for_votes(&mut self, vote: Vote) {
        for voter in self.other_voters() {
            self.send(voter, Message::Vote(vote));
        }
    }

    pub(crate) fn on_vote(&mut self, now: Time, from: ServerId, vote: Vote) {
        let is_bound = self.is_bound(now, from, vote.released).is_some();
        let is_granted = if is_bound || self.is_loyal(now, from, &vote) {
            false
        } else if vote.pre {
            vote.term > self.term
                && vote.last >= self.log.last()
                && (vote.forced || !self.goes_before(now, from, &vote))
        } else {
            if vote.term > self.term {
                self.become_follower(now, vote.term, None);
            }
            self.grant(now, from, &vote)
        };
        if !is_granted {
            self.on_candidate_refused(now, &vote);
        }
        let term = if is_granted { vote.term } else { self.term };
        let reply = VoteReply {
            term,
            granted: is_granted,
            pre: vote.pre,
        };
        self.send(from, Message::VoteReply(reply));
    }

    /// Whether this server has a leader: then it neither votes nor lets its term be raised, unless the
    /// request is marked (paper section 6, thesis section 4.2.3). The mark counts if the leader of this term
    /// put it there, or the candidate is a member by this server's log: else a server that was removed and
    /// lives on, and is told to campaign, would depose the leader of a cluster that is not its own any more.
    fn is_loyal(&self, now: Time, from: ServerId, vote: &Vote) -> bool {
        let is_marked = vote.forced
            && (vote.released == Some(self.term) || self.log.configuration().1.contains(from));
        !is_marked && self.has_leader(now)
    }

    /// Whether it heard its leader within an election timeout and does not suspect it, or leads itself
    /// and hears a quorum.
    pub(crate) fn has_leader(&self, now: Time) -> bool {
        match &self.state {
            State::Follower(follower) => {
                follower.leader.is_some()
                    && !follower.is_suspicious
                    && now.since(follower.heard) < self.config.election_timeout_min
            }
            State::Leader(_) => self.hears_quorum(now),
            State::PreCandidate(_) | State::Candidate(_) => false,
        }
    }

    /// Whether this server has just asked `from` for the same: of two who are both granted it, with
    /// equal logs, neither might win the election. The one with the larger id goes before, unless it
    /// was refused, and no longer than its question can be on the way.
    fn goes_before(&self, now: Time, from: ServerId, vote: &Vote) -> bool {
        let State::PreCandidate(candidacy) = &self.state else {
            return false;
        };
        vote.last == self.log.last()
            && self.id > from
            && candidacy.votes.get(&from) != Some(&false)
            && now.since(candidacy.asked) < self.config.heartbeat / HEADWAY
    }

    /// At most one vote in a term, and only for a log that is at least as far (paper section 5.4.1).
    fn grant(&mut self, now: Time, from: ServerId, vote: &Vote) -> bool {
        let is_free = match &self.state {
            State::Follower(follower) => follower.leader.is_none_or(|leader| leader == from),
            State::PreCandidate(_) => true,
            State::Candidate(_) | State::Leader(_) => false,
        };
        let is_mine_to_give = self.vote.is_none_or(|given| given == from);
        if vote.term != self.term || !is_free || !is_mine_to_give || vote.last < self.log.last() {
            return false;
        }
        self.become_follower(now, self.term, None);
        self.vote = Some(from);
        self.stand_in_due = None;
        true
    }

    pub(crate) fn on_vote_reply(&mut self, now: Time, from: ServerId, reply: VoteReply) {
        if !reply.granted && reply.term > self.term {
            return self.become_follower(now, reply.term, None);
        }
        if !self.log.configuration().1.is_voter(from) {
            return; // it does not count, and is not remembered
        }
        if reply.pre && reply.granted && reply.term == self.term.next() {
            self.on_nomination_granted(now, from);
        }
        let (candidacy, asked_term) = match &mut self.state {
            State::PreCandidate(candidacy) if reply.pre => (candidacy, self.term.next()),
            State::Candidate(candidacy) if !reply.pre => (candidacy, self.term),
            _ => return,
        };
        if reply.granted && reply.term != asked_term {
            return; // an answer to another round
        }
        match reply.granted {
            true => candidacy.votes.insert(from, true),
            // A vote once given stays given: this is a late answer to an earlier round.
            false => Some(*candidacy.votes.entry(from).or_insert(false)),
        };
        self.count_votes(now);
    }

    fn count_votes(&mut self, now: Time) {
        let (State::PreCandidate(candidacy) | State::Candidate(candidacy)) = &self.state else {
            return;
        };
        // Only votes of voters of the configuration in force are looked at.
        let votes = &candidacy.votes;
        if self
            .quorum()
            .reached(|voter| votes.get(&voter) == Some(&true))
        {
            return match self.state {
                State::PreCandidate(_) => self.campaign(now, Cause::PreVotes),
                _ => self.become_leader(now),
            };
        }
        let can_win = self
            .quorum()
            .reached(|voter| votes.get(&voter) != Some(&false));
        if !can_win && votes.len() > 1 {
            self.retry_soon(now);
        }
    }

    /// A split vote is known as soon as it cannot be won any more: nobody needs to wait for a
    /// timeout. The random pause keeps the candidates apart, further with every round that came to
    /// nothing, since messages may take longer than a heartbeat; the pre-vote that follows disturbs
    /// nobody if another was elected meanwhile.
    fn retry_soon(&mut self, now: Time) {
        let apart = self.config.heartbeat * (1 << self.rounds_failed);
        let pause = self.random.between(apart / 4, apart);
        if let State::Candidate(candidacy) = &mut self.state {
            candidacy.retry_due = candidacy.retry_due.min(now + pause);
        }
    }

    fn become_leader(&mut self, now: Time) {
        (self.stand_in_due, self.rounds_failed) = (None, 0);
        let next = self.log.last().index.next();
        self.state = State::Leader(Box::new(Leader {
            elected: now,
            term_start: next,
            stands_in: !self.may_campaign(),
            progress: BTreeMap::new(),
            heartbeat_due: now,
            reads: Reads::default(),
            transfer: None,
            handover: Handover::new(now, &self.config),
            released: BTreeMap::new(),
            snapshots: 0,
        }));
        self.track_members(now);
        // An entry of the own term, without which nothing of earlier terms counts as committed
        // (paper sections 5.4.2 and 8).
        self.create(EntryKind::Noop);
    }

    /// Whether a quorum acknowledged something within an election timeout.
    pub(crate) fn hears_quorum(&self, now: Time) -> bool {
        let State::Leader(leader) = &self.state else {
            return false;
        };
        let timeout = self.config.election_timeout_min;
        self.quorum().reached(|server| {
            server == self.id
                || leader.progress.get(&server).is_some_and(|progress| {
                    now.since(progress.heard.unwrap_or(leader.elected)) < timeout
                })
        })
    }

    /// A leader without acknowledgements from a quorum for an election timeout is none (thesis
    /// section 6.2).
    pub(crate) fn check_quorum(&mut self, now: Time) {
        if !self.hears_quorum(now) {
            self.become_follower(now, self.term, None);
        }
    }

    /// Takes over the term of a message that only a leader of that term can have sent. `false` if
    /// it is from an older term, or this server leads the term itself.
    pub(crate) fn follow(&mut self, now: Time, from: ServerId, term: Term) -> bool {
        if term < self.term || (term == self.term && matches!(self.state, State::Leader(_))) {
            return false;
        }
        match &mut self.state {
            State::Follower(follower)
                if term == self.term && follower.leader.is_none_or(|leader| leader == from) =>
            {
                follower.leader = Some(from);
            }
            State::Follower(_) if term == self.term => return false, // a term has one leader
            _ => self.become_follower(now, term, Some(from)),
        }
        let timeout = self.draw_election_timeout();
        let State::Follower(follower) = &mut self.state else {
            unreachable!("just followed")
        };
        follower.heard = now;
        follower.is_suspicious = false;
        follower.election_due = now + timeout;
        (self.stand_in_due, self.rounds_failed) = (None, 0);
        true
    }
}
