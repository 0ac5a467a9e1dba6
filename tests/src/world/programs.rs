//! Programs that run different versions of the machine, and memory that changes by itself.

use std::ops::RangeInclusive;
use std::time::Duration;

use kontiki_node::driver::{CheckpointConfig, Input, Status};
use kontiki_node::machine::Version;
use kontiki_raft::{ChangeRequest, ServerId};

use super::chaos::Did;
use super::{Event, WHOLE_LOG, World};
use crate::network::Place;
use crate::rng::Rng;

/// Newest version that any program of a run has.
const VERSION_MAX: Version = 4;

/// The programs that there are in a run.
#[derive(Debug)]
pub(super) struct Programs {
    /// Oldest version that all run.
    oldest: Version,
    /// Newest that one runs.
    newest: Version,
}

impl Programs {
    pub(super) fn oldest(&self) -> Version {
        self.oldest
    }

    pub(super) fn new(rng: &mut Rng) -> Self {
        let oldest = if rng.chance(200) { 2 } else { 1 };
        Self {
            oldest,
            newest: oldest + u32::from(rng.chance(500)),
        }
    }
}

/// Digests are taken often, so that they meet every fault.
pub(super) fn checkpoints(rng: &mut Rng) -> CheckpointConfig {
    CheckpointConfig {
        entries_max: rng.within(10, 200),
        interval: Duration::from_millis(rng.within(300, 3000)),
    }
}

impl World {
    /// What the program of a process runs that starts now: newer programs come in time, and now and
    /// then somebody starts an old one.
    pub(super) fn draw_program(&mut self, rng: &mut Rng) -> RangeInclusive<Version> {
        let (oldest, newest) = (self.programs.oldest, self.programs.newest);
        let is_old = self.chaos && newest > oldest && rng.chance(450);
        let newest = newest - u32::from(is_old);
        if self.chaos && rng.chance(200) {
            self.programs.newest = (self.programs.newest + 1).min(VERSION_MAX);
        }
        oldest..=newest
    }

    /// A server of the oldest program goes, and one of the newest comes in its place.
    pub(super) fn roll(&mut self, rng: &mut Rng) -> Did {
        let programs = self.processes();
        let oldest = programs.min_by_key(|(place, process)| (*process.versions.end(), *place));
        let (place, end) = oldest.map(|(place, process)| (place, *process.versions.end()))?;
        let what = self.crash(place, rng)?;
        if end == self.programs.newest {
            self.programs.newest = (end + 1).min(VERSION_MAX);
        }
        Some(("fault: server rolled", what))
    }

    /// What an operator's request tells a leader, now and then: which versions the servers run that are to
    /// be added.
    pub(super) fn tell_versions(&mut self, place: Place, change: &ChangeRequest) {
        for (server, _) in &change.add {
            let runs = self
                .address
                .get(server)
                .and_then(|at| self.places[*at].as_ref());
            let runs = runs.filter(|process| process.server == *server);
            let Some(versions) = runs.map(|process| process.versions.clone()) else {
                continue;
            };
            if self.noises[place].at(self.now).chance(400) {
                let server = *server;
                self.input(place, Input::Runs { server, versions });
            }
        }
    }

    /// A server that lacks the version in force is of no use: another program takes its place, as soon as
    /// the cluster can lose what it may have become.
    pub(super) fn end_refused(&mut self) {
        let refused: Vec<ServerId> = self.operator.refused.iter().copied().collect();
        for server in refused {
            let place = self.address[&server];
            if self.process_mut(place, server).is_none() {
                self.operator.refused.remove(&server);
            } else if self.can_lose(server) {
                self.operator.refused.remove(&server);
                self.kill(place);
                self.start_soon(place);
            }
        }
    }

    pub(super) fn start_soon(&mut self, place: Place) {
        let (low, high) = (Duration::from_millis(10), Duration::from_secs(1));
        self.between(place, low, high, Event::Start(place));
    }

    /// Learners that turned out to lack the version in force.
    pub(super) fn held_back(&self, status: &Status) -> Vec<ServerId> {
        let learners = status.configuration.configuration.learners.keys();
        let lacks = |server: &&ServerId| {
            let place = self.address[*server];
            let process = self.places[place].as_ref();
            process.is_some_and(|process| {
                process.server == **server && *process.versions.end() < status.version
            })
        };
        learners.filter(lacks).copied().collect()
    }

    /// A register of some server changes, without a command.
    pub(super) fn rot(&mut self, rng: &mut Rng) -> Did {
        let lives = |server: &ServerId| self.lives(*server);
        if !self.operator.activated || self.checker.ledger.rotted.iter().any(lives) {
            return None;
        }
        // Not where logs are compacted: a snapshot would heal a server, or hand on what is wrong.
        if self.raft.log_tail_bytes < WHOLE_LOG {
            return None;
        }
        let voters: Vec<(Place, ServerId)> = self
            .processes()
            .filter(|(_, process)| process.status.applied.0 > 0)
            .map(|(place, process)| (place, process.server))
            .filter(|(_, server)| self.in_force().all(|known| known.is_voter(*server)))
            .collect();
        let (place, server) = rng.pick(&voters)?;
        if !self.is_one_too_few(server) {
            return None;
        }
        let (key, value) = (rng.below(5) as u8, 1 << 63 | rng.bits() >> 1);
        let process = self.process_mut(place, server)?;
        let mut memory = process.memory.lock().expect("nobody panics with it");
        memory.insert(key, value);
        drop(memory);
        self.checker.ledger.rotted.insert(server);
        let what = format!("{server} forgets register {key}");
        Some(("fault: memory changed", what))
    }

    /// Whether those who are left without this server would be a majority that agrees.
    pub(super) fn is_one_too_few(&self, server: ServerId) -> bool {
        self.processes().count() >= 3 && self.can_lose(server)
    }

    /// Lives, and remembers what it was told.
    pub(super) fn is_sound(&self, server: ServerId) -> bool {
        let ledger = &self.checker.ledger;
        let works =
            |process: &super::Process| process.server == server && !process.has_lost_machine();
        self.processes().any(|(_, process)| works(process))
            && !ledger.rotted.contains(&server)
            && !ledger.panicked.contains(&server)
    }

    /// Ends the processes of quarantined servers, so that they are replaced; and of one whose memory
    /// changed and that was taken out before anybody noticed. Added again to few voters it would leave no
    /// majority that agrees, and then writes stop by contract.
    pub(super) fn end_quarantined(&mut self) {
        let is_out = |server: ServerId| {
            self.checker.ledger.rotted.contains(&server)
                && !self.in_force().any(|known| known.contains(server))
        };
        let ended: Vec<(Place, ServerId, bool)> = self
            .processes()
            .map(|(place, process)| (place, process.server, process.status.quarantine.is_some()))
            .filter(|(_, server, is_quarantined)| *is_quarantined || is_out(*server))
            .collect();
        for (place, server, is_quarantined) in ended {
            if self.can_lose(server) {
                if is_quarantined {
                    self.tally.add("server: quarantined and replaced");
                }
                self.kill(place);
                self.start_soon(place);
            }
        }
    }

    /// A server whose memory changed, and nobody has noticed.
    pub(super) fn unnoticed_rot(&self) -> Option<ServerId> {
        let rotted = &self.checker.ledger.rotted;
        let mut living = self.processes().map(|(_, process)| process);
        living
            .find(|process| rotted.contains(&process.server) && process.status.quarantine.is_none())
            .map(|process| process.server)
    }
}
