//! The clock of a server: monotonic, with an origin and a rate of its own.

use kontiki_raft::{CLOCK_DRIFT_PPM_MAX, Time};

use crate::rng::Rng;

const MILLION: u128 = 1_000_000;

/// Converts between the simulator's time and a server's. Its rate may change, as a disciplined clock's
/// does; it never steps, as `CLOCK_BOOTTIME` does not but over a suspension, which is a pause here. Clocks that
/// break that contract are made on purpose ([`Clock::show`], [`Clock::race`]).
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// When the rate last changed.
    since: u64,
    /// What it showed then.
    origin: u64,
    rate_ppm: u64,
}

impl Clock {
    /// A clock with a random origin and rate.
    pub fn random(rng: &mut Rng) -> Self {
        Self {
            since: 0,
            origin: rng.below(1 << 50),
            rate_ppm: draw_rate(rng),
        }
    }

    /// Goes at another rate from a moment on, which is not before the last such moment.
    pub fn drift(&mut self, now: u64, rng: &mut Rng) {
        *self = Self {
            since: now,
            origin: self.local(now).0,
            rate_ppm: draw_rate(rng),
        };
    }

    /// Shows this at a moment, whatever it showed before, and goes on from there.
    pub fn show(&mut self, now: u64, time: Time) {
        self.since = now;
        self.origin = time.0;
    }

    /// Goes far faster or slower than clocks may from a moment on.
    pub fn race(&mut self, now: u64, rng: &mut Rng) {
        self.show(now, self.local(now));
        self.rate_ppm = match rng.chance(500) {
            true => rng.within(400_000, 900_000),
            false => rng.within(1_100_000, 2_500_000),
        };
    }

    /// Whether it goes faster or slower than clocks may.
    pub fn is_beyond(&self) -> bool {
        self.fast_ppm().unsigned_abs() > CLOCK_DRIFT_PPM_MAX
    }

    /// Parts in a million by which it is fast.
    pub fn fast_ppm(&self) -> i64 {
        self.rate_ppm as i64 - MILLION as i64
    }

    /// What it shows at a moment of the simulation.
    pub fn local(&self, now: u64) -> Time {
        let elapsed = u128::from(now - self.since);
        Time(self.origin + (elapsed * u128::from(self.rate_ppm) / MILLION) as u64)
    }

    /// The first moment of the simulation at which it shows `time`; `None` for never.
    pub fn moment(&self, time: Time) -> Option<u64> {
        if time == Time::NEVER {
            return None;
        }
        let elapsed = u128::from(time.0.saturating_sub(self.origin));
        let after = (elapsed * MILLION).div_ceil(u128::from(self.rate_ppm));
        self.since.checked_add(u64::try_from(after).ok()?)
    }
}

/// The extremes in half of the cases: what is wrong at one of them need not be at a rate between.
fn draw_rate(rng: &mut Rng) -> u64 {
    let drift = match rng.below(4) {
        0 => 0,
        1 => 2 * CLOCK_DRIFT_PPM_MAX,
        _ => rng.below(2 * CLOCK_DRIFT_PPM_MAX + 1),
    };
    1_000_000 - CLOCK_DRIFT_PPM_MAX + drift
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

    #[test]
    fn a_change_of_rate_is_no_step_and_time_never_goes_back() {
        let mut rng = Rng::new(4);
        let mut clock = Clock::random(&mut rng);
        let (mut now, mut shown) = (0, clock.local(0));
        for _ in 0..1000 {
            now += rng.below(1 << 32);
            let before = clock.local(now);
            assert!(before >= shown);
            clock.drift(now, &mut rng);
            assert_eq!(clock.local(now), before);
            let deadline = Time(before.0 + rng.below(1 << 34));
            let moment = clock.moment(deadline).expect("not never");
            assert!(clock.local(moment) >= deadline);
            assert!(moment == now || clock.local(moment - 1) < deadline);
            shown = before;
        }
    }
}
