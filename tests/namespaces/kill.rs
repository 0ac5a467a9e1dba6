//! `kill -9`, and the operator's answer: a fresh incarnation takes the lost one's place.

use anyhow::{Result, ensure};

use crate::world::{SOME, World};

const ROUNDS: usize = 3;

pub async fn leader(world: &mut World) -> Result<()> {
    for _ in 0..ROUNDS {
        let leader = world.cluster.leader(&[]).await?;
        let term = world.cluster.term(leader).await?;
        world.fault("kill -9 of the leader");
        let lost = world.cluster.kill(leader)?;
        let next = world.cluster.leader(&[]).await?;
        let now = world.cluster.term(next).await?;
        ensure!(now > term, "a new leader in term {now} after term {term}");
        world.load.go_on(SOME).await?;
        world.count("killed", 1);
        world.step("replaced");
        world.cluster.replace(leader, &lost).await?;
        world.load.go_on(SOME).await?;
    }
    Ok(())
}

pub async fn follower(world: &mut World) -> Result<()> {
    for _ in 0..ROUNDS {
        let leader = world.cluster.leader(&[]).await?;
        let victim = world.follower_of(leader)?;
        world.fault("kill -9 of a follower");
        let lost = world.cluster.kill(victim)?;
        world.load.go_on(SOME).await?;
        world.count("killed", 1);
        world.step("replaced");
        world.cluster.replace(victim, &lost).await?;
        let fresh = &world.cluster.node(victim).server_id;
        ensure!(*fresh != lost, "an id was used again");
        world.load.go_on(SOME).await?;
    }
    Ok(())
}
