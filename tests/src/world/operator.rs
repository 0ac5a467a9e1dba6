//! A model of the operator: it bootstraps, activates, replaces what is lost, scales, and takes out
//! what is not wanted. One change at a time; nothing voluntary without a margin. What it sees of
//! servers is true but comes late, as its requests do.

use std::collections::BTreeSet;
use std::time::Duration;

use kontiki_node::driver::{Answer, Refusal, Status, Until};
use kontiki_raft::{ChangeRequest, ClusterId, Purpose, ServerId};

use super::requests::{Asker, Question, Request};
use super::{Event, PLACES, World};
use crate::network::Place;
use crate::rng::Rng;

/// An unanswered request is given up after this long; longer than any pause, so that what it asked
/// for is visible in some configuration by then or will never be.
const PATIENCE: Duration = Duration::from_secs(6);

#[derive(Debug)]
pub(super) struct Operator {
    /// Servers wanted: in the places below this.
    pub(super) wanted: usize,
    /// Initial voters, once drawn.
    identity: Option<(ClusterId, Vec<ServerId>)>,
    pub(super) activated: bool,
    in_flight: Option<InFlight>,
    /// The lost server, and the one to take its place.
    replacing: Option<(ServerId, ServerId)>,
    voters_seen: usize,
}

#[derive(Debug)]
struct InFlight {
    request: u64,
    until: u64,
    change: Option<ChangeRequest>,
}

impl Operator {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self {
            wanted: [3, 3, 3, 5, 5, 2, 4][rng.index(7)],
            identity: None,
            activated: false,
            in_flight: None,
            replacing: None,
            voters_seen: 0,
        }
    }

    pub(super) fn change_in_flight(&self) -> Option<&ChangeRequest> {
        self.in_flight.as_ref()?.change.as_ref()
    }
}

impl World {
    /// The operator looks, and does the next thing.
    pub(super) fn operate(&mut self) {
        self.between(
            Duration::from_millis(30),
            Duration::from_millis(300),
            Event::Operator,
        );
        let now = self.now;
        self.operator
            .in_flight
            .take_if(|waiting| waiting.until < now);
        if !self.operator.activated {
            self.form();
            return;
        }
        self.end_quarantined();
        for place in 0..self.operator.wanted {
            if self.places[place].is_none() && !self.chaos {
                self.start(place);
            }
        }
        let serving = self
            .leader()
            .filter(|(_, leader)| leader.status.serving && !leader.paused);
        let Some(status) = serving.map(|(_, leader)| leader.status.clone()) else {
            return;
        };
        self.observe(&status);
        if self.operator.in_flight.is_none() && !status.configuration.configuration.is_joint() {
            self.next_step(&status);
        }
    }

    /// Bootstrap, until all have it; then activate.
    fn form(&mut self) {
        let here: Vec<(ServerId, bool)> = self
            .processes()
            .map(|(_, process)| (process.server, process.status.cluster.is_none()))
            .collect();
        if self.operator.identity.is_none() && here.len() == self.operator.wanted {
            let cluster = ClusterId(self.rng.bits() | 1);
            let voters = here.iter().map(|(server, _)| *server).collect();
            self.operator.identity = Some((cluster, voters));
        }
        let Some((cluster, voters)) = self.operator.identity.clone() else {
            return;
        };
        for (server, _) in here.iter().filter(|(_, fresh)| *fresh) {
            let voters = voters.clone();
            self.ask(
                Asker::Operator,
                *server,
                Question::Bootstrap { cluster, voters },
            );
        }
        if self.operator.in_flight.is_none()
            && let Some((_, leader)) = self.leader()
        {
            let server = leader.server;
            self.request_of(server, Question::Activate, None);
        }
    }

    /// Notices what came to be.
    fn observe(&mut self, status: &Status) {
        let known = &status.configuration;
        if !known.committed || known.configuration.is_joint() {
            return;
        }
        let voters = &known.configuration.voters;
        let in_force =
            |(lost, new): &mut (ServerId, ServerId)| voters.contains(new) && !voters.contains(lost);
        if self.operator.replacing.take_if(in_force).is_some() {
            self.tally.add("change: replacement in force");
        }
        let before = std::mem::replace(&mut self.operator.voters_seen, voters.len());
        if before != 0 && voters.len() > before {
            self.tally.add("change: scaled up");
        }
        if voters.len() < before {
            self.tally.add("change: scaled down");
        }
    }

    fn next_step(&mut self, status: &Status) {
        let known = &status.configuration.configuration;
        let lost_learners: Vec<ServerId> = known
            .learners
            .keys()
            .filter(|learner| !self.lives(**learner))
            .copied()
            .collect();
        if self.replace_lost(status, &lost_learners) {
            return;
        }
        if !lost_learners.is_empty() {
            self.change(status, Vec::new(), lost_learners);
            return;
        }
        let held_back = self.held_back(status);
        if !held_back.is_empty() {
            self.tally.add("learner: held back, lacks the version");
            let places: Vec<Place> = held_back.iter().map(|one| self.address[one]).collect();
            self.change(status, Vec::new(), held_back);
            places.into_iter().for_each(|place| self.kill(place));
            return;
        }
        let all = known.servers();
        // A learner that was to stay one and is now to vote goes, and comes back.
        let staying = known.learners.iter().filter(|(learner, purpose)| {
            **purpose == Purpose::Stay && self.address[*learner] < self.operator.wanted
        });
        let staying: Vec<ServerId> = staying.map(|(learner, _)| *learner).collect();
        if !staying.is_empty() {
            self.change(status, Vec::new(), staying);
            return;
        }
        let joiners: Vec<ServerId> = (0..self.operator.wanted)
            .filter_map(|place| self.places[place].as_ref())
            .map(|process| process.server)
            .filter(|server| !all.contains(server) && !self.stands_for_lost(status, *server))
            .collect();
        if !joiners.is_empty() {
            let add = joiners.into_iter().map(|server| (server, Purpose::Join));
            self.change(status, add.collect(), Vec::new());
            return;
        }
        if !self.shrink(status, &all) && self.chaos && self.rng.chance(20) {
            self.add_observer(status);
        }
    }

