//! Quorums, counted the slow way.

use std::collections::BTreeSet;

use kontiki_raft::{Configuration, ServerId};

/// How many of `voters` make a quorum.
pub fn quorum(voters: usize, min_majority: usize) -> usize {
    (voters / 2 + 1).max(min_majority)
}

/// Whether those for whom `holds` is true are a quorum of each half.
pub fn is_quorum(
    configuration: &Configuration,
    min_majority: usize,
    holds: impl Fn(ServerId) -> bool,
) -> bool {
    configuration.halves().all(|voters| {
        let count = voters.iter().filter(|voter| holds(**voter)).count();
        count >= quorum(voters.len(), min_majority)
    })
}

/// Whether every quorum of one configuration meets every quorum of the other. True if some half of
/// one and some half of the other are such that two majorities cannot be disjoint; joint consensus
/// always has such a pair, as the two configurations share a half.
pub fn always_meet(one: &Configuration, other: &Configuration) -> bool {
    one.halves()
        .any(|a| other.halves().any(|b| majorities_meet(a, b)))
}

fn majorities_meet(a: &BTreeSet<ServerId>, b: &BTreeSet<ServerId>) -> bool {
    quorum(a.len(), 1) + quorum(b.len(), 1) > a.union(b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(ids: &[u64]) -> BTreeSet<ServerId> {
        ids.iter().map(|id| ServerId(*id)).collect()
    }

    fn subsets(of: &BTreeSet<ServerId>) -> Vec<BTreeSet<ServerId>> {
        let all: Vec<ServerId> = of.iter().copied().collect();
        (0..1u32 << all.len())
            .map(|bits| {
                let chosen = all.iter().enumerate();
                let chosen = chosen.filter(|(place, _)| bits >> place & 1 == 1);
                chosen.map(|(_, id)| *id).collect()
            })
            .collect()
    }

    #[test]
    fn majorities_that_meet_are_those_that_no_two_subsets_refute() {
        let cases: &[(&[u64], &[u64])] = &[
            (&[1, 2, 3], &[1, 2, 3]),
            (&[1, 2, 3], &[1, 2, 4]),
            (&[1, 2, 3], &[1, 2, 3, 4]),
            (&[1, 2, 3], &[3, 4, 5]),
            (&[1], &[1, 2]),
            (&[1], &[2]),
            (&[1, 2, 3], &[1, 2, 3, 4, 5]),
            (&[1, 2, 3, 4], &[1, 2, 3, 4, 5]),
        ];
        for (a, b) in cases {
            let (a, b) = (voters(a), voters(b));
            let disjoint = subsets(&a).iter().any(|x| {
                let other = subsets(&b);
                x.len() >= quorum(a.len(), 1)
                    && other
                        .iter()
                        .any(|y| y.len() >= quorum(b.len(), 1) && x.is_disjoint(y))
            });
            assert_eq!(majorities_meet(&a, &b), !disjoint, "{a:?} {b:?}");
        }
    }
}
