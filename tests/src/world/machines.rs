//! Machines: some on the node thread, some on a thread of their own, which takes its time over each job,
//! as [`kontiki_node::host::Worker`] does: jobs are done one after the other, in the order in which they
//! were given, and what became of one goes into the next turn. A thread may be slow for a while, hang for
//! a while or for good, and a machine on either kind of thread may panic.

use std::collections::VecDeque;
use std::time::Duration;

use kontiki_node::host::{Host, JOBS_MAX, Job};
use kontiki_node::machine::Place as Home;
use kontiki_raft::{Role, ServerId};

use super::chaos::Did;
use super::{Event, World};
use crate::network::Place;
use crate::register::{Ran, Told};
use crate::rng::Rng;
use crate::sabotage::{Call, Sabotage};

/// How long a machine hangs that does not hang for good.
const HANG: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));
/// How long a machine is slow.
const SLOW: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(6));
/// What a slow one may need for a job.
const SLOW_JOB: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(150));

/// Where the machines of a run are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machines {
    /// Of a thousand, so many are on a thread of their own.
    threads: u64,
    /// What those need at most for a job, in nanoseconds.
    job_max: u64,
}

impl Machines {
    pub(super) fn new(are_all: bool, rng: &mut Rng) -> Self {
        let threads = [0, 300, 600, 1000][rng.index(4)];
        Self {
            threads: if are_all { 1000 } else { threads },
            job_max: [5_000, 50_000, 2_000_000][rng.index(3)],
        }
    }
}

/// What the simulator has of a machine beside its registers.
#[derive(Debug, Default)]
pub(super) struct Wires {
    pub(super) sabotage: Sabotage,
    pub(super) ran: Ran,
    pub(super) told: Told,
    /// Its panic was counted.
    is_counted: bool,
}

/// The thread of a machine.
#[derive(Debug)]
pub(super) struct Thread {
    pub(super) host: Host,
    jobs: VecDeque<Job<u64>>,
    /// What a job takes at most, in nanoseconds.
    job_max: u64,
    /// Until then it takes longer.
    slow_until: u64,
    /// Until then it does nothing.
    hangs_until: u64,
    /// When the first job is done, if one was begun.
    due: Option<u64>,
    /// The process stood still when a job was done.
    is_held: bool,
}

impl Thread {
    pub(super) fn new(host: Host, job_max: u64) -> Self {
        Self {
            host,
            jobs: VecDeque::new(),
            job_max,
            slow_until: 0,
            hangs_until: 0,
            due: None,
            is_held: false,
        }
    }

    /// It will never do anything again.
    pub(super) fn is_lost(&self) -> bool {
        self.hangs_until == u64::MAX
    }

    pub(super) fn hangs(&self, now: u64) -> bool {
        now < self.hangs_until
    }
}

impl World {
    /// Where the machine of a process is that starts now, and what it needs for a job.
    pub(super) fn draw_home(&self, rng: &mut Rng) -> (Home, u64) {
        let home = match rng.chance(self.machines.threads) {
            true => Home::Thread,
            false => Home::Inline,
        };
        (home, rng.within(1_000, self.machines.job_max))
    }

    /// A thread is given a job.
    pub(super) fn give_job(&mut self, place: Place, job: Job<u64>) {
        let is_restore = matches!(job, Job::Restore { .. });
        let Some(process) = self.places[place].as_mut() else {
            return;
        };
        let server = process.server;
        let thread = process
            .thread
            .as_mut()
            .expect("only a thread is given jobs");
        let is_behind = thread
            .jobs
            .iter()
            .any(|job| matches!(job, Job::Apply { .. }));
        thread.jobs.push_back(job);
        let waiting = thread.jobs.len();
        assert!(
            waiting <= JOBS_MAX,
            "{waiting} jobs, more than the thread holds"
        );
        self.tally.add("machine: job for its thread");
        if is_restore && is_behind {
            self.tally.add("machine: restore behind batches");
        }
        if waiting == 1 {
            self.begin_job(place, server);
        }
    }

