//! Faults of links: cuts of all shapes, links that flap, links that are slow one way, storms.

use std::time::Duration;

use kontiki_raft::ServerId;

use super::chaos::Did;
use super::requests::{Asker, Question};
use super::{Event, PLACES, World};
use crate::network::{Link, Place};
use crate::rng::Rng;

const SECOND: Duration = Duration::from_secs(1);
/// A flapping link goes down at most this often.
const FLAPS_MAX: u64 = 16;

impl World {
    fn cut(&mut self, links: Vec<Link>, rng: &mut Rng) {
        let cut = self.network.cut(links);
        self.soon(
            rng,
            Duration::from_millis(100),
            5 * SECOND,
            Event::Mend(cut),
        );
        self.break_connections(true, 500, rng);
    }

    /// Two groups; neither is empty.
    fn sides(&self, rng: &mut Rng) -> Vec<bool> {
        let mut sides: Vec<bool> = (0..PLACES).map(|_| rng.chance(500)).collect();
        if sides.iter().all(|side| *side == sides[0]) {
            sides[0] = !sides[0];
        }
        sides
    }

    pub(super) fn partition(&mut self, rng: &mut Rng) -> Did {
        let sides = self.sides(rng);
        let links = pairs().filter(|(from, to)| sides[*from] != sides[*to]);
        self.cut(links.collect(), rng);
        Some(("fault: partition", side(&sides)))
    }

    /// What one side says reaches the other, and no answer comes.
    pub(super) fn partition_one_way(&mut self, rng: &mut Rng) -> Did {
        let sides = self.sides(rng);
        let links = pairs().filter(|(from, to)| sides[*from] && !sides[*to]);
        self.cut(links.collect(), rng);
        Some(("fault: partition in one direction", side(&sides)))
    }

    /// Of two places, often the leader's is one; the others hear both.
    pub(super) fn partition_partial(&mut self, rng: &mut Rng) -> Did {
        let living = self.living();
        let leader = self.leader().map(|(place, _)| place);
        let one = leader.filter(|_| rng.chance(600));
        let one = one.or_else(|| rng.pick(&living))?;
        let others: Vec<Place> = living.into_iter().filter(|place| *place != one).collect();
        let other = rng.pick(&others)?;
        self.cut(vec![(one, other), (other, one)], rng);
        Some((
            "fault: partial partition",
            format!("places {one} | {other}"),
        ))
    }

    pub(super) fn cut_one_way(&mut self, rng: &mut Rng) -> Did {
        let place = rng.index(PLACES);
        let (links, what): (Vec<Link>, _) = match rng.below(3) {
            0 => {
                let out = pairs().filter(|(from, _)| *from == place);
                (out.collect(), format!("from place {place}"))
            }
            1 => {
                let into = pairs().filter(|(from, to)| *to == place && *from != place);
                (into.collect(), format!("to place {place}"))
            }
            _ => {
                let some = pairs().filter(|(from, to)| from < to && rng.chance(300));
                let some: Vec<Link> = some.collect();
                let what = format!("{some:?}");
                (some, what)
            }
        };
        self.cut(links, rng);
        Some(("fault: one-way cut", what))
    }

    pub(super) fn isolate_leader(&mut self, rng: &mut Rng) -> Did {
        let leader = self.leader()?.0;
        Some(("fault: leader isolated", self.isolate(leader, rng)))
    }

    /// Cuts a leader off from everybody; says how.
    pub(super) fn isolate(&mut self, leader: Place, rng: &mut Rng) -> String {
        let only_inbound = rng.chance(300);
        // With somebody who goes on storing what nobody will commit.
        let others: Vec<Place> = self
            .living()
            .into_iter()
            .filter(|one| *one != leader)
            .collect();
        let companion = rng.pick(&others).filter(|_| rng.chance(400));
        let is_inside = |place: &Place| *place == leader || Some(*place) == companion;
        let links = pairs().filter(|(from, to)| match (is_inside(from), is_inside(to)) {
            (false, true) => true,
            (true, false) => !only_inbound,
            _ => false,
        });
        self.cut(links.collect(), rng);
        let mut what = format!("place {leader} with {companion:?}, only inbound: {only_inbound}");
        if rng.chance(500) {
            // Another is elected while the isolated one still believes that it leads.
            let others: Vec<ServerId> = self
                .processes()
                .filter(|(place, _)| *place != leader)
                .map(|(_, process)| process.server)
                .collect();
            if let Some(server) = rng.pick(&others) {
                self.ask(Asker::Nobody, server, Question::TriggerElection);
                what.push_str(&format!(", {server} is told to campaign"));
            }
        }
        what
    }

