//! Which faults a run meets, and how often.

use std::time::Duration;

/// A fault, or a wish of the operator at an awkward moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Two groups of places do not hear from each other.
    Partition,
    /// Some links are cut in one direction.
    OneWay,
    /// The leader alone is cut off.
    IsolateLeader,
    /// Loss, duplication and delay for a while.
    Storm,
    /// A process dies, and with it its memory; a new incarnation starts in its place.
    Crash,
    /// The leader's.
    CrashLeader,
    /// A process stands still for a while.
    Pause,
    /// Connections break and are made anew.
    Reset,
    /// Some server is told to campaign.
    TriggerElection,
    /// The leader is told to hand over.
    Transfer,
    /// Another number of servers is wanted.
    Scale,
    /// A message of another cluster arrives.
    Foreign,
    /// Bytes of an append are flipped on the way.
    Corrupt,
    /// A server is replaced by one whose program runs newer versions of the machine.
    Roll,
    /// A value in the memory of some server changes.
    Rot,
}

/// A mixture of faults.
#[derive(Clone, Copy, Debug)]
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
}

use Fault::{
    Corrupt, Crash, CrashLeader, Foreign, IsolateLeader, OneWay, Partition, Pause, Reset, Roll,
    Rot, Scale, Storm, Transfer, TriggerElection,
};

const ALL: &[(Fault, u64)] = &[
    (Partition, 10),
    (OneWay, 10),
    (IsolateLeader, 28),
    (Storm, 8),
    (Crash, 8),
    (CrashLeader, 8),
    (Pause, 10),
    (Reset, 6),
    (TriggerElection, 12),
    (Transfer, 10),
    (Scale, 10),
    (Foreign, 2),
    (Corrupt, 2),
    (Roll, 8),
    (Rot, 4),
];

const CHURN: &[(Fault, u64)] = &[
    (Crash, 20),
    (CrashLeader, 15),
    (Scale, 25),
    (Transfer, 10),
    (TriggerElection, 5),
    (IsolateLeader, 5),
    (Storm, 5),
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
    (OneWay, 20),
    (IsolateLeader, 15),
    (Storm, 15),
    (Pause, 15),
    (Reset, 10),
    (Corrupt, 5),
];

const ELECTIONS: &[(Fault, u64)] = &[
    (TriggerElection, 40),
    (Transfer, 20),
    (IsolateLeader, 15),
    (OneWay, 10),
    (Pause, 10),
    (Storm, 5),
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
    },
    Profile {
        name: "churn",
        about: "servers come, go, die and are replaced",
        faults: CHURN,
        pace_min: Duration::from_millis(300),
        pace_max: Duration::from_millis(1500),
        total_loss: false,
    },
    Profile {
        name: "network",
        about: "only the network and the scheduler misbehave",
        faults: NETWORK,
        pace_min: Duration::from_millis(100),
        pace_max: Duration::from_millis(1000),
        total_loss: false,
    },
    Profile {
        name: "versions",
        about: "servers of other programs come and go, and memory changes by itself",
        faults: VERSIONS,
        pace_min: Duration::from_millis(300),
        pace_max: Duration::from_millis(2000),
        total_loss: false,
    },
    Profile {
        name: "elections",
        about: "elections are forced one after the other",
        faults: ELECTIONS,
        pace_min: Duration::from_millis(20),
        pace_max: Duration::from_millis(600),
        total_loss: false,
    },
    Profile {
        name: "total-loss",
        about: "every fault, and in the end a quorum of memories is lost: the rest must freeze",
        faults: ALL,
        pace_min: Duration::from_millis(100),
        pace_max: Duration::from_millis(1500),
        total_loss: true,
    },
];

impl Profile {
    /// The profile of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PROFILES.iter().find(|profile| profile.name == name)
    }

    /// What must have happened, by its name in the tally, in a run of at least
    /// [`Self::ASSERTED_FROM`] seeds.
    pub fn required(&self) -> Vec<&'static str> {
        let mut required = vec![
            "write: acknowledged",
            "read: answered",
            "stale read: answered",
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
        ];
        for (fault, _) in self.faults {
            required.extend_from_slice(match fault {
                Partition => &["fault: partition", "message: cut off"] as &[_],
                OneWay => &["fault: one-way cut"],
                IsolateLeader => &["fault: leader isolated"],
                Storm => &[
                    "fault: storm",
                    "message: lost",
                    "message: duplicated",
                    "message: held up",
                    "message: reordered",
                ],
                Crash => &[
                    "fault: crash",
                    "process: restart as a new incarnation",
                    "message: from a lost incarnation, late",
                    "message: for a lost incarnation",
                    "change: replacement in force",
                    "connection: gone",
                ],
                CrashLeader => &["fault: crash of the leader"],
                Pause => &["fault: pause"],
                Reset => &["fault: connections reset", "connection: broken"],
                TriggerElection => &["fault: election triggered"],
                Transfer => &["fault: transfer asked for", "transfer: done"],
                Scale => &[
                    "change: scaled up",
                    "change: scaled down",
                    "change: joint",
                    "change: refused, another is in flight",
                ],
                Foreign => &["message: of another cluster"],
                Corrupt => &["message: corrupted"],
                Roll => &[
                    "fault: server rolled",
                    "version: raised",
                    "change: refused, unsupported version",
                    "learner: held back, lacks the version",
                ],
                Rot => &["fault: memory changed", "server: quarantined and replaced"],
            });
        }
        if self.total_loss {
            required.push("fault: total loss");
        }
        required
    }

    /// Seeds from which on a fault that never happened fails the run.
    pub const ASSERTED_FROM: u64 = 200;
}
