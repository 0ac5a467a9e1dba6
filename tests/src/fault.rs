//! What goes wrong in a run.

/// A fault, or a wish of the operator at an awkward moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Two groups of places do not hear from each other.
    Partition,
    /// One of two groups does not hear from the other, which hears it.
    PartitionOneWay,
    /// Two places do not hear from each other, and everyone else hears both.
    PartitionPartial,
    /// Some links are cut in one direction.
    OneWay,
    /// The leader alone is cut off.
    IsolateLeader,
    /// Another is to lead, and the leader hears of it late, if at all.
    Usurp,
    /// As soon as a leader appends a configuration it is cut off, or told to hand over.
    Ambush,
    /// A link, or all of a place, goes down and up many times.
    Flap,
    /// Messages of some links take long, in one direction.
    Slow,
    /// Loss, duplication and delay for a while.
    Storm,
    /// A process dies, and with it its memory; a new incarnation starts in its place.
    Crash,
    /// The leader's.
    CrashLeader,
    /// A process stands still for a while.
    Pause,
    /// A process stands still for many election timeouts.
    LongPause,
    /// A clock goes at another rate from now on.
    Drift,
    /// Connections break and are made anew.
    Reset,
    /// Some server is told to campaign.
    TriggerElection,
    /// The leader is told to hand over.
    Transfer,
    /// Another number of servers is wanted.
    Scale,
    /// The operator replaces a server that lives, once or twice, by what it once saw.
    Mistake,
    /// Somebody else asks for a change at the same time as the operator.
    Rush,
    /// A learner is added that is to stay one.
    Observe,
    /// A message of another cluster arrives.
    Foreign,
    /// Bytes of an append are flipped on the way.
    Corrupt,
    /// A server is replaced by one whose program runs newer versions of the machine.
    Roll,
    /// A value in the memory of some server changes.
    Rot,
    /// A machine on a thread of its own takes long over everything.
    SlowMachine,
    /// A machine on a thread of its own does nothing for a while.
    HangMachine,
    /// A machine on a thread of its own never does anything again. In no profile yet: the model of the
    /// operator counts such a server for the margin.
    LoseMachine,
    /// A machine panics. In no profile yet: it strikes some time after it was armed, when the cluster may
    /// not be able to lose the server any more.
    PanicMachine,
    /// A quorum of memories is lost, and an empty cluster starts in the same places.
    StartEmpty,
    /// A process stands still, and its clock with it, as under a hypervisor that pauses both.
    Halt,
    /// A clock jumps ahead.
    StepClock,
    /// A clock goes far faster or slower than its bound.
    RaceClock,
}

use Fault::*;

impl Fault {
    /// All, as scripts name them.
    pub const ALL: &[(Self, &str)] = &[
        (Partition, "partition"),
        (PartitionOneWay, "partition-one-way"),
        (PartitionPartial, "partition-partial"),
        (OneWay, "one-way"),
        (IsolateLeader, "isolate-leader"),
        (Usurp, "usurp"),
        (Ambush, "ambush"),
        (Flap, "flap"),
        (Slow, "slow"),
        (Storm, "storm"),
        (Crash, "crash"),
        (CrashLeader, "crash-leader"),
        (Pause, "pause"),
        (LongPause, "long-pause"),
        (Drift, "drift"),
        (Reset, "reset"),
        (TriggerElection, "trigger-election"),
        (Transfer, "transfer"),
        (Scale, "scale"),
        (Mistake, "mistake"),
        (Rush, "rush"),
        (Observe, "observe"),
        (Foreign, "foreign"),
        (Corrupt, "corrupt"),
        (Roll, "roll"),
        (Rot, "rot"),
        (SlowMachine, "slow-machine"),
        (HangMachine, "hang-machine"),
        (LoseMachine, "lose-machine"),
        (PanicMachine, "panic-machine"),
        (StartEmpty, "start-empty"),
        (Halt, "halt"),
        (StepClock, "step-clock"),
        (RaceClock, "race-clock"),
    ];

    /// As scripts name it.
    pub fn name(self) -> &'static str {
        let known = Self::ALL.iter().find(|(fault, _)| *fault == self);
        known.map_or("unnamed", |(_, name)| name)
    }

    /// The fault of that name.
    pub fn named(name: &str) -> Option<Self> {
        let known = Self::ALL.iter().find(|(_, known)| *known == name);
        known.map(|(fault, _)| *fault)
    }

    /// What a run with this fault counts, by its name in the tally.
    pub fn counts(self) -> &'static [&'static str] {
        match self {
            Partition => &["fault: partition", "message: cut off"],
            PartitionOneWay => &["fault: partition in one direction"],
            PartitionPartial => &["fault: partial partition"],
            OneWay => &["fault: one-way cut"],
            IsolateLeader => &["fault: leader isolated"],
            Usurp => &["fault: leader is late to hear of another"],
            Ambush => &[
                "fault: leader cut off at a change",
                "fault: transfer asked for at a change",
            ],
            Flap => &["fault: flapping link", "link: down, flapping"],
            Slow => &["fault: slow in one direction", "message: slow"],
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
            LongPause => &["fault: long pause"],
            Drift => &["fault: clock changes its rate"],
            Reset => &["fault: connections reset", "connection: broken"],
            TriggerElection => &["fault: election triggered"],
            Transfer => &["fault: transfer asked for", "transfer: done"],
            Scale => &[
                "fault: another size wanted",
                "change: scaled up",
                "change: scaled down",
                "change: joint",
            ],
            Mistake => &[
                "fault: a server that lives is replaced",
                "mistake: of one that is cut off",
                "mistake: of one that stands still",
                "mistake: twice",
                "mistake: by two",
                "mistake: stale configuration",
                "change: mistaken replacement in force",
                "change: refused, stale configuration",
            ],
            Rush => &[
                "fault: two changes at once",
                "change: refused, another is in flight",
            ],
            Observe => &["fault: learner that stays"],
            Foreign => &["message: of another cluster"],
            Corrupt => &["message: corrupted"],
            Roll => &[
                "fault: server rolled",
                "version: raised",
                "change: refused, unsupported version",
                "learner: held back, lacks the version",
            ],
            SlowMachine => &["fault: slow machine"],
            HangMachine => &["fault: machine hangs", "machine: hangs at the leader"],
            LoseMachine => &[
                "fault: machine hangs for good",
                "machine: hangs for good at the leader",
            ],
            PanicMachine => &[
                "fault: machine panics",
                "machine: panicked in apply",
                "machine: panicked in snapshot",
            ],
            Halt => &[
                "fault: clock stands still",
                "read: by a clock that is not trusted, not judged",
            ],
            StepClock => &["fault: clock jumps"],
            RaceClock => &["fault: clock goes beyond its bound"],
            StartEmpty => &[
                "fault: total loss, and an empty cluster",
                "cluster: started empty",
                "cluster: crash before it is activated",
                "cluster: bootstrapped by its servers",
                "cluster: identity drawn anew",
                "session: of another cluster",
            ],
            Rot => &["fault: memory changed", "server: quarantined and replaced"],
        }
    }
}