    /// A fresh process in the place of a lost voter is its replacement, not one more.
    fn stands_for_lost(&self, status: &Status, server: ServerId) -> bool {
        let place = self.address[&server];
        let voters = &status.configuration.configuration.voters;
        voters
            .iter()
            .any(|voter| self.address[voter] == place && !self.lives(*voter))
    }

    fn replace_lost(&mut self, status: &Status, lost_learners: &[ServerId]) -> bool {
        let known = &status.configuration.configuration;
        let all = known.servers();
        for lost in known.voters.iter().filter(|voter| !self.lives(**voter)) {
            let place = self.address[lost];
            let under_way = known.learners.iter().any(|(learner, purpose)| {
                *purpose == Purpose::Replace(*lost) && self.lives(*learner)
            });
            let fresh = self.places[place].as_ref().map(|process| process.server);
            let fresh = fresh.filter(|fresh| !all.contains(fresh));
            if place < self.operator.wanted
                && !under_way
                && let Some(fresh) = fresh
            {
                let lost = *lost;
                let add = vec![(fresh, Purpose::Replace(lost))];
                self.operator.replacing = Some((lost, fresh));
                self.change(status, add, lost_learners.to_vec());
                return true;
            }
        }
        false
    }

    /// Takes servers out that are in places not wanted, then stops their processes.
    fn shrink(&mut self, status: &Status, all: &BTreeSet<ServerId>) -> bool {
        let unwanted = |place: Place| place >= self.operator.wanted;
        let known = &status.configuration.configuration;
        let surplus: Vec<ServerId> = all
            .iter()
            .filter(|server| unwanted(self.address[server]))
            .copied()
            .collect();
        if surplus.is_empty() {
            let empty: Vec<Place> = self
                .processes()
                .filter(|(place, process)| {
                    unwanted(*place)
                        && status.configuration.committed
                        && self.can_lose(process.server)
                })
                .map(|(place, _)| place)
                .collect();
            for place in empty {
                self.kill(place);
            }
            return false;
        }
        let left = known.voters.iter().filter(|voter| !surplus.contains(voter));
        let living = left.clone().filter(|voter| self.is_sound(**voter)).count();
        let left = left.count();
        if living < (left / 2 + 1).max(self.raft.min_majority) {
            return true; // no margin for it
        }
        if surplus.contains(&status.server) && self.rng.chance(500) {
            self.request_of(status.server, Question::Transfer(None), None);
            return true;
        }
        self.change(status, Vec::new(), surplus);
        true
    }

    /// A learner that stays one, for a while.
    fn add_observer(&mut self, status: &Status) {
        let place = self.operator.wanted;
        if place >= PLACES || self.places[place].is_some() {
            return;
        }
        self.start(place);
        let server = self.places[place].as_ref().expect("just started").server;
        self.tally.add("change: learner that stays");
        self.change(status, vec![(server, Purpose::Stay)], Vec::new());
    }

    fn change(&mut self, status: &Status, add: Vec<(ServerId, Purpose)>, remove: Vec<ServerId>) {
        let seen = self.rng.chance(800).then_some(status.configuration.index);
        let until = if self.rng.chance(500) {
            Until::Effective
        } else {
            Until::Committed
        };
        let change = ChangeRequest { add, remove, seen };
        self.tally.add("change: asked for");
        let question = Question::Change {
            change: change.clone(),
            until,
        };
        self.request_of(status.server, question, Some(change));
        if self.chaos && self.rng.chance(150) {
            self.rush(status);
        }
    }

    /// Somebody else asks for a change at the same time: it must be refused, or come after.
    fn rush(&mut self, status: &Status) {
        let place = PLACES - 1; // never wanted
        self.start(place);
        let spare = self.places[place].as_ref().expect("just started");
        let change = ChangeRequest {
            add: vec![(spare.server, Purpose::Stay)],
            ..ChangeRequest::default()
        };
        let until = Until::Committed;
        let question = Question::Change { change, until };
        self.ask(Asker::Nobody, status.server, question);
    }

    fn request_of(&mut self, server: ServerId, question: Question, change: Option<ChangeRequest>) {
        let request = self.ask(Asker::Operator, server, question);
        self.operator.in_flight = Some(InFlight {
            request,
            until: self.now + PATIENCE.as_nanos() as u64,
            change,
        });
    }

    pub(super) fn operator_hears(
        &mut self,
        id: u64,
        request: &Request,
        result: &Result<Answer, Refusal>,
    ) {
        self.operator
            .in_flight
            .take_if(|waiting| waiting.request == id);
        if let (Question::Change { change, .. }, Err(Refusal::UnsupportedVersion(_))) =
            (&request.question, result)
        {
            self.refuse_program(change);
        }
        if matches!(request.question, Question::Activate) && result.is_ok() {
            self.operator.activated = true;
        }
    }
}
