//! Arithmetic of quorums. Knows nothing of messages, terms or logs.

use std::collections::BTreeSet;

use crate::configuration::Configuration;
use crate::types::{Index, ServerId};

/// What is counted as a quorum: max(majority, `min_majority`) of every half of a configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quorum<'a> {
    configuration: &'a Configuration,
    min_majority: usize,
}

impl<'a> Quorum<'a> {
    pub(crate) fn new(configuration: &'a Configuration, min_majority: usize) -> Self {
        Self {
            configuration,
            min_majority,
        }
    }

    /// How many of `voters` make a quorum; more than there are if `min_majority` says so.
    pub(crate) fn needed(&self, voters: &BTreeSet<ServerId>) -> usize {
        (voters.len() / 2 + 1).max(self.min_majority)
    }

    /// Whether the voters that `has` holds for are a quorum of every half.
    pub(crate) fn reached(&self, has: impl Fn(ServerId) -> bool) -> bool {
        self.configuration
            .halves()
            .all(|half| half.iter().filter(|voter| has(**voter)).count() >= self.needed(half))
    }

    /// The highest index that a quorum of every half holds; 0 if none does.
    pub(crate) fn committed(&self, matched: impl Fn(ServerId) -> Index) -> Index {
        self.agreed(matched)
    }

    /// The highest value that a quorum of every half has reached; the least of all if none has.
    pub(crate) fn agreed<T: Copy + Default + Ord>(&self, reached: impl Fn(ServerId) -> T) -> T {
        self.configuration
            .halves()
            .map(|half| {
                let mut values: Vec<T> = half.iter().map(|voter| reached(*voter)).collect();
                values.sort_unstable_by(|a, b| b.cmp(a));
                values
                    .get(self.needed(half) - 1)
                    .copied()
                    .unwrap_or_default()
            })
            .min()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(voters: &[u64], outgoing: Option<&[u64]>) -> Configuration {
        let ids = |ids: &[u64]| ids.iter().copied().map(ServerId).collect();
        Configuration {
            voters: ids(voters),
            outgoing: outgoing.map(ids),
            ..Default::default()
        }
    }

    /// The slow version: try every index.
    fn committed_slowly(quorum: &Quorum<'_>, matched: &[u64]) -> Index {
        let at = |server: ServerId| matched[server.0 as usize];
        (0..=matched.iter().copied().max().unwrap_or(0))
            .rev()
            .map(Index)
            .find(|index| quorum.reached(|server| at(server) >= index.0))
            .unwrap_or_default()
    }

    #[test]
    fn the_committed_index_is_what_trying_every_index_finds() {
        // All match vectors of 4 servers over 0..=3, in stable and joint configurations.
        let configurations = [
            configuration(&[0], None),
            configuration(&[0, 1], None),
            configuration(&[0, 1, 2], None),
            configuration(&[0, 1, 2, 3], None),
            configuration(&[0, 1, 2], Some(&[1, 2, 3])),
            configuration(&[0], Some(&[1, 2, 3])),
            configuration(&[], None),
        ];
        for configuration in &configurations {
            for min_majority in 0..=3 {
                let quorum = Quorum::new(configuration, min_majority);
                for code in 0..256u64 {
                    let matched = [code & 3, (code >> 2) & 3, (code >> 4) & 3, (code >> 6) & 3];
                    assert_eq!(
                        quorum.committed(|server| Index(matched[server.0 as usize])),
                        committed_slowly(&quorum, &matched),
                        "{configuration:?} {min_majority} {matched:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn min_majority_raises_a_quorum_and_an_empty_half_has_none() {
        let two = configuration(&[1, 2], None);
        assert!(Quorum::new(&configuration(&[1], None), 1).reached(|_| true));
        assert!(!Quorum::new(&configuration(&[1], None), 2).reached(|_| true));
        assert!(Quorum::new(&two, 2).reached(|_| true));
        assert!(!Quorum::new(&two, 1).reached(|server| server.0 == 1));
        assert!(!Quorum::new(&configuration(&[], None), 0).reached(|_| true));
    }
}
