//! What happened, counted. A fault test asserts that its fault happened: this is where it looks.

use std::collections::BTreeMap;
use std::fmt;

/// Counts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// One more.
    pub fn add(&mut self, what: &'static str) {
        self.add_many(what, 1);
    }

    /// Several more.
    pub fn add_many(&mut self, what: &'static str, count: u64) {
        *self.counts.entry(what).or_default() += count;
    }

    /// How often; 0 if never.
    pub fn count(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// How often anything whose name begins so.
    pub fn sum(&self, prefix: &str) -> u64 {
        let named = self
            .counts
            .iter()
            .filter(|(name, _)| name.starts_with(prefix));
        named.map(|(_, count)| count).sum()
    }

    /// Everything whose name begins so, with how often.
    pub fn named<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'static str, u64)> + 'a {
        let all = self.counts.iter().map(|(name, count)| (*name, *count));
        all.filter(move |(name, _)| name.starts_with(prefix))
    }

    /// How many different things whose name begins so happened.
    pub fn kinds(&self, prefix: &str) -> usize {
        let names = self.counts.iter().filter(|(_, count)| **count > 0);
        names.filter(|(name, _)| name.starts_with(prefix)).count()
    }

    /// Adds all of another.
    pub fn absorb(&mut self, other: &Self) {
        for (name, count) in &other.counts {
            self.add_many(name, *count);
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in &self.counts {
            writeln!(f, "  {name:<78}{count:>10}")?;
        }
        Ok(())
    }
}
