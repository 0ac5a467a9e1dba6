//! One run: faults for a while, then everything heals, then the cluster must make progress and agree.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::time::Duration;

use crate::invariants::{Invariant, Violation};
use crate::profile::Profile;
use crate::script::{Drawn, Ending, Run, Script, Stimuli, Stimulus};
use crate::tally::Tally;
use crate::world::World;

/// Faults go on for at least this long, until enough has happened.
const CHAOS_MIN: u64 = 12 * SECOND;
/// And at most this long.
const CHAOS_MAX: u64 = 180 * SECOND;
/// Enough: operations of clients, while there are faults.
pub const OPERATIONS_MIN: u64 = 500;
/// Enough: faults.
pub const FAULTS_MIN: u64 = 60;
/// Healed, the cluster repairs itself and serves within this time.
const PROGRESS_WITHIN: u64 = 60 * SECOND;
/// Writes that count as progress.
const PROGRESS_WRITES: u64 = 20;
/// Without clients, all servers agree and every request is answered within this time.
const AGREEMENT_WITHIN: u64 = 30 * SECOND;
/// After a quorum is lost the survivors may need this long to notice, and no answer comes later.
const FREEZE_WITHIN: u64 = 10 * SECOND;
const SECOND: u64 = Duration::from_secs(1).as_nanos() as u64;

/// The invariant that a panic violates.
pub const NO_PANIC: &str = "no panic";

/// How a run is looked at.
pub struct Observer {
    /// Print its trace.
    pub prints: bool,
    /// Say what each stimulus did.
    pub tells: bool,
    /// Sentences to check beside those that every run is held to.
    pub invariants: fn() -> Vec<Box<dyn Invariant>>,
}

impl Default for Observer {
    fn default() -> Self {
        Self {
            prints: false,
            tells: false,
            invariants: Vec::new,
        }
    }
}

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which it was.
    pub run: Run,
    /// Turns taken.
    pub step: u64,
    /// Hash of all that happened.
    pub hash: u64,
    /// Counts of what happened.
    pub tally: Tally,
    /// What went wrong, if anything did.
    pub violation: Option<Violation>,
    /// When faults ended, or what went wrong went wrong before that.
    pub until: u64,
    /// What was done and had an effect.
    pub done: Vec<Stimulus>,
    /// What each of them did, if that was wanted.
    pub story: Vec<String>,
}

impl Outcome {
    /// The run as a script.
    pub fn script(&self) -> Script {
        Script {
            run: self.run,
            until: self.until,
            stimuli: self.done.clone(),
            ending: self.violation.as_ref().map(|violation| Ending {
                hash: self.hash,
                invariant: violation.invariant.to_owned(),
            }),
        }
    }
}

/// Runs a seed. A panic inside a driver is a violation as well: its assertions are on.
pub fn run(seed: u64, profile: &'static Profile, observer: &Observer) -> Outcome {
    let stimuli = Stimuli::Drawn(Drawn::new(seed, profile));
    observe(&Run::drawn(seed, profile), stimuli, None, observer)
}

/// Runs a script: what it lists, then heals.
pub fn replay(script: &Script, observer: &Observer) -> Outcome {
    let stimuli = Stimuli::listed(script);
    observe(&script.run, stimuli, Some(script.until), observer)
}

fn observe(run: &Run, stimuli: Stimuli, until: Option<u64>, observer: &Observer) -> Outcome {
    remember_panics();
    let mut world = World::new(run, stimuli, observer.prints);
    world.story = observer.tells.then(Vec::new);
    world.invariants = observer.invariants;
    for invariant in (observer.invariants)() {
        world.checker.add(invariant);
    }
    let mut ended = None;
    let result = panic::catch_unwind(AssertUnwindSafe(|| phases(&mut world, until, &mut ended)));
    let violation = match result {
        Ok(result) => result.err(),
        Err(_) => Some(Violation {
            invariant: NO_PANIC,
            detail: PANIC.with_borrow_mut(std::mem::take),
        }),
    };
    Outcome {
        run: *run,
        step: world.step,
        hash: world.trace.hash(),
        tally: world.tally,
        violation,
        until: ended.unwrap_or(world.now),
        done: world.done,
        story: world.story.unwrap_or_default(),
    }
}

