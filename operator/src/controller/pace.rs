//! When to look again.

use std::time::{Duration, Instant};

/// At rest: a change is noticed by a watch or by the lookout, and this finds what both missed.
pub const REST: Duration = Duration::from_secs(30);
/// While something goes on.
const FAST: Duration = Duration::from_millis(250);
/// While something goes on and nothing has changed for [`SETTLED`].
const SLOWER: Duration = Duration::from_secs(1);
/// While something goes on and nothing has changed for [`STUCK`].
const SLOWEST: Duration = Duration::from_secs(5);
const SETTLED: Duration = Duration::from_secs(60);
const STUCK: Duration = Duration::from_secs(600);
/// After errors in a row the wait doubles up to this.
const ERRORS_MAX: Duration = Duration::from_secs(15);
/// Failed steps double the wait up to this: a leader that is a second old may take what it refused.
const FAILURES_MAX: Duration = Duration::from_secs(2);

/// How a look ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// All is as wanted; or paused.
    AtRest,
    /// Something goes on, and since the last look something changed.
    Moving,
    /// Something goes on, and nothing has changed.
    Waiting,
    /// A step failed.
    Failing,
}

/// The pace of one cluster.
#[derive(Debug, Default)]
pub struct Pace {
    failures: u32,
    errors: u32,
    unchanged_since: Option<Instant>,
}

impl Pace {
    /// How long to wait after a look.
    pub fn after(&mut self, look: Look, now: Instant) -> Duration {
        self.errors = 0;
        self.failures = if look == Look::Failing {
            self.failures.saturating_add(1)
        } else {
            0
        };
        if look != Look::Waiting {
            self.unchanged_since = None;
        }
        match look {
            Look::AtRest => REST,
            Look::Moving => FAST,
            Look::Failing => doubled(self.failures, FAILURES_MAX),
            Look::Waiting => {
                let since = *self.unchanged_since.get_or_insert(now);
                match now.duration_since(since) {
                    time if time < SETTLED => FAST,
                    time if time < STUCK => SLOWER,
                    _ => SLOWEST,
                }
            }
        }
    }

    /// How long to wait after an error.
    pub fn after_error(&mut self) -> Duration {
        self.errors = self.errors.saturating_add(1);
        doubled(self.errors, ERRORS_MAX)
    }
}

/// 250 ms the first time, then twice the last, up to `most`.
fn doubled(times: u32, most: Duration) -> Duration {
    let exponent = times.saturating_sub(1).min(16);
    FAST.saturating_mul(1 << exponent).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_double_the_wait_up_to_its_bound_and_a_look_resets_it() {
        let mut pace = Pace::default();
        let waits: Vec<u128> = (0..9).map(|_| pace.after_error().as_millis()).collect();
        assert_eq!(
            waits,
            [250, 500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]
        );
        pace.after(Look::AtRest, Instant::now());
        assert_eq!(pace.after_error(), FAST);
    }

    #[test]
    fn waiting_without_a_change_slows_down_and_a_change_speeds_up() {
        let mut pace = Pace::default();
        let start = Instant::now();
        assert_eq!(pace.after(Look::Waiting, start), FAST);
        assert_eq!(pace.after(Look::Waiting, start + SETTLED), SLOWER);
        assert_eq!(pace.after(Look::Waiting, start + STUCK), SLOWEST);
        assert_eq!(pace.after(Look::Moving, start + STUCK), FAST);
        assert_eq!(pace.after(Look::Waiting, start + STUCK), FAST);
    }

    #[test]
    fn failures_wait_two_seconds_at_most() {
        let mut pace = Pace::default();
        let last = (0..40)
            .map(|_| pace.after(Look::Failing, Instant::now()))
            .last();
        assert_eq!(last, Some(FAILURES_MAX));
    }
}
