//! Places and the processes in them: start, death, standing still.

use std::ops::RangeInclusive;
use std::time::Duration;

use kontiki_node::driver::{Counters, Driver, Input, Loss, Status};
use kontiki_node::host::{Host, Job};
use kontiki_node::machine::{StateMachine, Version};
use kontiki_raft::{ELECTION_PRIORITY_MAX, Index, Role, ServerId, Term, Time};

use super::coverage::States;
use super::machines::{Thread, Wires};
use super::{Event, World};
use crate::clock::Clock;
use crate::invariants::Asked;
use crate::invariants::waiters::CHANGE_WAIT_MAX;
use crate::network::Place;
use crate::register::{Memory, Record, Registers};
use crate::rng::Rng;

/// A node process with its one server.
pub struct Process {
    /// Its incarnation.
    pub server: ServerId,
    /// The real thing.
    pub driver: Driver<u64>,
    /// Where it was after its last turn.
    pub status: Status,
    pub(super) clock: Clock,
    pub(super) inbox: Vec<Input<u64>>,
    /// Of the inbox: requests, votes, acknowledgements, and messages meant for others.
    pub(super) asked: Vec<(u64, Asked)>,
    pub(super) votes: Vec<(ServerId, Term)>,
    pub(super) acknowledgements: Vec<(ServerId, Term)>,
    pub(super) misaddressed: u64,
    pub(super) record: Record,
    /// As of its last turn.
    pub(super) counted: Counters,
    /// What its machine holds.
    pub(super) memory: Memory,
    /// Its machine's thread, if that has one of its own.
    pub(super) thread: Option<Thread>,
    pub(super) wires: Wires,
    /// What its program runs.
    pub(super) versions: RangeInclusive<Version>,
    /// When its next turn is.
    pub(super) turn_at: Option<u64>,
    /// By its own clock, as its last turn said.
    pub(super) deadline: Time,
    /// Turns in a row without time going on.
    pub(super) spins: u32,
    pub(super) paused: bool,
    /// What its clock shows, which stands still together with the process.
    pub(super) halted_at: Option<Time>,
    /// Those named states that it is in.
    pub(super) states: States,
}

impl Process {
    /// Its machine hangs for good.
    pub(super) fn has_lost_machine(&self) -> bool {
        self.thread.as_ref().is_some_and(Thread::is_lost)
    }

    /// Its machine, wherever it is, and how far that has applied; `None` while it is away.
    pub(super) fn machine(&self) -> Option<(Index, &dyn StateMachine)> {
        match &self.thread {
            Some(thread) => {
                let host = &thread.host;
                Some((host.status().applied.index, host.machine()))
            }
            None => Some((self.status.applied, self.driver.machine()?)),
        }
    }
}

impl World {
    /// Starts a fresh incarnation in an empty place.
    pub(super) fn start(&mut self, place: Place) {
        if self.places[place].is_some() {
            return;
        }
        // Odd, so never 0, and with the place in sight in traces.
        self.started[place] += 1;
        let number = (place as u64) << 32 | self.started[place];
        let mut rng = Rng::stream(self.seed, "process", number);
        let server = ServerId((rng.bits() >> 32) << 8 | (place as u64) << 4 | 1);
        let clock = Clock::random(&mut rng);
        self.tally.add("process: drifting clock");
        let record = Record::default();
        // As a node makes it, seed and all; only the timers and bounds are the run's.
        let mut config = kontiki_node::Config::default().driver(self.formation.is_embedded);
        config.raft = kontiki_raft::Config {
            seed: config.raft.seed,
            election_priority: self.draw_priority(&mut rng),
            ..self.raft.clone()
        };
        config.snapshots = self.snapshots;
        config.pending_writes_max = self.pending_writes_max;
        config.lease_reads = self.lease_reads;
        config.checkpoint = self.checkpoint;
        config.sessions = self.session_bounds;
        config.change_wait_max = CHANGE_WAIT_MAX;
        self.limits.bound(&mut config);
        let (memory, versions) = (Memory::default(), self.draw_program(&mut rng));
        let machine = Registers::new(record.clone(), memory.clone(), versions.clone());
        let refusals = match rng.chance(100) {
            true => rng.within(1, 2),
            false => 0,
        };
        let (home, job_max) = self.draw_home(&mut Rng::stream(self.seed, "machine", number));
        let wires = Wires::default();
        let machine = machine
            .refusing(refusals)
            .living(home)
            .with_ballast(self.limits.ballast())
            .sabotaged(wires.sabotage.clone())
            .telling(wires.ran.clone(), wires.told.clone());
        let (driver, host) = Driver::new(server, config, Box::new(machine), clock.local(self.now));
        let thread = host.map(|host| Thread::new(host, job_max));
        if thread.is_some() {
            self.tally.add("process: machine on a thread of its own");
        }
        let status = driver.status();
        let deadline = clock.local(self.now);
        if self.address.values().any(|taken| *taken == place) {
            self.tally.add("process: restart as a new incarnation");
        }
        self.address.insert(server, place);
        let (low, high) = (versions.start(), versions.end());
        self.note(format_args!(
            "start {server} in place {place} with versions {low} to {high}"
        ));
        self.places[place] = Some(Process {
            server,
            driver,
            status,
            clock,
            inbox: Vec::new(),
            asked: Vec::new(),
            votes: Vec::new(),
            acknowledgements: Vec::new(),
            misaddressed: 0,
            record,
            counted: Counters::default(),
            memory,
            thread,
            wires,
            versions,
            turn_at: None,
            deadline,
            spins: 0,
            paused: false,
            halted_at: None,
            states: 0,
        });
        self.wake(place);
    }

