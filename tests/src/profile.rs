//! Which faults a run meets, and how often.

use std::time::Duration;

use crate::fault::Fault;
use crate::rng::Rng;
use crate::states::STATES;

/// Seeds from which on what never happened fails a run.
const SEEDS_ASSERTED: u64 = 200;
/// Of so many seeds of the default profile everything that has a name happens at least
/// [`COUNTED_MIN`] times.
const SEEDS_COUNTED: u64 = 1000;
/// See [`SEEDS_COUNTED`].
const COUNTED_MIN: u64 = 100;
/// What happens more seldom than that, and how often at least in as many seeds.
const COUNTED_MIN_RARE: &[(&str, u64)] = &[
    // Only while no voter that has yet to say its digest can decide.
    ("state: leader, refuses writes: servers differ", 12),
];

/// The profile whose subject is machines on threads of their own.
const MACHINES_NAME: &str = "machines";

/// A mixture of faults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// As `--profile` names it.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Faults with their weights.
    pub faults: &'static [(Fault, u64)],
    /// Shortest time between two faults.
    pub pace_min: Duration,
    /// Longest.
    pub pace_max: Duration,
    /// At the end more voters are killed than the cluster can lose; what is left must freeze.
    pub total_loss: bool,
    /// Every run has a limit of memory that is soon reached, and machines on threads of their own.
    pub are_limits_small: bool,
}

use Fault::*;

const ALL: &[(Fault, u64)] = &[
    (Partition, 8),
    (PartitionOneWay, 6),
    (PartitionPartial, 8),
    (OneWay, 8),
    (IsolateLeader, 28),
    (Usurp, 12),
    (Ambush, 20),
    (Flap, 6),
    (Slow, 8),
    (Storm, 8),
    (Crash, 8),
    (CrashLeader, 8),
    (Pause, 8),
    (LongPause, 5),
    (Drift, 6),
    (Reset, 6),
    (TriggerElection, 12),
    (Transfer, 10),
    (Scale, 10),
    (Mistake, 16),
    (Rush, 8),
    (Observe, 6),
    (Foreign, 8),
    (Corrupt, 8),
    (Roll, 14),
    (Rot, 16),
    (SlowMachine, 12),
    (HangMachine, 12),
];

const CHURN: &[(Fault, u64)] = &[
    (Crash, 20),
    (CrashLeader, 15),
    (Scale, 25),
    (Mistake, 10),
    (Rush, 8),
    (Observe, 8),
    (Ambush, 10),
    (Transfer, 10),
    (TriggerElection, 5),
    (IsolateLeader, 5),
    (Storm, 5),
    (Pause, 5),
];

const VERSIONS: &[(Fault, u64)] = &[
    (Roll, 40),
    (Rot, 20),
    (Transfer, 10),
    (IsolateLeader, 10),
    (Scale, 10),
    (Storm, 5),
];

const NETWORK: &[(Fault, u64)] = &[
    (Partition, 20),
    (PartitionOneWay, 15),
    (PartitionPartial, 15),
    (OneWay, 20),
    (IsolateLeader, 15),
    (Flap, 15),
    (Slow, 15),
    (Storm, 15),
    (Pause, 15),
    (LongPause, 5),
    (Drift, 10),
    (Reset, 10),
    (Corrupt, 5),
];

const ELECTIONS: &[(Fault, u64)] = &[
    (TriggerElection, 40),
    (Transfer, 20),
    (IsolateLeader, 15),
    (Usurp, 15),
    (PartitionPartial, 10),
    (OneWay, 10),
    (Pause, 10),
    (Drift, 5),
    (Storm, 5),
];

const SECOND_CLUSTER: &[(Fault, u64)] = &[
    (StartEmpty, 8),
    (Crash, 30),
    (IsolateLeader, 10),
    (Transfer, 5),
    (Storm, 10),
    (Pause, 10),
    (Reset, 5),
    (Scale, 5),
    (HangMachine, 5),
];

const MACHINES: &[(Fault, u64)] = &[
    (SlowMachine, 25),
    (HangMachine, 30),
    (Crash, 10),
    (CrashLeader, 5),
    (Transfer, 10),
    (IsolateLeader, 5),
    (Scale, 10),
    (Pause, 5),
    (Storm, 5),
    (Rot, 4),
];

const LIMITS: &[(Fault, u64)] = &[
    (HangMachine, 40),
    (SlowMachine, 10),
    (Crash, 20),
    (Transfer, 5),
    (IsolateLeader, 5),
    (Observe, 10),
    (Scale, 5),
];

const CLOCKS: &[(Fault, u64)] = &[
    (Halt, 40),
    (StepClock, 12),
    (RaceClock, 12),
    (Pause, 10),
    (IsolateLeader, 10),
    (Usurp, 5),
    (TriggerElection, 5),
    (Transfer, 5),
    (Crash, 5),
    (Drift, 5),
];

