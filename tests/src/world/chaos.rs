//! Faults: each is drawn from the randomness of its own stimulus, and done if it is possible then.

use std::time::Duration;

use kontiki_raft::ServerId;

use super::requests::{Asker, Question};
use super::{Event, PLACES, WANTED_MAX, World};
use crate::fault::Fault;
use crate::network::Place;
use crate::rng::Rng;

const SECOND: Duration = Duration::from_secs(1);
/// Many election timeouts, the longest of which is 4 s.
const LONG_PAUSE: (Duration, Duration) = (Duration::from_secs(9), Duration::from_secs(30));

/// What a fault did, by its name in the tally and in words; `None` if it was not possible.
pub(super) type Did = Option<(&'static str, String)>;

impl World {
    /// A leader has just appended a configuration: what was prepared for that happens.
    pub(super) fn spring(&mut self, place: Place, leader: ServerId) {
        let Some(mut rng) = self.ambush.take().filter(|_| self.chaos) else {
            return;
        };
        let name = match rng.chance(350) {
            true => {
                self.ask(Asker::Nobody, leader, Question::Transfer(None));
                "fault: transfer asked for at a change"
            }
            false => {
                self.isolate(place, &mut rng);
                "fault: leader cut off at a change"
            }
        };
        self.note(format_args!("{name}: {leader}"));
        self.tally.add(name);
    }

    /// Does it, if it is possible now; says what it did.
    pub(super) fn make_trouble(&mut self, fault: Fault, rng: &mut Rng) -> Option<String> {
        if !self.chaos {
            return None;
        }
        let (name, what) = self.commit(fault, rng)?;
        self.note(format_args!("{name}: {what}"));
        self.tally.add(name);
        Some(what)
    }

    fn commit(&mut self, fault: Fault, rng: &mut Rng) -> Did {
        match fault {
            Fault::Partition => self.partition(rng),
            Fault::PartitionOneWay => self.partition_one_way(rng),
            Fault::PartitionPartial => self.partition_partial(rng),
            Fault::OneWay => self.cut_one_way(rng),
            Fault::IsolateLeader => self.isolate_leader(rng),
            Fault::Usurp => self.usurp(rng),
            Fault::Ambush => {
                self.ambush = Some(rng.clone());
                Some(("ambush: laid", String::new()))
            }
            Fault::Flap => self.begin_flapping(rng),
            Fault::Slow => self.slow_down(rng),
            Fault::Storm => self.storm(rng),
            Fault::Crash => {
                let place = rng.pick(&self.living())?;
                let what = self.crash(place, rng)?;
                Some(("fault: crash", what))
            }
            Fault::CrashLeader => {
                let place = self.leader()?.0;
                let what = self.crash(place, rng)?;
                Some(("fault: crash of the leader", what))
            }
            Fault::Pause => {
                let what = self.stop_somebody((Duration::from_millis(20), 4 * SECOND), rng)?;
                Some(("fault: pause", what))
            }
            Fault::LongPause => {
                let what = self.stop_somebody(LONG_PAUSE, rng)?;
                Some(("fault: long pause", what))
            }
            Fault::Drift => self.drift(rng),
            Fault::Reset => {
                self.break_connections(false, 300, rng);
                Some(("fault: connections reset", String::new()))
            }
            Fault::TriggerElection => {
                let server = self.somebody(rng)?;
                self.ask(Asker::Nobody, server, Question::TriggerElection);
                Some(("fault: election triggered", format!("at {server}")))
            }
            Fault::Transfer => self.transfer(rng),
            Fault::Scale => self.scale(rng),
            Fault::Mistake => self.make_mistake(rng),
            Fault::Rush => self.rush(rng),
            Fault::Observe => self.add_observer(rng),
            Fault::Roll => self.roll(rng),
            Fault::Rot => self.rot(rng),
            Fault::Halt => self.halt(rng),
            Fault::StepClock => self.step_clock(rng),
            Fault::RaceClock => self.race_clock(rng),
            Fault::StartEmpty => self.lose_cluster(rng),
            Fault::SlowMachine => self.slow_machine(rng),
            Fault::HangMachine => self.hang_machine(rng),
            Fault::LoseMachine => self.lose_machine(rng),
            Fault::PanicMachine => self.sabotage(rng),
            Fault::Foreign => self.forge(false, rng),
            Fault::Corrupt => self.forge(true, rng),
        }
    }

    pub(super) fn somebody(&mut self, rng: &mut Rng) -> Option<ServerId> {
        let everybody: Vec<ServerId> = self
            .processes()
            .map(|(_, process)| process.server)
            .collect();
        rng.pick(&everybody)
    }

    /// Often the leader.
    fn stop_somebody(&mut self, within: (Duration, Duration), rng: &mut Rng) -> Option<String> {
        let leader = self.leader().map(|(place, _)| place);
        let place = leader.filter(|_| rng.chance(300));
        let place = place.or_else(|| rng.pick(&self.living()))?;
        let pause = rng.duration(within.0, within.1);
        if !self.pause(place, pause) {
            return None;
        }
        Some(format!("place {place}, {:?}", Duration::from_nanos(pause)))
    }

    fn drift(&mut self, rng: &mut Rng) -> Did {
        let place = rng.pick(&self.living())?;
        let now = self.now;
        let process = self.places[place].as_mut()?;
        process.clock.drift(now, rng);
        let fast = process.clock.fast_ppm();
        self.retime(place);
        let what = format!("place {place}, fast by {fast} ppm");
        Some(("fault: clock changes its rate", what))
    }

    /// Ends a process, if the cluster can lose it; another starts in its place.
    pub(super) fn crash(&mut self, place: Place, rng: &mut Rng) -> Option<String> {
        if !self.operator.activated {
            return self.crash_while_forming(place, rng);
        }
        let server = self.places[place].as_ref()?.server;
        if !self.can_lose(server) {
            return None;
        }
        self.kill(place);
        self.soon(
            rng,
            Duration::from_millis(10),
            3 * SECOND,
            Event::Start(place),
        );
        Some(format!("of {server} in place {place}"))
    }

    fn transfer(&mut self, rng: &mut Rng) -> Did {
        let leader = self.leader()?.1.server;
        let target = match rng.chance(300) {
            true => None,
            false => self.somebody(rng),
        };
        self.ask(Asker::Nobody, leader, Question::Transfer(target));
        let what = format!("from {leader} to {target:?}");
        Some(("fault: transfer asked for", what))
    }

    fn scale(&mut self, rng: &mut Rng) -> Did {
        if !self.operator.activated {
            return None;
        }
        let least = self.raft.min_majority.max(1) as u64;
        let wanted = match rng.below(5) {
            0 => least as usize,
            1 | 2 => 3,
            3 => 5,
            _ => rng.within(least, WANTED_MAX as u64) as usize,
        };
        self.operator.wanted = wanted;
        for place in 0..wanted {
            self.soon(rng, Duration::ZERO, SECOND, Event::Start(place));
        }
        Some(("fault: another size wanted", format!("{wanted}")))
    }

    /// All faults end: cuts are mended, who stood still goes on, whoever is missing starts.
    pub fn heal(&mut self) {
        self.note(format_args!("heal"));
        self.chaos = false;
        self.network.heal();
        self.heal_machines();
        self.heal_clocks();
        self.start_empty();
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
        let mut rng = Rng::stream(self.seed, "total loss", 0);
        let mut doomed = self.living();
        let quorum = (doomed.len() / 2 + 1).max(self.raft.min_majority);
        let survivors = doomed.len() - quorum.min(doomed.len());
        for _ in 0..survivors {
            // Of n voters n - quorum survive: one fewer than a quorum, or even less.
            doomed.swap_remove(rng.index(doomed.len()));
        }
        for place in doomed {
            self.kill(place);
            let (low, high) = (Duration::from_millis(10), 3 * SECOND);
            self.soon(&mut rng, low, high, Event::Start(place));
        }
    }

    /// A place in which nobody is, nor will be wanted.
    pub(super) fn spare_place(&self) -> Option<Place> {
        (WANTED_MAX..PLACES).find(|place| self.places[*place].is_none())
    }
}
