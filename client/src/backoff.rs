//! Pauses between attempts: they double up to a bound, and are jittered so that clients that failed
//! together do not come back together.

use std::time::Duration;

/// The first pause lasts at most this long.
const PAUSE_FIRST: Duration = Duration::from_millis(4);
/// No pause lasts longer.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// The pauses of one call.
#[derive(Debug)]
pub(crate) struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    pub fn new() -> Self {
        Backoff {
            ceiling: PAUSE_FIRST,
        }
    }

    /// The next pause: between half of the ceiling and all of it.
    pub fn pause(&mut self) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = (ceiling * 2).min(PAUSE_MAX);
        ceiling.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_their_bound_and_never_vanish() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..32).map(|_| backoff.pause()).collect();
        assert!(
            pauses
                .iter()
                .all(|pause| *pause >= PAUSE_FIRST / 2 && *pause <= PAUSE_MAX)
        );
        assert!(pauses[31] >= PAUSE_MAX / 2);
        assert!(pauses[0] <= PAUSE_FIRST);
    }
}
