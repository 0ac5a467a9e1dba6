//! The states that a run is to have been in: each is a sentence about a server and those around it,
//! looked at after every turn, and counted when it becomes true. What was never seen was not tested.

use kontiki_node::driver::Status;
use kontiki_raft::{Configuration, Index, LogId, Purpose, Role, ServerId};

use crate::invariants::quorum::is_quorum;
use crate::invariants::{Asked, Ledger, Turn};

/// Somebody else who lives.
#[derive(Clone, Copy)]
pub struct Other<'a> {
    /// As it was after its last turn.
    pub status: &'a Status,
    /// It stands still.
    pub is_paused: bool,
    /// Nothing gets from it to the server that is looked at, or back.
    pub is_cut_off: bool,
}

/// What a sentence is about: a turn of one server.
pub struct View<'a> {
    /// The turn.
    pub turn: &'a Turn<'a>,
    /// The others who live.
    pub others: &'a [Other<'a>],
    /// What was seen of all that ever lived.
    pub ledger: &'a Ledger,
}

/// A state by its name.
pub struct State {
    /// As the tally names it.
    pub name: &'static str,
    /// Whether a server is in it.
    pub holds: fn(&View<'_>) -> bool,
}

macro_rules! states {
    ($($name:literal: $holds:expr;)*) => {
        &[$(State { name: concat!("state: ", $name), holds: $holds }),*]
    };
}

/// All of them; at most 128.
pub const STATES: &[State] = states! {
    "joiner": |v| v.role() == Role::Joiner;
    "learner": |v| v.role() == Role::Learner;
    "follower": |v| v.role() == Role::Follower;
    "pre-candidate": |v| v.role() == Role::PreCandidate;
    "candidate": |v| v.role() == Role::Candidate;
    "leader": |v| v.leads();

    "pre-candidate, and a leader lives that is cut off from it":
        |v| v.role() == Role::PreCandidate && v.other(|o| leads(o.status) && o.is_cut_off);
    "pre-candidate, and a leader lives that stands still":
        |v| v.role() == Role::PreCandidate && v.other(|o| leads(o.status) && o.is_paused);
    "pre-candidate, and others hear a leader":
        |v| v.role() == Role::PreCandidate && v.other(|o| o.status.standing.leader.is_some());
    "pre-candidate, beside another": |v| {
        v.role() == Role::PreCandidate && v.other(|o| o.status.standing.role == Role::PreCandidate)
    };
    "campaigns, and was taken out of the configuration": |v| v.campaigns() && v.was_taken_out();
    "campaigns, while its configuration is joint": |v| v.campaigns() && v.members().is_joint();
    "campaigns, and another holds more": |v| {
        v.campaigns() && v.other(|o| o.status.last > v.status().last)
    };
    "candidate, beside another of its term": |v| {
        let same = |o: &Status| o.standing.term == v.status().standing.term;
        v.role() == Role::Candidate
            && v.other(|o| o.status.standing.role == Role::Candidate && same(o.status))
    };
    "voter, and does not know it": |v| {
        !v.members().is_voter(v.turn.server)
            && v.other(|o| leads(o.status) && members(o.status).is_voter(v.turn.server))
    };

    "elected by its own vote alone": |v| v.is_elected() && v.members().servers().len() == 1;
    "elected while its configuration is joint": |v| v.is_elected() && v.members().is_joint();
    "elected with a configuration that is not committed":
        |v| v.is_elected() && !v.status().configuration.committed;
    "elected with a tail of earlier terms that is not committed":
        |v| v.is_elected() && v.status().commit < Index(v.status().last.index.0 - 1);
    "elected while another still believes that it leads":
        |v| v.is_elected() && v.other(|o| leads(o.status));
    "elected while another who holds more is out of reach": |v| {
        let is_away = |o: &Other<'_>| o.is_cut_off || o.is_paused;
        v.is_elected() && v.other(|o| is_away(o) && o.status.last.index > v.status().last.index)
    };

    "leader, has not committed in its term": |v| v.leads() && !v.status().term_committed;
    "leader, entries of earlier terms that a quorum holds wait for one of its own":
        |v| v.waits_for_own_term();
    "leader, a read waits for a commit in its term":
        |v| v.leads() && !v.status().term_committed && v.read_waits();
    "leader, a read waits for a quorum that does not answer":
        |v| v.leads() && !v.status().serving && v.read_waits();
    "leader, does not serve: it lost its quorum": |v| v.leads() && !v.status().serving;
    "leader, serves again, without an election":
        |v| v.turn.led() && v.status().serving && v.before().is_some_and(|was| !was.serving);
    "leader, of an old term beside that of a newer":
        |v| v.leads() && v.other(|o| leads(o.status) && v.status().standing.term < o.status.standing.term);
    "leader, steps down": |v| v.before().is_some_and(leads) && !v.turn.led();
    "leader, not in the incoming half": |v| {
        v.leads() && v.members().is_joint() && !v.members().voters.contains(&v.turn.server)
    };
    "leader, no voter any more": |v| v.leads() && !v.members().is_voter(v.turn.server);
    "leader, 8 entries or more are not committed":
        |v| v.leads() && v.status().last.index.0 >= v.status().commit.0 + 8;
    "leader, refuses writes: servers differ": |v| v.status().diverged.is_some();

    "transfer": |v| v.status().transferring;
    "transfer, while a change is not committed":
        |v| v.status().transferring && !v.status().configuration.committed;
    "transfer, while a learner catches up":
        |v| v.status().transferring && !v.members().learners.is_empty();
    "transfer, over without a successor": |v| {
        v.turn.led() && !v.status().transferring && v.before().is_some_and(|was| was.transferring)
    };

    "configuration, joint": |v| v.members().is_joint();
    "configuration, joint, and a voter of it is lost": |v| v.members().is_joint() && v.names_lost();
    "configuration, joint, and it changes more than one voter":
        |v| v.members().outgoing.as_ref().is_some_and(|old| old.symmetric_difference(&v.members().voters).count() > 2);
    "configuration, not committed, and its server follows nobody":
        |v| !v.status().configuration.committed && v.status().standing.leader.is_none();
    "configuration, rolled back":
        |v| v.before().is_some_and(|was| was.configuration.index > v.status().configuration.index);
    "configuration, names a lost voter": |v| v.names_lost();
    "configuration, an even number of voters": |v| v.members().voters.len().is_multiple_of(2);
    "configuration, a single voter": |v| v.members().voters.len() == 1;
    "configuration, five voters or more": |v| v.members().voters.len() >= 5;
    "configuration, a learner that stays": |v| v.learner(|purpose| *purpose == Purpose::Stay);
    "configuration, a learner that joins": |v| v.learner(|purpose| *purpose == Purpose::Join);
    "configuration, a learner that replaces a voter":
        |v| v.learner(|purpose| matches!(purpose, Purpose::Replace(_)));
    "configuration, a learner that replaces a voter who lives": |v| {
        v.learner(|purpose| matches!(purpose, Purpose::Replace(voter) if v.lives(*voter)))
    };
    "configuration, two learners for one voter": |v| {
        let all: Vec<&Purpose> = v.members().learners.values().collect();
        let twice = |at: usize| matches!(all[at], Purpose::Replace(_)) && all[..at].contains(&all[at]);
        (1..all.len()).any(twice)
    };
    "configuration, two learners or more": |v| v.members().learners.len() >= 2;
    "learner, becomes a voter": |v| {
        let was = v.before().is_some_and(|was| was.standing.role == Role::Learner);
        was && v.members().is_voter(v.turn.server)
    };
    "learner, stalled": |v| v.peer(|peer| peer.stalled);
    "taken out, and lives on": |v| v.was_taken_out();

    "log, a tail that was not committed is cut off": |v| v.turn.truncated > 0;
    "log, 4 entries or more are cut off": |v| v.turn.truncated >= 4;
    "log, its beginning is compacted": |v| v.status().first > Index(1);
    "log, diverges from a leader's":
        |v| v.other(|o| leads(o.status) && v.diverges_from(o.status)) && !v.leads();

    "snapshot, sent": |v| v.peer(|peer| sends(peer.refill));
    "snapshot, sent to a voter": |v| v.peer(|peer| sends(peer.refill) && peer.learner.is_none());
    "snapshot, two are sent at once":
        |v| v.status().progress.iter().filter(|peer| sends(peer.refill)).count() >= 2;
    "snapshot, sent while the configuration is joint":
        |v| v.members().is_joint() && v.peer(|peer| sends(peer.refill));
    "snapshot, wanted and not yet sent":
        |v| v.peer(|peer| peer.refill.is_some_and(|refill| refill.sending.is_none()));
    "snapshot, received": |v| v.status().receiving.is_some();
    "snapshot, received by a voter":
        |v| v.status().receiving.is_some() && v.members().is_voter(v.turn.server);
    "snapshot, received, and its sender does not lead any more":
        |v| v.status().receiving.is_some() && v.status().standing.leader.is_none();
    "snapshot, takes the place of the log": |v| {
        v.before().is_some_and(|was| v.status().first > was.last.index.next())
    };
    "snapshot, takes the place of a log with a tail of its own":
        |v| v.turn.truncated > 0 && v.before().is_some_and(|was| v.status().first > was.first);

    "machine, 8 entries or more are committed and not applied":
        |v| v.status().commit >= Index(v.status().applied.0 + 8);
    "machine, the leader's, has not applied what is committed":
        |v| v.leads() && v.status().commit > v.status().applied;
    "machine, the leader's, has applied less than a follower's":
        |v| v.leads() && v.other(|o| o.status.applied > Index(v.status().applied.0 + 8));
    "machine, has not applied what is committed, and its server campaigns":
        |v| v.campaigns() && v.status().commit > v.status().applied;

    "quarantined": |v| v.status().quarantine.is_some();
    "version, lower here than at the leader":
        |v| v.other(|o| leads(o.status) && o.status.version > v.status().version);
};

fn leads(status: &Status) -> bool {
    status.standing.role == Role::Leader
}

fn members(status: &Status) -> &Configuration {
    &status.configuration.configuration
}

fn sends(refill: Option<kontiki_raft::PeerRefill>) -> bool {
    refill.is_some_and(|refill| refill.sending.is_some())
}

impl View<'_> {
    fn status(&self) -> &Status {
        self.turn.status
    }

