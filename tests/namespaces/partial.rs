//! Partitions that last and leave a quorum connected: somebody can lead all the while, so writes must go
//! on in them. Servers that do not reach each other must neither disturb the leader nor keep another
//! from being elected.

use std::time::Duration;

use anyhow::{Result, ensure};
use kontiki_tests::linearizability::history::Moment;

use crate::cluster::{DEFAULT_ELECTION_TIMEOUT_MAX, eventually};
use crate::network::Cut;
use crate::report::longest_gap;
use crate::world::{SOME, World};

/// How long a partition lasts at least: everybody who waits for the longest election timeout waits twice.
const LASTS: Duration = DEFAULT_ELECTION_TIMEOUT_MAX.saturating_mul(2);
/// Nobody may be without a leader for longer than this in such a partition. An election takes one
/// timeout; a few may fail.
const OUTAGE_MAX: Duration = DEFAULT_ELECTION_TIMEOUT_MAX.saturating_mul(5);

/// A direction in which nothing arrives, between two servers by their place in the order of a case: the
/// leader is 0.
type Link = (usize, usize);

/// A partition in which a quorum is connected.
struct Case {
    what: &'static str,
    /// Numbers of servers that it is for.
    sizes: &'static [usize],
    /// What is cut, of so many servers.
    cuts: fn(usize) -> Vec<Link>,
}

/// Cuts in both directions.
const CASES: &[Case] = &[
    Case {
        what: "the followers do not reach each other",
        sizes: &[3, 5],
        cuts: |size| pairs(size, |a, _| a > 0),
    },
    Case {
        what: "the leader is cut off from one follower",
        sizes: &[3, 5],
        cuts: |size| pairs(size, |a, b| a == 0 && b == size - 1),
    },
    Case {
        what: "the leader reaches only a quorum",
        sizes: &[5],
        cuts: |size| pairs(size, |a, b| a == 0 && b > size / 2),
    },
    Case {
        what: "a chain with the leader at its end",
        sizes: &[5],
        cuts: |size| pairs(size, |a, b| b > a + 1),
    },
    Case {
        what: "only one follower, the only one that the leader reaches, reaches all",
        sizes: &[5],
        cuts: |size| pairs(size, |a, b| a != 1 && b != 1),
    },
];

/// Cuts in one direction.
const ONE_WAY: &[Case] = &[
    Case {
        what: "a follower does not hear another",
        sizes: &[3],
        cuts: |_| vec![(1, 2)],
    },
    Case {
        what: "a follower does not hear the leader",
        sizes: &[3],
        cuts: |_| vec![(0, 1)],
    },
    Case {
        what: "the leader does not hear a follower",
        sizes: &[3],
        cuts: |_| vec![(1, 0)],
    },
    Case {
        what: "the leader is not heard by one follower, and does not hear another",
        sizes: &[3],
        cuts: |_| vec![(0, 1), (2, 0)],
    },
    Case {
        what: "a follower does not hear the leader, one is not heard by it, one not by another",
        sizes: &[5],
        cuts: |_| vec![(0, 1), (2, 0), (3, 4)],
    },
    Case {
        what: "the leader hears only a quorum, and the others do not hear one of that",
        sizes: &[5],
        cuts: |_| vec![(3, 0), (4, 0), (1, 3), (1, 4)],
    },
];

/// Both directions between those pairs `a < b` that are chosen.
fn pairs(size: usize, is_cut: impl Fn(usize, usize) -> bool) -> Vec<Link> {
    let all = (0..size).flat_map(|b| (0..b).map(move |a| (a, b)));
    let cut = all.filter(|(a, b)| is_cut(*a, *b));
    cut.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
}

pub async fn both_ways(world: &mut World) -> Result<()> {
    cases(world, CASES).await
}

pub async fn one_way(world: &mut World) -> Result<()> {
    cases(world, ONE_WAY).await
}

async fn cases(world: &mut World, cases: &[Case]) -> Result<()> {
    let size = world.size;
    for case in cases.iter().filter(|case| case.sizes.contains(&size)) {
        let leader = world.cluster.leader(&[]).await?;
        let term = world.cluster.term(leader).await?;
        let mut order = vec![leader];
        while let Some(next) = world.rng.pick(&world.cluster.others(&order)) {
            order.push(next);
        }
        world.fault(case.what);
        let from = world.load.recorder().now();
        for (a, b) in (case.cuts)(size) {
            world.cluster.network.cut(order[a], order[b], Cut::Silent)?;
        }
        tokio::time::sleep(LASTS).await; // the fault itself
        eventually("the cut stops something", async || {
            let stopped = world.cluster.network.stopped()?;
            Ok((stopped.dropped > 0).then_some(()))
        })
        .await?;
        world.load.go_on(SOME).await?;
        is_served(world, from, case.what)?;
        let leader = world.cluster.leader(&[]).await?;
        let now = world.cluster.term(leader).await?;
        world.count("terms in partitions", now.saturating_sub(term));
        world.heal()?;
        world.load.go_on(SOME).await?;
    }
    Ok(())
}

/// Writes were acknowledged all the while since then, but for an election.
fn is_served(world: &mut World, from: Moment, what: &str) -> Result<()> {
    let recorder = world.load.recorder();
    let gap = longest_gap(&recorder.acknowledgements(), from, recorder.now());
    ensure!(
        gap <= OUTAGE_MAX,
        "{what}: no write was acknowledged for {gap:?}, though a quorum is connected; {OUTAGE_MAX:?} \
         are allowed"
    );
    let milliseconds = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
    world.worst("ms without a write in a partition, at most", milliseconds);
    Ok(())
}
