//! A new leader that has what was committed, and does not know that it was; and needs others for a
//! commit of its own who have much less. It must not answer until it knows.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::reading::Reading;
use crate::world::{SOME, World};

const ROUNDS: usize = 2;
/// Between servers, each way: a leader needs a round to be confirmed, and one more to commit.
const DELAY: Duration = Duration::from_millis(40);
/// For longer than a scenario lasts.
const HELD: Duration = Duration::from_secs(3600);
/// In which the leader acknowledges what it does not get to tell anybody as committed.
const UNTOLD: Duration = Duration::from_millis(60);

pub async fn behind(world: &mut World) -> Result<()> {
    for _ in 0..ROUNDS {
        let leader = world.cluster.leader(&[]).await?;
        let term = world.cluster.term(leader).await?;
        let mut informed = world.cluster.others(&[leader]);
        let uninformed = informed.split_off(world.size / 2);
        let proxies = world.proxies.as_ref().context("a scenario with proxies")?;
        proxies.delay_all(DELAY);
        for place in uninformed {
            proxies.delay(leader, place, HELD);
        }
        world.fault("as many as may fail get nothing from the leader");
        world.load.go_on(SOME).await?;

        let mut hammers = Vec::new();
        for place in &informed {
            hammers.push(world.load.hammer(*place, Reading::Leader).await?);
        }
        let proxies = world.proxies.as_ref().context("a scenario with proxies")?;
        for place in &informed {
            proxies.delay(leader, *place, HELD);
        }
        world.fault("nobody gets anything from the leader, and kill -9 of it");
        tokio::time::sleep(UNTOLD).await; // the fault itself
        let lost = world.cluster.kill(leader)?;
        world.count("killed", 1);
        world.cluster.campaign(informed[0]).await?;
        let next = world.cluster.leader(&[]).await?;
        let now = world.cluster.term(next).await?;
        ensure!(now > term, "a new leader in term {now} after term {term}");
        ensure!(informed.contains(&next), "{next} leads, who lacks writes");
        world.load.go_on(SOME).await?;
        for hammer in hammers {
            let answered = hammer.rest().await?.answered;
            world.count("gets answered by a new leader", answered as u64);
        }
        let proxies = world.proxies.as_ref().context("a scenario with proxies")?;
        let held = proxies.delayed_bytes();
        proxies.delay_all(Duration::ZERO);
        ensure!(held > 0, "nothing was held back");
        world.step("replaced");
        world.cluster.replace(leader, &lost).await?;
        world.load.go_on(SOME).await?;
    }
    let delayed = world.proxies.as_ref().map_or(0, |all| all.delayed_bytes());
    world.count("bytes delayed", delayed);
    Ok(())
}