/// The profiles that there are; the first is the default.
pub const PROFILES: &[Profile] = &[
    Profile {
        name: "default",
        about: "every fault",
        faults: ALL,
        pace_min: Duration::from_millis(100),
        pace_max: Duration::from_millis(1500),
        total_loss: false,
        are_limits_small: false,
    },
    Profile {
        name: "churn",
        about: "servers come, go, die and are replaced",
        faults: CHURN,
        pace_min: Duration::from_millis(300),
        pace_max: Duration::from_millis(1500),
        total_loss: false,
        are_limits_small: false,
    },
    Profile {
        name: "network",
        about: "only the network and the scheduler misbehave",
        faults: NETWORK,
        pace_min: Duration::from_millis(100),
        pace_max: Duration::from_millis(1000),
        total_loss: false,
        are_limits_small: false,
    },
    Profile {
        name: "versions",
        about: "servers of other programs come and go, and memory changes by itself",
        faults: VERSIONS,
        pace_min: Duration::from_millis(300),
        pace_max: Duration::from_millis(2000),
        total_loss: false,
        are_limits_small: false,
    },
    Profile {
        name: "elections",
        about: "elections are forced one after the other",
        faults: ELECTIONS,
        pace_min: Duration::from_millis(20),
        pace_max: Duration::from_millis(600),
        total_loss: false,
        are_limits_small: false,
    },
    Profile {
        name: "second-cluster",
        about: "a quorum is lost again and again, and clients meet an empty cluster",
        faults: SECOND_CLUSTER,
        pace_min: Duration::from_millis(100),
        pace_max: Duration::from_millis(800),
        total_loss: false,
        are_limits_small: false,
    },
    Profile {
        name: MACHINES_NAME,
        about: "machines are slow and hang",
        faults: MACHINES,
        pace_min: Duration::from_millis(200),
        pace_max: Duration::from_millis(1500),
        total_loss: false,
        are_limits_small: false,
    },
    Profile {
        name: "limits",
        about: "memory is short, and machines hang",
        faults: LIMITS,
        pace_min: Duration::from_millis(200),
        pace_max: Duration::from_millis(2500),
        total_loss: false,
        are_limits_small: true,
    },
    Profile {
        name: "clocks",
        about: "clocks stand still, jump and race: all that needs no clock must hold",
        faults: CLOCKS,
        pace_min: Duration::from_millis(100),
        pace_max: Duration::from_millis(1200),
        total_loss: false,
        are_limits_small: false,
    },
    Profile {
        name: "total-loss",
        about: "every fault, and in the end a quorum of memories is lost: the rest must freeze",
        faults: ALL,
        pace_min: Duration::from_millis(100),
        pace_max: Duration::from_millis(1500),
        total_loss: true,
        are_limits_small: false,
    },
];

/// How often what has this name happens at least in [`SEEDS_COUNTED`] seeds of the default profile.
fn counted_min(name: &str) -> u64 {
    let rare = COUNTED_MIN_RARE.iter().find(|(rare, _)| *rare == name);
    rare.map_or(COUNTED_MIN, |(_, min)| *min)
}

impl Profile {
    /// The profile of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PROFILES.iter().find(|profile| profile.name == name)
    }

    /// What must happen, by its name in the tally.
    fn required(&self) -> Vec<&'static str> {
        let mut required = vec![
            "write: acknowledged",
            "read: answered",
            "stale read: answered",
            "lease read: answered",
            "lease read: without a round",
            "follower read: answered",
            "bounded read: answered",
            "bounded read: refused",
            "election: won",
            "process: drifting clock",
            "log: compacted",
            "snapshot: begun",
            "snapshot: delivered",
            "snapshot: given up",
            "snapshot: refused",
            "snapshot: restored",
            "snapshot: resumed",
            "session: write acknowledged",
            "session: duplicate suppressed",
            "session: window full",
            "session: expired",
            "session: reply forgotten",
            "process: machine on a thread of its own",
            "effect: run",
        ];
        for (fault, _) in self.faults {
            required.extend_from_slice(fault.counts());
        }
        if self.name == MACHINES_NAME {
            // A restore begins while earlier batches wait in the queue of a slow machine: rare elsewhere.
            required.push("machine: restore behind batches");
        }
        if self.total_loss {
            required.push("fault: total loss");
        }
        required
    }

    /// What a run of so many seeds must have counted, each as often as this says.
    pub fn demands(&self, seeds: u64) -> Vec<(&'static str, u64)> {
        let required = self.required().into_iter();
        match seeds / SEEDS_COUNTED {
            0 if seeds < SEEDS_ASSERTED => Vec::new(),
            0 => required.map(|name| (name, 1)).collect(),
            thousands if self.is_default() => {
                let states = STATES.iter().map(|state| state.name);
                let all = required.chain(states);
                all.map(|name| (name, thousands * counted_min(name)))
                    .collect()
            }
            _ => required.map(|name| (name, 1)).collect(),
        }
    }

    /// Whether it is the one of which every seed must be busy, and many must be in every named state.
    pub fn is_default(&self) -> bool {
        self.name == PROFILES[0].name
    }

    /// A fault, by its weight.
    pub fn draw(&self, rng: &mut Rng) -> Fault {
        let total = self.faults.iter().map(|(_, weight)| weight).sum();
        let mut drawn = rng.below(total);
        let chosen = self.faults.iter().find(|(_, weight)| {
            let found = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            found
        });
        chosen.expect("the weights add up").0
    }
}
