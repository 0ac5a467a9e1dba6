//! Turns: inputs go in, outputs come out, and the checker looks.

use std::time::Duration;

use kontiki_node::driver::{Counters, Input, Output};
use kontiki_raft::{Message, Role, ServerId};

use super::coverage::states_of;
use super::{Event, World};
use crate::invariants::{Asked, Turn, Violation};
use crate::network::Place;

/// A driver that wants this many turns at one instant does not wait for anything.
const SPINS_MAX: u32 = 1000;

impl World {
    /// Hands an input to a live server and has it take a turn soon.
    pub(super) fn input(&mut self, place: Place, input: Input<u64>) {
        let Some(process) = self.places[place].as_mut() else {
            return;
        };
        process.inbox.push(input);
        self.wake(place);
    }

    /// A turn soon: at once, or a little later, so that inputs meet in one.
    pub(super) fn wake(&mut self, place: Place) {
        let mut rng = self.noises[place].at(self.now);
        let delay = match rng.below(8) {
            0 => rng.duration(Duration::ZERO, Duration::from_millis(3)),
            _ => rng.duration(Duration::ZERO, Duration::from_micros(60)),
        };
        self.turn_by(place, self.now + delay);
    }

    pub(super) fn turn_by(&mut self, place: Place, at: u64) {
        let Some(process) = self.places[place]
            .as_mut()
            .filter(|process| !process.paused)
        else {
            return;
        };
        if process.turn_at.is_none_or(|before| at < before) {
            process.turn_at = Some(at);
            let server = process.server;
            self.at(at, Event::Turn(place, server));
        }
    }

    pub(super) fn turn(&mut self, place: Place, server: ServerId) -> Result<(), Violation> {
        let (now, queues) = (self.now, self.queues);
        let due = |process: &&mut super::Process| !process.paused && process.turn_at == Some(now);
        let Some(process) = self.process_mut(place, server).filter(due) else {
            return Ok(());
        };
        process.turn_at = None;
        let mut outputs = Vec::new();
        let mut taken = process.take_inputs(queues);
        let inputs = taken.inputs.len();
        let local = process.clock.local(now);
        let deadline = process.driver.turn(local, &mut taken.inputs, &mut outputs);
        process.spins = if deadline <= local {
            process.spins + 1
        } else {
            0
        };
        process.deadline = deadline;
        let spins = process.spins;
        let next = process.clock.moment(deadline);
        self.step += 1;
        if taken.is_part {
            self.tally.add("turn: more inputs than one takes");
            self.turn_by(place, now + 1);
        }
        self.look(place, inputs, &taken.asked, &outputs)?;
        if spins > SPINS_MAX {
            return Err(Violation {
                invariant: "waits for something",
                detail: format!("server={server} asked for {spins} turns at one instant"),
            });
        }
        if let Some(next) = next {
            self.turn_by(place, next.max(now + 1));
        }
        self.perform(place, server, outputs);
        Ok(())
    }