/// Faults until a moment, or until enough happened; `ended` is when that was.
fn phases(world: &mut World, until: Option<u64>, ended: &mut Option<u64>) -> Result<(), Violation> {
    match until {
        Some(until) => world.run_until(until)?,
        None => {
            while !enough(world) {
                world.run_until(world.now + SECOND / 4)?;
            }
            enough_happened(world)?;
        }
    }
    *ended = Some(world.now);
    world.heal();
    let before = world.tally.count("write: acknowledged");
    reach(world, PROGRESS_WITHIN, "progress after healing", |world| {
        let written = world.tally.count("write: acknowledged") - before;
        let why = world.unsettled();
        why.or_else(|| {
            (written < PROGRESS_WRITES).then(|| format!("{written} writes, {}", world.held()))
        })
    })?;
    world.dismiss_clients();
    reach(
        world,
        AGREEMENT_WITHIN,
        "agreement after healing",
        World::disagreement,
    )?;
    world.checker.finish()?;
    if world.loses_quorum() {
        freeze(world)?;
    }
    Ok(())
}

fn enough(world: &World) -> bool {
    let operations = world.tally.count("client: operation");
    let faults = world.tally.sum("fault: ");
    let enough = operations >= OPERATIONS_MIN && faults >= FAULTS_MIN;
    world.now >= CHAOS_MAX || (enough && world.now >= CHAOS_MIN)
}

/// In the default profile a run that is too quiet is a failure of the simulator.
fn enough_happened(world: &World) -> Result<(), Violation> {
    let operations = world.tally.count("client: operation");
    let faults = world.tally.sum("fault: ");
    if world.profile().is_default() && (operations < OPERATIONS_MIN || faults < FAULTS_MIN) {
        return Err(Violation {
            invariant: "enough happens",
            detail: format!("{operations} operations of clients, {faults} faults"),
        });
    }
    Ok(())
}

/// Waits until nothing is `missing`; for so long at most.
fn reach(
    world: &mut World,
    within: u64,
    what: &'static str,
    missing: impl Fn(&World) -> Option<String>,
) -> Result<(), Violation> {
    let deadline = world.now + within;
    while let Some(missing) = missing(world) {
        if world.now >= deadline {
            return Err(Violation {
                invariant: what,
                detail: missing,
            });
        }
        world.run_until(world.now + SECOND / 4)?;
    }
    Ok(())
}

/// Without a quorum of its memories a cluster answers nothing that needs one.
fn freeze(world: &mut World) -> Result<(), Violation> {
    world.lose_quorum();
    world.recall_clients();
    world.run_until(world.now + FREEZE_WITHIN)?;
    let answers = |world: &World| {
        world.tally.count("write: acknowledged") + world.tally.count("read: answered")
    };
    let before = answers(world);
    world.run_until(world.now + FREEZE_WITHIN)?;
    let after = answers(world);
    if after != before {
        return Err(Violation {
            invariant: "freeze after total loss",
            detail: format!("{} requests were answered without a quorum", after - before),
        });
    }
    // The survivors are quarantined, and then answer not even what they know.
    world.quarantine_survivors();
    world.run_until(world.now + FREEZE_WITHIN)?;
    if let Some(survivor) = world.unstopped_survivor() {
        return Err(Violation {
            invariant: "quarantine after total loss",
            detail: format!("{survivor} goes on"),
        });
    }
    let known = |world: &World| world.tally.count("stale read: answered");
    let before = known(world);
    world.run_until(world.now + FREEZE_WITHIN)?;
    let after = known(world);
    if after != before {
        return Err(Violation {
            invariant: "quarantine after total loss",
            detail: format!("{} stale reads were answered", after - before),
        });
    }
    Ok(())
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps the message of a panic for the report, and off the terminal.
fn remember_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(|at| at.to_string()).unwrap_or_default();
            if place.contains("tests/sim") || place.contains("tests/tidy") {
                usual(info);
            }
            let text = info.payload_as_str().unwrap_or("a panic without a text");
            PANIC.with_borrow_mut(|kept| *kept = format!("{text} ({place})"));
        }));
    });
}
