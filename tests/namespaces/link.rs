//! Links that come and go, that carry little, that are slow to carry.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::reading::Reading;
use crate::report::fastest_write;
use crate::world::{SOME, World};

const FLAPS: usize = 8;
const DOWN_MILLISECONDS: (u64, u64) = (50, 1500);
const UP_MILLISECONDS: (u64, u64) = (20, 400);

/// The cable of a server is pulled and plugged in again and again, that of the leader every other time;
/// clients do not reach it either meanwhile.
pub async fn flapping(world: &mut World) -> Result<()> {
    for round in 0..FLAPS {
        let leader = world.cluster.leader(&[]).await?;
        let victim = match round % 2 {
            0 => leader,
            _ => world.follower_of(leader)?,
        };
        world.fault(match victim == leader {
            true => "the leader's cable is pulled",
            false => "a follower's cable is pulled",
        });
        for (plugged, (least, most)) in [(false, DOWN_MILLISECONDS), (true, UP_MILLISECONDS)] {
            world.cluster.network.set_cable(victim, plugged)?;
            let lasts = world.rng.within(least, most);
            tokio::time::sleep(Duration::from_millis(lasts)).await; // the fault itself
        }
        world.count("times that the kernel saw a cable pulled", 1);
        world.step("the cable is plugged in");
        if round % 4 == 3 {
            world.load.go_on(SOME).await?;
        }
    }
    Ok(())
}

/// Less than the leader needs for what the clients ask, and hardly more than it needs to be one.
const KILOBITS_PER_SECOND: [u64; 2] = [500, 200];
/// Gets that come all at once: more than the link lets through at once, however slow the machine is.
const GETS: u64 = 100;

pub async fn slow(world: &mut World) -> Result<()> {
    for rate in KILOBITS_PER_SECOND {
        let leader = world.cluster.leader(&[]).await?;
        world.fault(format!("the leader's link carries {rate} kbit/s"));
        world.cluster.network.slow(leader, rate)?;
        let gets = world.load.burst(leader, Reading::Leader, GETS);
        world.load.go_on(SOME).await?;
        let waited = world.cluster.network.hurry(leader)?;
        world.step("the link carries everything");
        world.count("packets that waited", waited);
        ensure!(waited > 0, "no packet had to wait at {rate} kbit/s");
        gets.ended().await?;
        world.load.go_on(SOME).await?;
    }
    Ok(())
}

/// Between servers, each way.
const DELAY: Duration = Duration::from_millis(40);

/// All that servers send each other takes its time; with that a leader is killed and leadership handed
/// over, so that a leader serves long before the others know.
pub async fn delayed(world: &mut World) -> Result<()> {
    let proxies = world.proxies.as_ref().context("a scenario with proxies")?;
    proxies.delay_all(DELAY);
    let from = world.load.recorder().now();
    world.fault(format!("{DELAY:?} of delay each way"));
    world.load.go_on(SOME).await?;

    let leader = world.cluster.leader(&[]).await?;
    world.fault("kill -9 of the leader under delay");
    let lost = world.cluster.kill(leader)?;
    world.cluster.leader(&[]).await?;
    world.load.go_on(SOME).await?;
    world.step("replaced under delay");
    world.cluster.replace(leader, &lost).await?;
    world.load.go_on(SOME).await?;
    for _ in 0..2 {
        let leader = world.cluster.leader(&[]).await?;
        let next = world.follower_of(leader)?;
        world.fault("handed over under delay");
        world.cluster.hand_over(next).await?;
        world.load.go_on(SOME).await?;
    }

    // No write is done without a round between two servers.
    let fastest = fastest_write(world.load.recorder(), from).context("there were writes")?;
    ensure!(fastest >= 2 * DELAY, "a write was done in {fastest:?}");
    let proxies = world.proxies.as_ref().context("a scenario with proxies")?;
    let delayed = proxies.delayed_bytes();
    ensure!(delayed > 0, "nothing was delayed");
    proxies.delay_all(Duration::ZERO);
    world.count("bytes delayed", delayed);
    world.step("no delay");
    world.load.go_on(SOME).await
}
