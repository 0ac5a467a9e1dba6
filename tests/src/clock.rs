//! The clock of a server: monotonic, with an origin and a rate of its own.

use kontiki_raft::Time;

use crate::rng::Rng;

/// A server's clock runs fast or slow by at most this much: 20,000 ppm (2 %), a hundred times what
/// quartz does.
const DRIFT_PPM_MAX: u64 = 20_000;
const MILLION: u128 = 1_000_000;

/// Converts between the simulator's time and a server's.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: u64,
    rate_ppm: u64,
}

impl Clock {
    /// A clock with a random origin and rate.
    pub fn random(rng: &mut Rng) -> Self {
        Self {
            origin: rng.below(1 << 50),
            rate_ppm: 1_000_000 - DRIFT_PPM_MAX + rng.below(2 * DRIFT_PPM_MAX + 1),
        }
    }

    /// What it shows at a moment of the simulation.
    pub fn local(&self, now: u64) -> Time {
        Time(self.origin + (u128::from(now) * u128::from(self.rate_ppm) / MILLION) as u64)
    }

    /// The first moment of the simulation at which it shows `time`; `None` for never.
    pub fn moment(&self, time: Time) -> Option<u64> {
        if time == Time::NEVER {
            return None;
        }
        let elapsed = u128::from(time.0.saturating_sub(self.origin));
        let moment = (elapsed * MILLION).div_ceil(u128::from(self.rate_ppm));
        u64::try_from(moment).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_has_passed_at_its_moment_and_not_before() {
        let mut rng = Rng::new(3);
        for _ in 0..1000 {
            let clock = Clock::random(&mut rng);
            let deadline = Time(clock.origin + rng.below(1 << 40));
            let moment = clock.moment(deadline).expect("not never");
            assert!(clock.local(moment) >= deadline);
            assert!(moment == 0 || clock.local(moment - 1) < deadline);
        }
        assert_eq!(Clock::random(&mut rng).moment(Time::NEVER), None);
    }
}
