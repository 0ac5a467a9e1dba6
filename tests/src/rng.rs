//! The randomness of a run, all of it from one seed: xoshiro256** (Blackman and Vigna 2018), seeded
//! through SplitMix64. Written out here so that a seed means the same run with every version of every
//! library.

use std::time::Duration;

use crate::trace::hash_of;

/// A small generator; not for secrets.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The same seed gives the same numbers for ever.
    pub fn new(seed: u64) -> Self {
        let mut x = seed;
        let state = std::array::from_fn(|_| {
            x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = x;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Self { state }
    }

    /// One of many generators of a run: what is drawn from it moves nothing in the others.
    pub fn stream(seed: u64, purpose: &str, number: u64) -> Self {
        let mut rng = Self::new(seed ^ hash_of(purpose.as_bytes()));
        Self::new(rng.bits() ^ number)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.state;
        let result = s1.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= t;
        *s3 = s3.rotate_left(45);
        result
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias of the multiplication is under 2^-32 for the bounds used here.
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// An index into something of `len` elements, which must not be empty.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A number from `low` through `high`.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True `permille` times in a thousand.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// One of these; `None` if there is none.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.index(of.len())])
    }

    /// A duration between the two, in nanoseconds.
    pub fn duration(&mut self, low: Duration, high: Duration) -> u64 {
        let (low, high) = (low.as_nanos() as u64, high.as_nanos() as u64);
        self.within(low, high.max(low))
    }
}

/// Nanoseconds for which [`Noise`] counts what is drawn.
const MOMENT: u64 = 1 << 18;

/// Randomness of a place or a link, which depends on the moment at which it is drawn and not on all that
/// was drawn there before: what is left out of a run shifts nothing that comes later for other reasons.
#[derive(Clone, Debug)]
pub struct Noise {
    seed: u64,
    moment: u64,
    drawn: u64,
}

impl Noise {
    /// One of many sources of noise of a run.
    pub fn new(seed: u64, purpose: &str, number: u64) -> Self {
        Self {
            seed: Rng::stream(seed, purpose, number).bits(),
            moment: 0,
            drawn: 0,
        }
    }

    /// A generator for one thing that happens now.
    pub fn at(&mut self, now: u64) -> Rng {
        let moment = now / MOMENT;
        if moment != self.moment {
            self.moment = moment;
            self.drawn = 0;
        }
        self.drawn += 1;
        // A run has fewer moments than 2^48, and draws fewer things at one than 2^16.
        Rng::new(self.seed ^ (moment << 16 | self.drawn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            (0..4).map(|_| rng.bits()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn streams_of_a_seed_differ() {
        let draw = |purpose, number| Rng::stream(7, purpose, number).bits();
        assert_eq!(draw("link", 1), draw("link", 1));
        assert_ne!(draw("link", 1), draw("link", 2));
        assert_ne!(draw("link", 1), draw("place", 1));
        assert_ne!(draw("link", 0), Rng::new(7).bits());
    }

    #[test]
    fn noise_depends_on_its_moment_alone() {
        let draw = |moments: &[u64]| {
            let mut noise = Noise::new(7, "link", 1);
            let drawn = moments.iter().map(|now| noise.at(*now).bits());
            drawn.last().expect("there are moments")
        };
        let late = 9 * MOMENT;
        assert_eq!(draw(&[late]), draw(&[1, 2, MOMENT, late + 5]));
        assert_ne!(draw(&[late]), draw(&[late, late]));
        assert_ne!(draw(&[late]), draw(&[late + MOMENT]));
    }

    #[test]
    fn bounds_are_kept_and_reached() {
        let mut rng = Rng::new(1);
        let drawn: Vec<u64> = (0..1000).map(|_| rng.within(3, 6)).collect();
        assert_eq!(drawn.iter().min(), Some(&3));
        assert_eq!(drawn.iter().max(), Some(&6));
    }
}
