//! The engine's only source of chance: a generator whose seed the driver gives.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014): enough to keep timeouts apart, and the same on every run.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A duration in `[from, to)`; `from` if the range is empty.
    pub(crate) fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let width = u64::try_from(to.saturating_sub(from).as_nanos()).unwrap_or(u64::MAX);
        if width == 0 {
            return from;
        }
        from + Duration::from_nanos(self.next() % width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_stay_in_their_range_and_differ_between_seeds() {
        let (from, to) = (Duration::from_millis(3), Duration::from_millis(9));
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..1000)
                .map(|_| random.between(from, to))
                .collect::<Vec<_>>()
        };
        assert!(draw(1).iter().all(|drawn| (from..to).contains(drawn)));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_eq!(Random::new(1).between(to, from), to);
    }
}
