//! Leaders that may believe in their lease for longest: one that others have promised while one of them
//! is free to stand against it, and one that hands over and hears late of what comes of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::network::Cut;
use crate::reading::Reading;
use crate::world::{SOME, World};

const ROUNDS: usize = 2;
/// Longer than what voters promise with slow timers, shorter than the election timeout.
const PROMISE_IS_OVER: Duration = Duration::from_millis(3500);
/// Less than what voters promise, so that the leader still has leases.
const LATE: Duration = Duration::from_millis(300);

/// A follower that no longer hears the leader has promised nothing any more, and campaigns when the
/// leader is cut off from the rest, who have. With slow timers, which make promises long.
pub async fn partition(world: &mut World) -> Result<()> {
    let leader = world.cluster.leader(&[]).await?;
    let term = world.cluster.term(leader).await?;
    let free = world.follower_of(leader)?;
    let others = world.cluster.others(&[leader]);
    // All have the same log, or it could not be elected.
    world.load.set_quiet(true);
    world.cluster.same_log().await?;
    world.fault("a follower is cut off from the leader");
    world
        .cluster
        .network
        .cut_off(free, &[leader], Cut::Silent)?;
    tokio::time::sleep(PROMISE_IS_OVER).await; // the fault itself
    let hammer = world.load.hammer(leader, Reading::Lease).await?;
    hammer.is_answered().await?;
    world.fault("the leader is cut off, and the follower campaigns");
    world
        .cluster
        .network
        .cut_off(leader, &others, Cut::Silent)?;
    world.load.set_quiet(false);
    world.cluster.campaign(free).await?;
    let next = world.cluster.leader(&[leader]).await?;
    let now = world.cluster.term(next).await?;
    ensure!(now > term, "a new leader in term {now} after term {term}");
    world.load.go_on(SOME).await?;
    let answered = hammer.rest().await?.answered;
    ensure!(answered > 0, "the leader answered nothing under its lease");
    world.count(
        "gets answered by a leader that is replaced",
        answered as u64,
    );
    let stopped = world.heal()?;
    ensure!(stopped.dropped > 0, "nothing was cut: {stopped:?}");
    world.load.go_on(SOME).await
}

/// What the others tell the leader is late while it hands over, so that the next one serves long before
/// it knows.
pub async fn transfer(world: &mut World) -> Result<()> {
    for _ in 0..ROUNDS {
        let leader = world.cluster.leader(&[]).await?;
        let term = world.cluster.term(leader).await?;
        let next = world.follower_of(leader)?;
        let proxies = world.proxies.as_ref().context("a scenario with proxies")?;
        for other in world.cluster.others(&[leader]) {
            proxies.delay(other, leader, LATE);
        }
        world.fault(format!("the leader hears everything {LATE:?} late"));
        world.load.go_on(SOME).await?;
        let hammer = world.load.hammer(leader, Reading::Lease).await?;
        hammer.is_answered().await?;
        world.fault("it hands over");
        world.cluster.hand_over(next).await?;
        let now = world.cluster.term(next).await?;
        ensure!(now > term, "term {now} after term {term}");
        world.load.go_on(SOME).await?;
        let answered = hammer.rest().await?.answered;
        ensure!(answered > 0, "the leader answered nothing under its lease");
        let proxies = world.proxies.as_ref().context("a scenario with proxies")?;
        proxies.delay_all(Duration::ZERO);
        world.count(
            "gets answered by a leader that is replaced",
            answered as u64,
        );
        world.step("nothing is late");
        world.load.go_on(SOME).await?;
    }
    let proxies = world.proxies.as_ref().context("a scenario with proxies")?;
    let delayed = proxies.delayed_bytes();
    ensure!(delayed > 0, "nothing was late");
    world.count("bytes delayed", delayed);
    Ok(())
}