    /// Lets the checker look at the turn that was just taken.
    fn look(
        &mut self,
        place: Place,
        inputs: usize,
        asked: &[(u64, Asked)],
        outputs: &[Output<u64>],
    ) -> Result<(), Violation> {
        let process = self.places[place].as_mut().expect("it took the turn");
        let was = process.status.standing;
        process.status = process.driver.status();
        let mut applied =
            std::mem::take(&mut *process.record.lock().expect("nobody panics with it"));
        if process.status.quarantine.is_some() {
            // What a machine did in the call in which it panicked counts for nothing.
            applied.retain(|write| write.id.index <= process.status.applied);
        }
        let wires = &process.wires;
        let ran = std::mem::take(&mut *wires.ran.lock().expect("nobody panics with it"));
        let votes = std::mem::take(&mut process.votes);
        let acknowledgements = std::mem::take(&mut process.acknowledgements);
        let misaddressed = std::mem::take(&mut process.misaddressed);
        let counted = std::mem::replace(&mut process.counted, *process.driver.counters());
        let process = self.places[place].as_ref().expect("it took the turn");
        let status = &process.status;
        let server = process.server;
        let (is, commit, last) = (status.standing, status.commit.0, status.last);
        let (role, term, sent) = (is.role, is.term.0, outputs.len());
        self.trace.line(
            self.now,
            self.step,
            format_args!("{server} {inputs} in {sent} out {role:?} {term} {commit}/{last}"),
        );
        let (places, now) = (&self.places, self.now);
        let clocks = |server| {
            let mut living = places.iter().flatten();
            let process = living.find(|process| process.server == server);
            process.map(|process| process.clock.local(now))
        };
        let mut turn = Turn {
            clocks: &clocks,
            step: self.step,
            now: self.now,
            local: process.clock.local(self.now),
            server,
            min_majority: self.raft.min_majority,
            driver: &process.driver,
            status,
            asked,
            votes: &votes,
            acknowledgements: &acknowledgements,
            misaddressed,
            outputs,
            applied: &applied,
            machine: process.machine(),
            ran: &ran,
            before: Default::default(),
            truncated: 0,
            appended: 0..0,
        };
        self.checker.check(&mut turn)?;
        let ledger = &self.checker.ledger;
        let states = states_of(place, &turn, &self.places, &self.network, ledger);
        let (truncated, before) = (turn.truncated, turn.before.status.as_ref());
        let was_joint = before.is_some_and(|status| status.configuration.configuration.is_joint());
        let configuration = &status.configuration.configuration;
        self.tally.add("turn");
        for (name, before, after) in compared(&counted, &process.counted) {
            self.tally.add_many(name, after - before);
        }
        self.tally.add_many("entry: applied", applied.len() as u64);
        self.tally.add_many("entry: truncated", truncated as u64);
        let version = before.map_or(0, |status| status.version);
        if is.role == Role::Leader && status.version > version.max(self.programs.oldest()) {
            self.tally.add("version: raised");
        }
        let known = before.map(|status| status.configuration.index);
        let is_changed = known.is_some_and(|known| known < status.configuration.index);
        let has_appended = is.role == Role::Leader && was.role == Role::Leader && is_changed;
        if is.role == Role::Leader && configuration.is_joint() && !was_joint {
            self.tally.add("change: joint");
        }
        if is.role != was.role || is.term != was.term {
            match is.role {
                Role::Leader => self.tally.add("election: won"),
                Role::Candidate => self.tally.add("election: begun"),
                Role::PreCandidate => self.tally.add("election: pre-vote round"),
                Role::Joiner | Role::Learner | Role::Follower => {}
            }
            if was.role == Role::Leader {
                self.tally.add("election: leader stepped down");
            }
        }
        self.count_states(place, states);
        self.count_panic(place);
        if has_appended {
            self.spring(place, server);
        }
        Ok(())
    }

    fn perform(&mut self, place: Place, server: ServerId, outputs: Vec<Output<u64>>) {
        for output in outputs {
            match output {
                Output::Send(envelope) => {
                    if matches!(envelope.message, Message::TimeoutNow(_)) {
                        self.tally.add("transfer: begun");
                        self.spring_at_handover(place);
                    }
                    self.send(place, envelope);
                }
                Output::Reply(id, result) => self.replied(place, id, result),
                Output::Standing(_) | Output::Discard(_) => {}
                Output::Effect(effect) => {
                    self.tally.add("effect: run");
                    effect().expect("an effect of the registers succeeds");
                }
                Output::Away(host, job) => {
                    let event = Event::Back(place, server, host, job);
                    self.between(place, Duration::ZERO, Duration::from_millis(300), event);
                }
                Output::Job(job) => self.give_job(place, job),
            }
        }
        self.keep_connected(server, place);
    }
}

/// What the tally takes over from the drivers.
fn compared(before: &Counters, after: &Counters) -> [(&'static str, u64, u64); 12] {
    [
        (
            "session: duplicate suppressed",
            before.repeated,
            after.repeated,
        ),
        (
            "lease read: without a round",
            before.leased_reads,
            after.leased_reads,
        ),
        ("log: compacted", before.compactions, after.compactions),
        (
            "entry: compacted",
            before.entries_compacted,
            after.entries_compacted,
        ),
        (
            "snapshot: begun",
            before.snapshots_started,
            after.snapshots_started,
        ),
        (
            "snapshot: delivered",
            before.snapshots_delivered,
            after.snapshots_delivered,
        ),
        (
            "snapshot: given up",
            before.snapshots_given_up,
            after.snapshots_given_up,
        ),
        (
            "snapshot: refused by a peer",
            before.snapshots_refused_by_peers,
            after.snapshots_refused_by_peers,
        ),
        (
            "snapshot: resumed",
            before.snapshots_resumed,
            after.snapshots_resumed,
        ),
        (
            "snapshot: restored",
            before.snapshots_restored,
            after.snapshots_restored,
        ),
        (
            "snapshot: refused",
            before.snapshots_refused,
            after.snapshots_refused,
        ),
        (
            "snapshot: bytes sent",
            before.snapshot_bytes_sent,
            after.snapshot_bytes_sent,
        ),
    ]
}
