//! Faults.

use std::time::Duration;

use kontiki_raft::ServerId;

use super::requests::{Asker, Question};
use super::{Event, PLACES, World};
use crate::network::Place;
use crate::profile::Fault;

const SECOND: Duration = Duration::from_secs(1);

impl World {
    /// One fault, and the next one later.
    pub(super) fn make_trouble(&mut self) {
        if !self.chaos {
            return;
        }
        self.between(self.profile.pace_min, self.profile.pace_max, Event::Chaos);
        let total: u64 = self.profile.faults.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.rng.below(total);
        let chosen = self.profile.faults.iter().find(|(_, weight)| {
            let found = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            found
        });
        let (fault, _) = chosen.expect("the weights add up");
        if let Some(name) = self.commit(*fault) {
            self.note(format_args!("{name}"));
            self.tally.add(name);
        }
    }

    /// Does it, if it is possible now; its name in the tally.
    fn commit(&mut self, fault: Fault) -> Option<&'static str> {
        match fault {
            Fault::Partition => self.partition(),
            Fault::OneWay => self.cut_one_way(),
            Fault::IsolateLeader => self.isolate_leader(),
            Fault::Storm => Some(self.storm()),
            Fault::Crash => {
                let everybody: Vec<Place> = self.processes().map(|(place, _)| place).collect();
                let place = self.rng.pick(&everybody)?;
                self.crash(place).then_some("fault: crash")
            }
            Fault::CrashLeader => {
                let place = self.leader()?.0;
                self.crash(place).then_some("fault: crash of the leader")
            }
            Fault::Pause => {
                let leader = self.leader().map(|(place, _)| place);
                let place = leader.filter(|_| self.rng.chance(300));
                let place = place.unwrap_or(self.rng.index(PLACES));
                self.places[place].as_ref()?;
                self.pause(place, Duration::from_millis(20), 4 * SECOND);
                Some("fault: pause")
            }
            Fault::Reset => {
                self.break_connections(false, 300);
                Some("fault: connections reset")
            }
            Fault::TriggerElection => {
                let server = self.somebody()?;
                self.ask(Asker::Nobody, server, Question::TriggerElection);
                Some("fault: election triggered")
            }
            Fault::Transfer => self.transfer(),
            Fault::Scale => self.scale(),
            Fault::Roll => self.roll(),
            Fault::Rot => self.rot(),
            Fault::Foreign => self
                .forge(false)
                .then_some("fault: message of another cluster"),
            Fault::Corrupt => self.forge(true).then_some("fault: corrupted message"),
        }
    }

    fn somebody(&mut self) -> Option<ServerId> {
        let everybody: Vec<ServerId> = self
            .processes()
            .map(|(_, process)| process.server)
            .collect();
        self.rng.pick(&everybody)
    }

    fn cut(&mut self, links: Vec<(Place, Place)>) {
        let cut = self.network.cut(links);
        self.between(Duration::from_millis(100), 5 * SECOND, Event::Mend(cut));
        self.break_connections(true, 500);
    }

    fn partition(&mut self) -> Option<&'static str> {
        let sides: Vec<bool> = (0..PLACES).map(|_| self.rng.chance(500)).collect();
        let links = pairs()
            .filter(|(from, to)| sides[*from] != sides[*to])
            .collect();
        self.cut(links);
        Some("fault: partition")
    }

    fn cut_one_way(&mut self) -> Option<&'static str> {
        let place = self.rng.index(PLACES);
        let links = match self.rng.below(3) {
            0 => pairs().filter(|(from, _)| *from == place).collect(),
            1 => pairs().filter(|(_, to)| *to == place).collect(),
            _ => pairs()
                .filter(|(from, to)| from < to && self.rng.chance(300))
                .collect(),
        };
        self.cut(links);
        Some("fault: one-way cut")
    }

    fn isolate_leader(&mut self) -> Option<&'static str> {
        let leader = self.leader()?.0;
        let only_inbound = self.rng.chance(300);
        let links =
            pairs().filter(|(from, to)| *to == leader || (*from == leader && !only_inbound));
        self.cut(links.collect());
        if self.rng.chance(500) {
            // Another is elected while the isolated one still believes that it leads.
            let others: Vec<ServerId> = self
                .processes()
                .filter(|(place, _)| *place != leader)
                .map(|(_, process)| process.server)
                .collect();
            let server = self.rng.pick(&others)?;
            self.ask(Asker::Nobody, server, Question::TriggerElection);
        }
        Some("fault: leader isolated")
    }

    fn storm(&mut self) -> &'static str {
        let weather = &mut self.network.weather;
        weather.loss = self.rng.within(5, 250);
        weather.duplication = self.rng.within(0, 200);
        weather.spikes = self.rng.within(0, 200);
        weather.spike = Duration::from_millis(self.rng.within(5, 1500));
        self.between(Duration::from_millis(200), 4 * SECOND, Event::Calm);
        "fault: storm"
    }

    pub(super) fn crash(&mut self, place: Place) -> bool {
        let Some(process) = self.places[place].as_ref() else {
            return false;
        };
        if !self.operator.activated || !self.can_lose(process.server) {
            return false;
        }
        self.kill(place);
        self.between(Duration::from_millis(10), 3 * SECOND, Event::Start(place));
        true
    }

    fn transfer(&mut self) -> Option<&'static str> {
        let leader = self.leader()?.1.server;
        let target = if self.rng.chance(300) {
            None
        } else {
            self.somebody()
        };
        self.ask(Asker::Nobody, leader, Question::Transfer(target));
        Some("fault: transfer asked for")
    }

    fn scale(&mut self) -> Option<&'static str> {
        if !self.operator.activated {
            return None;
        }
        let least = self.raft.min_majority.max(1) as u64;
        let wanted = match self.rng.below(3) {
            0 => 3,
            1 => 5,
            _ => self.rng.within(least, PLACES as u64 - 1) as usize,
        };
        self.operator.wanted = wanted;
        for place in 0..wanted {
            self.between(Duration::ZERO, SECOND, Event::Start(place));
        }
        Some("fault: another size wanted")
    }

    /// All faults end: cuts are mended, who stood still goes on, whoever is missing starts.
    pub fn heal(&mut self) {
        self.note(format_args!("heal"));
        self.chaos = false;
        self.network.heal();
        let here: Vec<(Place, ServerId)> = self
            .processes()
            .map(|(place, process)| (place, process.server))
            .collect();
        for (place, server) in here {
            self.resume(place, server);
        }
        for place in 0..self.operator.wanted {
            self.start(place);
        }
    }

    /// More voters die than the cluster can lose, at once; nobody repairs it. Fresh incarnations
    /// start in their places.
    pub fn lose_quorum(&mut self) {
        self.tally.add("fault: total loss");
        let voters: Vec<Place> = self.processes().map(|(place, _)| place).collect();
        let survivors = voters.len() - (voters.len() / 2 + 1).max(self.raft.min_majority);
        let mut doomed = voters;
        for _ in 0..survivors.min(doomed.len()) {
            // Of n voters n - quorum survive: one fewer than a quorum, or even less.
            doomed.swap_remove(self.rng.index(doomed.len()));
        }
        for place in doomed {
            self.kill(place);
            self.between(Duration::from_millis(10), 3 * SECOND, Event::Start(place));
        }
    }
}

fn pairs() -> impl Iterator<Item = (Place, Place)> {
    (0..PLACES).flat_map(|from| (0..PLACES).map(move |to| (from, to)))
}
