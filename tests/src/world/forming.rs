//! How a cluster begins: by an operator, which records who is to begin before it tells anybody, or by its
//! own servers, of which the one with the smallest name asks the others. Either may be cut short by
//! crashes. And how it begins again, empty, after a quorum of its memories was lost at once.

use std::time::Duration;

use kontiki_raft::{ClusterId, ServerId};

use super::chaos::Did;
use super::requests::{Asker, Question};
use super::{Event, World};
use crate::network::Place;
use crate::rng::Rng;

/// The operator starts an empty cluster so long after a quorum was lost.
const GIVEN_UP: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(6));
/// When the next process starts in a place.
const RESTART: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));

/// Where a cluster is in its life.
#[derive(Debug, Default)]
pub(super) struct Formation {
    /// Its servers bootstrap and activate themselves.
    pub(super) is_embedded: bool,
    /// The cluster and its initial voters, once drawn, and the server that drew them if no operator did.
    identity: Option<Identity>,
    /// Somebody was told to activate it: from then on there may be data to lose.
    initialized: bool,
    /// A quorum is lost, and an empty cluster will start.
    pub(super) is_lost: bool,
}

#[derive(Clone, Debug)]
struct Identity {
    cluster: ClusterId,
    voters: Vec<ServerId>,
    founder: Option<ServerId>,
}

impl Formation {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self {
            is_embedded: rng.chance(150),
            ..Self::default()
        }
    }

    /// Nothing was ever acknowledged, and nothing can be lost.
    pub(super) fn is_fresh(&self) -> bool {
        !self.initialized && !self.is_embedded
    }
}

impl World {
    /// Bootstrap, until all have it; then activate.
    pub(super) fn form(&mut self) {
        let wanted = self.operator.wanted;
        let here: Vec<(ServerId, Option<ClusterId>)> = self
            .processes()
            .filter(|(place, _)| *place < wanted)
            .map(|(_, process)| (process.server, process.status.cluster))
            .collect();
        self.draw_anew(&here);
        let is_fresh = |(_, cluster): &(ServerId, Option<ClusterId>)| cluster.is_none();
        if self.formation.identity.is_none() && here.len() == wanted && here.iter().all(is_fresh) {
            let cluster = ClusterId(self.operator.noise.at(self.now).bits() | 1);
            self.formation.identity = Some(Identity {
                cluster,
                voters: here.iter().map(|(server, _)| *server).collect(),
                founder: self.formation.is_embedded.then_some(here[0].0),
            });
        }
        let leader = self.leader().map(|(_, leader)| {
            let status = &leader.status;
            (leader.server, status.activated)
        });
        if self.formation.is_embedded && leader.is_some_and(|(_, activated)| activated) {
            self.tally.add("cluster: bootstrapped by its servers");
            self.formation.initialized = true;
            self.operator.activated = true;
            return;
        }
        let Some(identity) = self.formation.identity.clone() else {
            return;
        };
        let Identity {
            cluster, voters, ..
        } = identity;
        let fresh = here.iter().filter(|one| is_fresh(one));
        for (server, _) in fresh.filter(|(server, _)| voters.contains(server)) {
            let voters = voters.clone();
            self.ask(
                Asker::Operator,
                *server,
                Question::Bootstrap { cluster, voters },
            );
        }
        if !self.formation.is_embedded
            && self.operator.is_idle()
            && let Some((leader, _)) = leader
        {
            self.formation.initialized = true;
            self.request_of(leader, Question::Activate);
        }
    }

    /// Before anybody was told to activate the cluster nothing can be lost: if half of its initial voters
    /// are gone, others are drawn, and all servers are ended. A founder that is gone has told
    /// whom it has told.
    fn draw_anew(&mut self, here: &[(ServerId, Option<ClusterId>)]) {
        let Some(identity) = self.formation.identity.clone() else {
            return;
        };
        let lives = |server: &&ServerId| here.iter().any(|(one, _)| one == *server);
        if let Some(founder) = identity.founder {
            if !lives(&&founder) {
                self.formation.identity = None;
            }
            return;
        }
        let quorum = (identity.voters.len() / 2 + 1).max(self.raft.min_majority);
        if self.formation.initialized || identity.voters.iter().filter(lives).count() >= quorum {
            return;
        }
        self.tally.add("cluster: identity drawn anew");
        self.formation.identity = None;
        self.end_all();
        self.begin_checks_anew();
    }

    /// Ends the process in a place before its cluster was activated, if that cluster survives it or has
    /// nothing to lose.
    pub(super) fn crash_while_forming(&mut self, place: Place, rng: &mut Rng) -> Option<String> {
        let server = self.places[place].as_ref()?.server;
        if !self.formation.is_fresh() && !self.can_lose(server) {
            return None;
        }
        self.tally.add("cluster: crash before it is activated");
        self.kill(place);
        self.soon(rng, RESTART.0, RESTART.1, Event::Start(place));
        Some(format!("of {server} in place {place}, before activation"))
    }

    /// More servers die than the cluster can lose. After a while its operator gives it up.
    pub(super) fn lose_cluster(&mut self, rng: &mut Rng) -> Did {
        if !self.operator.activated || self.formation.is_lost {
            return None;
        }
        let mut doomed = self.living();
        let quorum = (doomed.len() / 2 + 1).max(self.raft.min_majority);
        let survivors = rng.below((doomed.len().saturating_sub(quorum) + 1) as u64);
        for _ in 0..survivors {
            doomed.swap_remove(rng.index(doomed.len()));
        }
        for place in &doomed {
            self.kill(*place);
            self.soon(rng, RESTART.0, RESTART.1, Event::Start(*place));
        }
        self.formation.is_lost = true;
        self.soon(rng, GIVEN_UP.0, GIVEN_UP.1, Event::StartEmpty);
        Some((
            "fault: total loss, and an empty cluster",
            format!(
                "{} of {} die",
                doomed.len(),
                doomed.len() as u64 + survivors
            ),
        ))
    }

    /// The operator ends all servers, and forms another cluster in the same places. Clients know nothing
    /// of it.
    pub(super) fn start_empty(&mut self) {
        if !self.formation.is_lost {
            return;
        }
        self.note(format_args!("start empty"));
        self.tally.add("cluster: started empty");
        self.end_all();
        self.formation = Formation {
            is_embedded: self.formation.is_embedded,
            ..Formation::default()
        };
        self.operator.begin_anew();
        self.changes.clear();
        self.begin_checks_anew();
    }

    /// Another cluster has nothing to do with what was seen of the one before.
    fn begin_checks_anew(&mut self) {
        let before = std::mem::take(&mut self.checker).ledger;
        self.checker.ledger.odd_clocks = before.odd_clocks;
        self.checker.ledger.clocks_are_wild = before.clocks_are_wild;
        for invariant in (self.invariants)() {
            self.checker.add(invariant);
        }
    }

    /// Ends every process; others start where servers are wanted. What was seen of one that lived on
    /// would be missing.
    fn end_all(&mut self) {
        for place in self.living() {
            self.kill(place);
            if place < self.operator.wanted {
                self.between(place, RESTART.0, RESTART.1, Event::Start(place));
            }
        }
    }
}