    /// The thread begins the job that is first in its queue.
    fn begin_job(&mut self, place: Place, server: ServerId) {
        let now = self.now;
        let mut rng = self.noises[place].at(now);
        let Some(thread) = self.thread_mut(place, server) else {
            return;
        };
        let usual = rng.within(1_000, thread.job_max);
        let extra = match now < thread.slow_until {
            true => rng.duration(SLOW_JOB.0, SLOW_JOB.1),
            false => 0,
        };
        let due = now + usual + extra;
        thread.due = Some(due);
        self.at(due, Event::Worked(place, server));
    }

    /// A thread has done the job that is first in its queue, unless it hangs.
    pub(super) fn worked(&mut self, place: Place, server: ServerId) {
        let now = self.now;
        let Some(process) = self.process_mut(place, server) else {
            return;
        };
        let is_paused = process.paused;
        let due = |thread: &&mut Thread| thread.due == Some(now);
        let Some(thread) = process.thread.as_mut().filter(due) else {
            return;
        };
        thread.due = None;
        if is_paused {
            thread.is_held = true;
            return;
        }
        if thread.hangs(now) {
            let until = thread.hangs_until;
            thread.due = Some(until);
            if !thread.is_lost() {
                self.at(until, Event::Worked(place, server));
            }
            return;
        }
        let Some(job) = thread.jobs.pop_front() else {
            return;
        };
        let done = thread.host.run(job);
        let goes_on = !thread.jobs.is_empty();
        self.input(place, kontiki_node::driver::Input::Done(done));
        if goes_on {
            self.begin_job(place, server);
        }
    }

    /// The process goes on, and with it the thread.
    pub(super) fn release_job(&mut self, place: Place, server: ServerId) {
        let is_held = |thread: &mut Thread| std::mem::take(&mut thread.is_held);
        if self.thread_mut(place, server).is_some_and(is_held) {
            self.begin_job(place, server);
        }
    }

    fn thread_mut(&mut self, place: Place, server: ServerId) -> Option<&mut Thread> {
        self.process_mut(place, server)?.thread.as_mut()
    }

    /// Some machine on a thread takes long over everything for a while.
    pub(super) fn slow_machine(&mut self, rng: &mut Rng) -> Did {
        let place = self.threaded(rng)?;
        let until = self.now + rng.duration(SLOW.0, SLOW.1);
        let process = self.places[place].as_mut()?;
        process.thread.as_mut()?.slow_until = until;
        Some(("fault: slow machine", format!("in place {place}")))
    }

    /// Some machine on a thread does nothing for a while.
    pub(super) fn hang_machine(&mut self, rng: &mut Rng) -> Did {
        let place = self.threaded(rng)?;
        let length = rng.duration(HANG.0, HANG.1);
        let until = self.now + length;
        let leads = self.leader().is_some_and(|(at, _)| at == place);
        let process = self.places[place].as_mut()?;
        let thread = process.thread.as_mut()?;
        if thread.hangs(self.now) {
            return None;
        }
        thread.hangs_until = until;
        if leads {
            self.tally.add("machine: hangs at the leader");
        }
        let what = format!("in place {place}, {:?}", Duration::from_nanos(length));
        Some(("fault: machine hangs", what))
    }

    /// The machine of a server that can be lost, on a thread, never does anything again.
    pub(super) fn lose_machine(&mut self, rng: &mut Rng) -> Did {
        if !self.operator.activated || self.processes().any(|(_, one)| one.has_lost_machine()) {
            return None;
        }
        let place = self.threaded(rng)?;
        let leads = self.leader().is_some_and(|(at, _)| at == place);
        let server = self.places[place].as_ref()?.server;
        if !self.is_one_too_few(server) {
            return None;
        }
        let process = self.places[place].as_mut()?;
        process.thread.as_mut()?.hangs_until = u64::MAX;
        if leads {
            self.tally.add("machine: hangs for good at the leader");
        }
        Some((
            "fault: machine hangs for good",
            format!("{server} in place {place}"),
        ))
    }

