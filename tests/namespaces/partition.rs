//! Partitions between servers, with clients on both sides of each.

use anyhow::{Result, ensure};

use crate::cluster::eventually;
use crate::network::Cut;
use crate::reading::Reading;
use crate::world::{SOME, World};

/// Gets at a server that is cut off, while the others write.
const GETS: u64 = 20;

pub async fn silent(world: &mut World) -> Result<()> {
    split(world, Cut::Silent, false).await
}

/// With slow timers: the old leader believes in itself while the others write.
pub async fn deposed(world: &mut World) -> Result<()> {
    split(world, Cut::Silent, true).await
}

pub async fn reset(world: &mut World) -> Result<()> {
    split(world, Cut::Reset, false).await?;
    split(world, Cut::Reset, true).await
}

/// Cuts the leader and as many more as may be off from the rest, which elects another. If it `hurries`,
/// it does so at once, while the old leader may well believe that it leads.
async fn split(world: &mut World, how: Cut, hurries: bool) -> Result<()> {
    let leader = world.cluster.leader(&[]).await?;
    let term = world.cluster.term(leader).await?;
    let mut minority = world.cluster.others(&[leader]);
    minority.truncate((world.size - 1) / 2 - 1);
    minority.push(leader);
    let majority = world.cluster.others(&minority);
    let name = match how {
        Cut::Silent => "silent partition of the leader",
        Cut::Reset => "reset partition of the leader",
    };
    // Clients on its side go on asking it, and its followers, who ask it in turn.
    let mut hammers = Vec::new();
    for place in &minority {
        for reading in [Reading::Any, Reading::AnyLease] {
            hammers.push(world.load.hammer(*place, reading).await?);
        }
    }
    world.fault(name);
    for place in &minority {
        world.cluster.network.cut_off(*place, &majority, how)?;
    }
    let early = world.load.burst(leader, Reading::Leader, GETS);
    if hurries {
        let newest = world.cluster.newest(&majority).await?;
        world.cluster.campaign(newest).await?;
    }
    let next = world.cluster.leader(&minority).await?;
    let now = world.cluster.term(next).await?;
    ensure!(now > term, "a new leader in term {now} after term {term}");
    world.load.go_on(1).await?;
    let since = world.load.recorder().now();
    let status = world.cluster.status(leader).await;
    let believes = status.is_some_and(|status| status.serving);
    world.count("leaders replaced that still served", u64::from(believes));
    world.load.go_on(SOME).await?;
    let late = world.load.burst(leader, Reading::Leader, GETS);
    world.load.go_on(SOME).await?;
    eventually("the leader of the minority serves no more", async || {
        let status = world.cluster.status(leader).await;
        Ok(status.filter(|status| !status.serving).map(drop))
    })
    .await?;
    early.ended().await?;
    late.ended().await?;
    for hammer in hammers {
        let asked = hammer.rest().await?.asked;
        let late = asked.iter().filter(|at| **at > since).count();
        ensure!(late > 0, "nobody asked the minority after the others wrote");
        world.count("gets of a minority after the others wrote", late as u64);
    }
    let stopped = world.heal()?;
    match how {
        Cut::Silent => ensure!(stopped.dropped > 0, "nothing was cut: {stopped:?}"),
        Cut::Reset => ensure!(
            stopped.reset > 0 && stopped.resets_arrived > 0,
            "nothing was reset: {stopped:?}"
        ),
    }
    eventually("it learns the new term", async || {
        Ok((world.cluster.term(leader).await? >= now).then_some(()))
    })
    .await?;
    world.load.go_on(SOME).await
}

/// First nobody hears the leader, then the leader hears nobody.
pub async fn one_way(world: &mut World) -> Result<()> {
    for nobody_hears_it in [true, false] {
        let leader = world.cluster.leader(&[]).await?;
        let term = world.cluster.term(leader).await?;
        world.fault(match nobody_hears_it {
            true => "nobody hears the leader",
            false => "the leader hears nobody",
        });
        for other in world.cluster.others(&[leader]) {
            let (from, to) = match nobody_hears_it {
                true => (leader, other),
                false => (other, leader),
            };
            world.cluster.network.cut(from, to, Cut::Silent)?;
        }
        let gets = world.load.burst(leader, Reading::Leader, GETS);
        let next = world.cluster.leader(&[leader]).await?;
        let now = world.cluster.term(next).await?;
        ensure!(now > term, "a new leader in term {now} after term {term}");
        world.load.go_on(SOME).await?;
        gets.ended().await?;
        let stopped = world.heal()?;
        ensure!(stopped.dropped > 0, "nothing was cut: {stopped:?}");
        world.load.go_on(SOME).await?;
    }
    Ok(())
}
