//! Makes a failing run small: leaves out what the failure does not need, faults and operations of
//! clients, then the end of it (delta debugging, Zeller and Hildebrandt 2002). A smaller run counts if
//! it violates the same invariant. What cannot be left out by itself often held the moments of others in
//! place only: so the same is tried with other delays.

use std::time::{Duration, Instant};

use crate::invariants::Violation;
use crate::script::{Deed, Run, Script, Stimulus};
use crate::simulation::{NO_PANIC, Observer, Outcome, replay};

/// Runs that one failure may take to shrink.
pub const RUNS_MAX: u32 = 4000;
/// Time that it may take.
pub const TIME_MAX: Duration = Duration::from_secs(120);
/// A run is cut short by halves as long as that is more than this, in nanoseconds of the run.
const SHORTENED_MIN: u64 = 50_000_000;
/// Other delays that are tried for what is left.
const NOISES_MAX: u64 = 12;
/// What is left out may make what goes wrong come so much later.
const SLACK: u64 = 1_000_000_000;

/// A failure, as small as it was made.
#[derive(Debug)]
pub struct Shrunk {
    /// What is done.
    pub script: Script,
    /// What becomes of it.
    pub outcome: Outcome,
    /// How many runs it took.
    pub runs: u32,
}

struct Shrinker<'a> {
    observer: &'a Observer,
    best: Script,
    outcome: Outcome,
    runs: u32,
    runs_max: u32,
    deadline: Instant,
}

/// Shrinks the failure that `outcome` is of; `None` if it is none, or its script does not fail the same
/// way, which would be a run that does not depend on its seed alone.
pub fn shrink(outcome: &Outcome, observer: &Observer, runs_max: u32) -> Option<Shrunk> {
    outcome.violation.as_ref()?;
    let script = outcome.script();
    let again = replay(&script, observer);
    if again.violation != outcome.violation || again.hash != outcome.hash {
        return None;
    }
    let mut shrinker = Shrinker {
        observer,
        best: script,
        outcome: again,
        runs: 1,
        runs_max,
        deadline: Instant::now() + TIME_MAX,
    };
    shrinker.shrink();
    Some(Shrunk {
        script: shrinker.best,
        outcome: shrinker.outcome,
        runs: shrinker.runs,
    })
}

/// Whether two failures are one: of the same invariant, and of panics those at the same place.
fn is_same(one: &Violation, other: &Violation) -> bool {
    let place = |violation: &Violation| {
        let place = violation.detail.rsplit_once(" (");
        place.map(|(_, place)| place.to_owned())
    };
    one.invariant == other.invariant && (one.invariant != NO_PANIC || place(one) == place(other))
}

impl Shrinker<'_> {
    fn shrink(&mut self) {
        let drawn = self.best.run.noise;
        self.shorten(drawn);
        self.leave_out_kinds(drawn);
        let mut noises = (drawn..=NOISES_MAX).peekable();
        while let Some(noise) = noises.peek().copied().filter(|_| !self.is_spent()) {
            let before = self.best.clone();
            self.leave_out_parts(noise);
            self.shorten(noise);
            if self.best == before {
                noises.next();
            }
        }
    }

    fn is_spent(&self) -> bool {
        self.runs >= self.runs_max || Instant::now() >= self.deadline
    }

    /// Keeps a smaller run if it fails the same way.
    fn tries(&mut self, stimuli: Vec<Stimulus>, until: u64, noise: u64) -> bool {
        if self.is_spent() {
            return false;
        }
        self.runs += 1;
        let script = Script {
            run: Run {
                noise,
                ..self.best.run
            },
            until,
            stimuli,
            ending: None,
        };
        let outcome = replay(&script, self.observer);
        let is_same = match (&outcome.violation, &self.outcome.violation) {
            (Some(one), Some(other)) => is_same(one, other),
            _ => false,
        };
        if is_same {
            // What had no effect, or came after the failure, is left out at no cost.
            self.best = outcome.script();
            self.outcome = outcome;
        }
        is_same
    }

    /// All operations of a client at once, or all faults of a kind.
    fn leave_out_kinds(&mut self, noise: u64) {
        let mut kinds: Vec<Deed> = Vec::new();
        for stimulus in &self.best.stimuli {
            if !kinds.contains(&stimulus.deed) {
                kinds.push(stimulus.deed);
            }
        }
        for kind in kinds {
            let rest = self.best.stimuli.iter().filter(|one| one.deed != kind);
            self.tries(rest.copied().collect(), self.best.until + SLACK, noise);
        }
    }

    /// Parts of the list: halves of it first, in the end one by one.
    fn leave_out_parts(&mut self, noise: u64) {
        let mut size = self.best.stimuli.len().div_ceil(2);
        while size > 0 && !self.is_spent() {
            // From the end: what comes late is less likely to be needed by what comes early.
            let mut end = self.best.stimuli.len();
            while end > 0 && !self.is_spent() {
                let start = end.saturating_sub(size);
                let mut rest = self.best.stimuli.clone();
                rest.drain(start..end);
                self.tries(rest, self.best.until + SLACK, noise);
                end = start.min(self.best.stimuli.len());
            }
            size /= 2;
        }
    }

    /// The end of the faults comes earlier.
    fn shorten(&mut self, noise: u64) {
        let mut step = self.best.until / 2;
        while step > SHORTENED_MIN && !self.is_spent() {
            let until = self.best.until.saturating_sub(step);
            let kept = self.best.stimuli.iter().filter(|one| one.at <= until);
            if !self.tries(kept.copied().collect(), until, noise) {
                step /= 2;
            }
            step = step.min(self.best.until / 2);
        }
    }
}