    /// From the lowest of this run up.
    fn draw_priority(&mut self, rng: &mut Rng) -> u8 {
        let (lowest, highest) = (self.raft.election_priority, ELECTION_PRIORITY_MAX);
        if lowest == highest {
            return highest;
        }
        self.tally.add("election: priorities differ");
        rng.within(lowest.into(), highest.into()) as u8
    }

    /// Ends the process in a place; its memory is lost.
    pub(super) fn kill(&mut self, place: Place) {
        let Some(process) = self.places[place].take() else {
            return;
        };
        let server = process.server;
        self.note(format_args!("kill {server} in place {place}"));
        self.checker.ledger.lose(server);
        self.changes.retain(|_, (asked, _)| *asked != server);
        for (from, to) in self.connections.drop_all(server) {
            let survivor = if from == server { to } else { from };
            // Only who dialled hears of it, and the dead hear nothing.
            if from != survivor {
                continue;
            }
            // Through a cut it is noticed late, by a keep-alive.
            let longest = if self.cut_between(from, to) {
                2_000_000
            } else {
                2_000
            };
            let longest = Duration::from_micros(longest);
            let event = Event::Disconnected(from, to, Loss::Broken);
            self.between(place, Duration::from_micros(50), longest, event);
        }
    }

    /// Makes a process stand still for so many nanoseconds, if it does not already.
    pub(super) fn pause(&mut self, place: Place, pause: u64) -> bool {
        let Some(process) = self.places[place]
            .as_mut()
            .filter(|process| !process.paused)
        else {
            return false;
        };
        process.paused = true;
        process.turn_at = None;
        let server = process.server;
        self.note(format_args!("pause {server}"));
        self.at(self.now + pause, Event::Resume(place, server));
        true
    }

    /// Lets it go on.
    pub(super) fn resume(&mut self, place: Place, server: ServerId) {
        let Some(process) = self
            .process_mut(place, server)
            .filter(|process| process.paused)
        else {
            return;
        };
        process.paused = false;
        self.note(format_args!("resume {server}"));
        self.wind_up(place);
        self.release_job(place, server);
        self.wake(place);
    }

    /// A host comes back to its process, with its job done.
    pub(super) fn come_back(
        &mut self,
        place: Place,
        server: ServerId,
        mut host: Box<Host>,
        job: Job<u64>,
    ) {
        let done = host.run(job);
        if self.process_mut(place, server).is_some() {
            self.input(place, Input::Back(host, done));
        }
    }

    /// The process of that server, if it lives.
    pub(super) fn process_mut(&mut self, place: Place, server: ServerId) -> Option<&mut Process> {
        let process = self.places[place].as_mut();
        process.filter(|process| process.server == server)
    }

    /// Everyone alive.
    pub fn processes(&self) -> impl Iterator<Item = (Place, &Process)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(place, process)| Some((place, process.as_ref()?)))
    }

    /// Whether that incarnation lives.
    pub fn lives(&self, server: ServerId) -> bool {
        self.processes()
            .any(|(_, process)| process.server == server)
    }

    /// The leader of the highest term, if anybody claims to lead.
    pub fn leader(&self) -> Option<(Place, &Process)> {
        let led = |process: &Process| process.status.standing.role == Role::Leader;
        let leaders = self.processes().filter(|(_, process)| led(process));
        leaders.max_by_key(|(_, process)| process.status.standing.term)
    }
}
