//! A model of the operator: it bootstraps, activates, replaces what is lost, scales, and takes out
//! what is not wanted. One change at a time; nothing voluntary without a margin. What it sees of
//! servers is true but comes late, as its requests do. Its mistakes are faults, of another file.

use std::collections::BTreeSet;
use std::time::Duration;

use kontiki_node::driver::{Answer, Refusal, Status, Until};
use kontiki_raft::{ChangeRequest, Purpose, ServerId};

use super::requests::{Asker, Question, Request};
use super::{Event, World};
use crate::network::Place;
use crate::rng::{Noise, Rng};

/// An unanswered request is given up after this long. It may be begun all the same, later.
const PATIENCE: Duration = Duration::from_secs(6);

#[derive(Debug)]
pub(super) struct Operator {
    /// Servers wanted: in the places below this.
    pub(super) wanted: usize,
    pub(super) activated: bool,
    in_flight: Option<InFlight>,
    /// The lost server, and the one to take its place.
    replacing: Option<(ServerId, ServerId)>,
    /// Voters that live, and who is to take their place by mistake.
    pub(super) mistakes: Vec<(ServerId, ServerId)>,
    voters_seen: usize,
    /// Servers that lack the version in force, and are yet to be ended.
    pub(super) refused: BTreeSet<ServerId>,
    pub(super) noise: Noise,
}

#[derive(Debug)]
struct InFlight {
    request: u64,
    until: u64,
}

impl Operator {
    pub(super) fn new(seed: u64, rng: &mut Rng) -> Self {
        Self {
            wanted: [3, 3, 3, 5, 5, 2, 4][rng.index(7)],
            activated: false,
            in_flight: None,
            replacing: None,
            mistakes: Vec::new(),
            voters_seen: 0,
            refused: BTreeSet::new(),
            noise: Noise::new(seed, "operator", 0),
        }
    }

    /// It knows nothing of the cluster that comes next.
    pub(super) fn begin_anew(&mut self) {
        *self = Self {
            wanted: self.wanted,
            activated: false,
            in_flight: None,
            replacing: None,
            mistakes: Vec::new(),
            voters_seen: 0,
            refused: BTreeSet::new(),
            noise: self.noise.clone(),
        };
    }

    /// It waits for no answer.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_none()
    }
}

impl World {
    /// The operator looks, and does the next thing.
    pub(super) fn operate(&mut self) {
        let (low, high) = (Duration::from_millis(30), Duration::from_millis(300));
        let pause = self.operator.noise.at(self.now).duration(low, high);
        self.at(self.now + pause, Event::Operator);
        let now = self.now;
        self.operator
            .in_flight
            .take_if(|waiting| waiting.until < now);
        if !self.operator.activated {
            self.form();
            return;
        }
        if self.formation.is_lost {
            return;
        }
        self.end_quarantined();
        self.end_refused();
        self.end_hung();
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
        let mistakes = &mut self.operator.mistakes;
        let remembered = mistakes.len();
        mistakes.retain_mut(|mistake| !in_force(mistake));
        let shown = remembered - mistakes.len();
        self.tally
            .add_many("change: mistaken replacement in force", shown as u64);
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
            .filter(|server| !self.operator.refused.contains(server))
            .collect();
        if !joiners.is_empty() {
            let add = joiners.into_iter().map(|server| (server, Purpose::Join));
            self.change(status, add.collect(), Vec::new());
            return;
        }
        self.shrink(status, &all);
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
            let is_refused = |fresh: &ServerId| self.operator.refused.contains(fresh);
            let fresh = fresh.filter(|fresh| !all.contains(fresh) && !is_refused(fresh));
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
    fn shrink(&mut self, status: &Status, all: &BTreeSet<ServerId>) {
        let wanted = self.operator.wanted;
        let unwanted = |place: Place| place >= wanted;
        let surplus: Vec<ServerId> = all
            .iter()
            .filter(|server| unwanted(self.address[server]))
            .copied()
            .collect();
        if surplus.is_empty() {
            // One after the other: together they may be more than can be lost.
            for place in self.living() {
                let server = self.places[place].as_ref().map(|process| process.server);
                if unwanted(place)
                    && status.configuration.committed
                    && server.is_some_and(|server| self.can_lose(server))
                {
                    self.kill(place);
                }
            }
            return;
        }
        let change = ChangeRequest {
            remove: surplus.clone(),
            ..ChangeRequest::default()
        };
        if !self.can_change(&change) {
            return; // no margin for it
        }
        if surplus.contains(&status.server) && self.operator.noise.at(self.now).chance(500) {
            self.request_of(status.server, Question::Transfer(None));
            return;
        }
        self.change(status, Vec::new(), surplus);
    }

    fn change(&mut self, status: &Status, add: Vec<(ServerId, Purpose)>, remove: Vec<ServerId>) {
        let mut rng = self.operator.noise.at(self.now);
        let seen = rng.chance(800).then_some(status.configuration.index);
        let until = if rng.chance(500) {
            Until::Effective
        } else {
            Until::Committed
        };
        let change = ChangeRequest { add, remove, seen };
        self.tally.add("change: asked for");
        self.request_of(status.server, Question::Change { change, until });
    }

    pub(super) fn request_of(&mut self, server: ServerId, question: Question) {
        let request = self.ask(Asker::Operator, server, question);
        self.operator.in_flight = Some(InFlight {
            request,
            until: self.now + PATIENCE.as_nanos() as u64,
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
            let added = change.add.iter().map(|(server, _)| *server);
            self.operator.refused.extend(added);
            self.end_refused();
        }
        if matches!(request.question, Question::Activate) && result.is_ok() {
            self.operator.activated = true;
        }
    }
}