    fn before(&self) -> Option<&Status> {
        self.turn.before.status.as_ref()
    }

    fn role(&self) -> Role {
        self.status().standing.role
    }

    fn members(&self) -> &Configuration {
        members(self.status())
    }

    fn leads(&self) -> bool {
        self.turn.leads()
    }

    fn is_elected(&self) -> bool {
        self.turn.leads() && !self.turn.led()
    }

    fn campaigns(&self) -> bool {
        matches!(self.role(), Role::PreCandidate | Role::Candidate)
    }

    fn other(&self, is: impl Fn(&Other<'_>) -> bool) -> bool {
        self.others.iter().any(is)
    }

    fn peer(&self, is: impl Fn(&kontiki_node::driver::PeerStatus) -> bool) -> bool {
        self.status().progress.iter().any(is)
    }

    fn learner(&self, is: impl Fn(&Purpose) -> bool) -> bool {
        self.members().learners.values().any(is)
    }

    fn lives(&self, server: ServerId) -> bool {
        server == self.turn.server || self.other(|o| o.status.server == server)
    }

    fn names_lost(&self) -> bool {
        let mut voters = self.members().halves().flatten();
        voters.any(|voter| !self.lives(*voter))
    }

    /// Somebody knows a committed configuration without this server that is newer than its own.
    fn was_taken_out(&self) -> bool {
        let own = &self.status().configuration;
        own.configuration.contains(self.turn.server)
            && self.other(|o| {
                let known = &o.status.configuration;
                let is_newer = known.committed && known.index > own.index;
                is_newer && !known.configuration.contains(self.turn.server)
            })
    }

    fn read_waits(&self) -> bool {
        let mut open = self.ledger.open.values();
        open.any(|(at, asked, _)| *at == self.turn.server && matches!(asked, Asked::Read { .. }))
    }

    /// Figure 8 of the paper: what may look committed, and is not.
    fn waits_for_own_term(&self) -> bool {
        let status = self.status();
        if !self.leads() || status.term_committed {
            return false;
        }
        let next = status.commit.next();
        let id = self.turn.driver.raft().id_at(next);
        if id.is_none_or(|id| id.term == status.standing.term) {
            return false;
        }
        let holds = |server| {
            let mut peers = status.progress.iter();
            server == status.server
                || peers.any(|peer| peer.server == server && peer.matched >= next)
        };
        is_quorum(self.members(), self.turn.min_majority, holds)
    }

    /// Its log ends with something that the log of the other does not hold.
    fn diverges_from(&self, other: &Status) -> bool {
        let last: LogId = self.status().last;
        let holds = self.ledger.servers.get(&other.server);
        last.index <= other.last.index && holds.is_some_and(|seen| !seen.holds(last))
    }
}