    /// The leader hands over, or another is told to campaign, now or when the leader is not heard any
    /// more: and all that it hears it hears late, so that it goes on for a while beside its successor.
    pub(super) fn usurp(&mut self, rng: &mut Rng) -> Did {
        let (place, leader) = self.leader()?;
        let leader = leader.server;
        let others = self.processes().filter(|(other, _)| *other != place);
        let others: Vec<ServerId> = others.map(|(_, process)| process.server).collect();
        let usurper = rng.pick(&others)?;
        // At most so long ago a voter may have promised its vote to the leader.
        let promised = self.raft.heartbeat * 5;
        let promised = promised.min(self.raft.election_timeout_min) * 21 / 20;
        let way = rng.below(3) as u32;
        let late = match way {
            // Answers count for a lease all the same, and the successor's come late as well.
            0 | 1 => promised * rng.within(20, 60) as u32 / 100,
            _ => promised * rng.within(50, 200) as u32 / 100,
        };
        if way == 0 {
            self.handover = Some((late, rng.clone()));
            self.ask(Asker::Nobody, leader, Question::Transfer(Some(usurper)));
            let what = format!("{leader} hands over to {usurper}, then hears {late:?} late");
            return Some(("fault: leader is late to hear of another", what));
        }
        self.hears_late(place, late, rng);
        // One or all do not hear the leader any more, and a promise to it has just run out there; what
        // the leader heard late until then may seem to be of now.
        let there = self.address[&usurper];
        let out = pairs().filter(|(from, to)| *from == place && (way == 2 || *to == there));
        let (out, silence) = (out.collect(), rng.duration(SECOND, 3 * SECOND));
        let begins = late * (way - 1);
        let silence = Event::Flap(out, Duration::from_nanos(silence), 0);
        self.after(begins, silence);
        let due = begins + promised + promised * rng.below(5) as u32 / 20;
        self.ask_later(Asker::Nobody, usurper, Question::TriggerElection, due);
        let what = format!("{leader} hears {late:?} late, and is challenged by {usurper}");
        Some(("fault: leader is late to hear of another", what))
    }

    /// A leader has just told another to campaign: what was prepared for that happens.
    pub(super) fn spring_at_handover(&mut self, place: Place) {
        if let Some((late, mut rng)) = self.handover.take().filter(|_| self.chaos) {
            self.hears_late(place, late, &mut rng);
        }
    }

    /// All that others say to a place takes up to so much longer, for a while.
    fn hears_late(&mut self, place: Place, late: Duration, rng: &mut Rng) {
        let into = pairs().filter(|(from, to)| *to == place && *from != place);
        let slow = self.network.slow(into, late);
        self.soon(rng, 2 * late, late + 3 * SECOND, Event::Mend(slow));
    }

    /// One link both ways, or all of a place: down and up, often faster than anybody notices.
    pub(super) fn begin_flapping(&mut self, rng: &mut Rng) -> Did {
        let living = self.living();
        let leader = self.leader().map(|(place, _)| place);
        let one = leader.filter(|_| rng.chance(400));
        let one = one.or_else(|| rng.pick(&living))?;
        let peers: Vec<Place> = living.into_iter().filter(|place| *place != one).collect();
        let peer = rng.pick(&peers).filter(|_| rng.chance(500));
        let concerns = |link: &Link| match peer {
            Some(peer) => *link == (one, peer) || *link == (peer, one),
            None => link.0 == one || link.1 == one,
        };
        let period = Duration::from_nanos(rng.duration(Duration::from_millis(10), SECOND));
        let times = rng.within(4, FLAPS_MAX);
        let what = format!("place {one} and {peer:?}, {times} times {period:?}");
        self.flap(pairs().filter(concerns).collect(), period, times - 1);
        Some(("fault: flapping link", what))
    }

    /// Down now, and `more` times after it was up.
    pub(super) fn flap(&mut self, links: Vec<Link>, period: Duration, more: u64) {
        if !self.chaos {
            return;
        }
        self.tally.add("link: down, flapping");
        let cut = self.network.cut(links.iter().copied());
        self.after(period, Event::Mend(cut));
        let place = links.first().map_or(0, |link| link.0);
        let mut rng = self.noises[place].at(self.now);
        self.break_connections(true, 300, &mut rng);
        if more > 0 {
            self.after(2 * period, Event::Flap(links, period, more - 1));
        }
    }

    /// All that a place says, all that it hears, or one link: late. The other direction is as ever.
    pub(super) fn slow_down(&mut self, rng: &mut Rng) -> Did {
        let living = self.living();
        let leader = self.leader().map(|(place, _)| place);
        let one = leader.filter(|_| rng.chance(400));
        let one = one.or_else(|| rng.pick(&living))?;
        let other = rng.index(PLACES);
        let (links, which): (Vec<Link>, _) = match rng.below(3) {
            0 => (pairs().filter(|(from, _)| *from == one).collect(), "from"),
            1 => (pairs().filter(|(_, to)| *to == one).collect(), "to"),
            _ => (vec![(one, other)], "one link from"),
        };
        let delay = Duration::from_millis(rng.within(20, 2500));
        let slow = self.network.slow(links, delay);
        self.soon(
            rng,
            Duration::from_millis(300),
            6 * SECOND,
            Event::Mend(slow),
        );
        let what = format!("{which} place {one}, by up to {delay:?}");
        Some(("fault: slow in one direction", what))
    }

    pub(super) fn storm(&mut self, rng: &mut Rng) -> Did {
        let weather = &mut self.network.weather;
        weather.loss = rng.within(5, 250);
        weather.duplication = rng.within(0, 200);
        weather.spikes = rng.within(0, 200);
        weather.spike = Duration::from_millis(rng.within(5, 1500));
        let what = format!("{} in a thousand lost", weather.loss);
        self.soon(rng, Duration::from_millis(200), 4 * SECOND, Event::Calm);
        Some(("fault: storm", what))
    }

    /// Places in which somebody lives.
    pub(super) fn living(&self) -> Vec<Place> {
        self.processes().map(|(place, _)| place).collect()
    }
}

fn pairs() -> impl Iterator<Item = Link> {
    (0..PLACES).flat_map(|from| (0..PLACES).map(move |to| (from, to)))
}

fn side(sides: &[bool]) -> String {
    let one = sides.iter().enumerate().filter(|(_, side)| **side);
    let one: Vec<Place> = one.map(|(place, _)| place).collect();
    format!("places {one:?} | the others")
}
