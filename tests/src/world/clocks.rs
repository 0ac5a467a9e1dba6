//! Clocks that break the contract: one that stands still while its machine does, as under a hypervisor
//! that pauses it, one that jumps ahead, one that goes far too fast or too slow. What such a clock is
//! trusted with is not judged: reads under a lease, reads of bounded age, and when a leader steps down.
//! All that needs no clock is judged as ever: the logs, elections, and reads that are confirmed by a round.

use std::time::Duration;

use kontiki_node::driver::{Input, ReadMode};
use kontiki_raft::ServerId;

use super::chaos::Did;
use super::{Event, World};
use crate::invariants::Asked;
use crate::network::Place;
use crate::rng::Rng;

/// How long a machine stands still together with its clock.
const HALT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(15));
/// How far a clock jumps.
const STEP: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(20));
/// What a late message may take, and what a bounded read may allow: see [`World::untrusted_for`].
const SLACK: Duration = Duration::from_secs(3);

/// What the clocks of a run may do beyond their contract.
#[derive(Debug)]
pub(super) struct Clocks {
    /// They may jump, and go at any rate; else they only stand still.
    are_wild: bool,
    /// Nothing by a clock is judged until then.
    untrusted_until: u64,
}

impl Clocks {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self {
            are_wild: rng.chance(500),
            untrusted_until: 0,
        }
    }
}

impl World {
    /// For how long a clock that stood still may mislead: until its server has noticed that it does not
    /// lead any more, and followers have that from another leader.
    fn untrusted_for(&self) -> u64 {
        (2 * self.raft.election_timeout_max + SLACK).as_nanos() as u64
    }

    /// A process stands still, and its clock with it. A lease survives that, by its own clock.
    pub(super) fn halt(&mut self, rng: &mut Rng) -> Did {
        let leader = self.leader().map(|(place, _)| place);
        let place = leader.filter(|_| rng.chance(600));
        let place = place.or_else(|| rng.pick(&self.living()))?;
        let now = self.now;
        let length = rng.duration(HALT.0, HALT.1);
        let process = self.places[place].as_mut()?;
        let (server, shown) = (process.server, process.clock.local(now));
        if !self.pause(place, length) {
            return None;
        }
        self.places[place].as_mut()?.halted_at = Some(shown);
        self.checker.ledger.odd_clocks.insert(server);
        let what = format!("place {place}, {:?}", Duration::from_nanos(length));
        Some(("fault: clock stands still", what))
    }

    /// The process goes on, and its clock from where it stood.
    pub(super) fn wind_up(&mut self, place: Place) {
        let now = self.now;
        let untrusted_until = now + self.untrusted_for();
        let Some(process) = self.places[place].as_mut() else {
            return;
        };
        let Some(shown) = process.halted_at.take() else {
            return;
        };
        process.clock.show(now, shown);
        let server = process.server;
        self.distrust(untrusted_until);
        self.at(untrusted_until, Event::Trust(server));
    }

    /// What is open now was asked by a clock that is not trusted; so is what comes until then.
    fn distrust(&mut self, until: u64) {
        self.clocks.untrusted_until = self.clocks.untrusted_until.max(until);
        for process in self.places.iter_mut().flatten() {
            for input in &process.inbox {
                let by_clock = by_clock(input);
                let asked = process.asked.iter_mut();
                asked
                    .filter(|(id, _)| by_clock.is_some_and(|(read, _)| read == *id))
                    .for_each(|(_, asked)| *asked = unjudged(asked.clone()));
            }
        }
        let open = self.checker.ledger.open.values_mut();
        open.for_each(|(_, asked, _)| {
            if let Asked::Bounded { .. } = asked {
                *asked = unjudged(asked.clone());
            }
        });
    }

    /// A clock that stood still is as good as any other by now.
    pub(super) fn trust(&mut self, server: ServerId) {
        let halts =
            |process: &super::Process| process.server == server && process.halted_at.is_some();
        let is_halted = self.processes().any(|(_, process)| halts(process));
        if self.now >= self.clocks.untrusted_until && !is_halted {
            self.checker.ledger.odd_clocks.remove(&server);
        }
    }

    /// As what a request is judged that arrives now.
    pub(super) fn judged(&mut self, asked: Asked, input: &Input<u64>) -> Asked {
        if by_clock(input).is_none() || self.now >= self.clocks.untrusted_until {
            return asked;
        }
        self.tally
            .add("read: by a clock that is not trusted, not judged");
        unjudged(asked)
    }

    /// A clock jumps ahead.
    pub(super) fn step_clock(&mut self, rng: &mut Rng) -> Did {
        let place = self.wild(rng)?;
        let (now, by) = (self.now, rng.duration(STEP.0, STEP.1));
        let process = self.places[place].as_mut()?;
        let shown = process.clock.local(now);
        process.clock.show(now, shown + Duration::from_nanos(by));
        self.retime(place);
        let what = format!("place {place}, by {:?}", Duration::from_nanos(by));
        Some(("fault: clock jumps", what))
    }

    /// A clock goes far too fast, or too slow.
    pub(super) fn race_clock(&mut self, rng: &mut Rng) -> Did {
        let place = self.wild(rng)?;
        let now = self.now;
        let process = self.places[place].as_mut()?;
        process.clock.race(now, rng);
        let fast = process.clock.fast_ppm();
        self.retime(place);
        Some((
            "fault: clock goes beyond its bound",
            format!("place {place}, fast by {fast} ppm"),
        ))
    }

    /// Some place, in a run whose clocks are wild: from here on nothing by a clock is judged in it.
    fn wild(&mut self, rng: &mut Rng) -> Option<Place> {
        if !self.clocks.are_wild {
            return None;
        }
        let place = rng.pick(&self.living())?;
        self.distrust(u64::MAX);
        self.checker.ledger.clocks_are_wild = true;
        let server = self.places[place].as_ref()?.server;
        self.checker.ledger.odd_clocks.insert(server);
        Some(place)
    }

    /// What a process waits for comes sooner now, perhaps.
    pub(super) fn retime(&mut self, place: Place) {
        let now = self.now;
        let Some(process) = self.places[place].as_ref() else {
            return;
        };
        if let Some(at) = process.clock.moment(process.deadline) {
            self.turn_by(place, at.max(now + 1));
        }
    }

    /// Clocks keep to their bound again. What they did before is still felt.
    pub(super) fn heal_clocks(&mut self) {
        let now = self.now;
        let mut rng = Rng::stream(self.seed, "healed clocks", 0);
        for place in self.living() {
            let process = self.places[place].as_mut().expect("it lives");
            if process.clock.is_beyond() {
                process.clock.drift(now, &mut rng);
                self.retime(place);
            }
        }
    }
}

/// The request, and how, if it is a read that a clock has a part in.
fn by_clock(input: &Input<u64>) -> Option<(u64, ReadMode)> {
    match input {
        Input::Read { mode, reply, .. } => match mode {
            ReadMode::Leased | ReadMode::Bounded(_) => Some((*reply, *mode)),
            ReadMode::Linearizable | ReadMode::Stale => None,
        },
        _ => None,
    }
}

/// It must show the register as it was at some time.
fn unjudged(asked: Asked) -> Asked {
    match asked {
        Asked::Read { key } | Asked::Bounded { key, .. } => Asked::Stale { key },
        other => other,
    }
}