    /// After all faults somebody notices a server whose machine hangs, and ends it, once it does not lead:
    /// that another leads is the cluster's own affair.
    pub(super) fn end_hung(&mut self) {
        let leader = self.leader().map(|(place, _)| place);
        let hung: Vec<(Place, ServerId)> = self
            .processes()
            .filter(|(place, process)| process.has_lost_machine() && Some(*place) != leader)
            .map(|(place, process)| (place, process.server))
            .collect();
        for (place, server) in hung {
            if !self.chaos && self.can_lose(server) {
                self.kill(place);
                self.start_soon(place);
            }
        }
    }

    /// The machine of a server that can be lost panics in its next call of some kind.
    pub(super) fn sabotage(&mut self, rng: &mut Rng) -> Did {
        if !self.operator.activated {
            return None;
        }
        self.disarm();
        let sound = &self.checker.ledger.panicked;
        if self
            .processes()
            .any(|(_, process)| sound.contains(&process.server))
        {
            return None;
        }
        let call = match rng.below(4) {
            0 => Call::Snapshot,
            1 => Call::Restore,
            _ => Call::Apply,
        };
        let suits = |process: &super::Process| {
            call != Call::Restore
                || process.status.receiving.is_some()
                || process.status.standing.role == Role::Learner
        };
        let suitable: Vec<(Place, ServerId)> = self
            .processes()
            .filter(|(_, process)| process.status.quarantine.is_none() && suits(process))
            .map(|(place, process)| (place, process.server))
            .collect();
        let (place, server) = rng.pick(&suitable)?;
        if !self.is_one_too_few(server) {
            return None;
        }
        self.checker.ledger.panicked.insert(server);
        let process = self.places[place].as_mut()?;
        process.wires.sabotage.arm(call);
        Some(("fault: machine panics", format!("{server} in {call:?}")))
    }

    /// Panics that were planned and did not happen do not happen.
    fn disarm(&mut self) {
        let panicked = &mut self.checker.ledger.panicked;
        for process in self.places.iter().flatten() {
            if panicked.contains(&process.server) && process.wires.sabotage.disarm() {
                panicked.remove(&process.server);
            }
        }
    }

    /// Whoever hangs or is slow goes on, and nobody panics any more.
    pub(super) fn heal_machines(&mut self) {
        self.disarm();
        let now = self.now;
        let mut woken = Vec::new();
        for (place, process) in self.places.iter_mut().enumerate() {
            let Some(process) = process else { continue };
            let server = process.server;
            let Some(thread) = process.thread.as_mut() else {
                continue;
            };
            thread.slow_until = 0;
            if thread.hangs(now) && !thread.is_lost() {
                thread.hangs_until = now;
                if thread.due.is_some() {
                    thread.due = Some(now);
                    woken.push((place, server));
                }
            }
        }
        for (place, server) in woken {
            self.at(now, Event::Worked(place, server));
        }
    }

    /// Some place whose machine is on a thread, often the leader's.
    fn threaded(&self, rng: &mut Rng) -> Option<Place> {
        let is_threaded = |place: &Place| {
            let process = self.places[*place].as_ref();
            process.is_some_and(|process| process.thread.is_some())
        };
        let leader = self.leader().map(|(place, _)| place).filter(is_threaded);
        let leader = leader.filter(|_| rng.chance(400));
        let all: Vec<Place> = self.living().into_iter().filter(is_threaded).collect();
        leader.or_else(|| rng.pick(&all))
    }

    /// Counts a panic once it has happened.
    pub(super) fn count_panic(&mut self, place: Place) {
        let Some(process) = self.places[place].as_mut() else {
            return;
        };
        if process.wires.is_counted {
            return;
        }
        let Some(call) = process.wires.sabotage.panicked() else {
            return;
        };
        process.wires.is_counted = true;
        self.tally.add(match call {
            Call::Apply => "machine: panicked in apply",
            Call::Snapshot => "machine: panicked in snapshot",
            Call::Restore => "machine: panicked in restore",
        });
    }
}
