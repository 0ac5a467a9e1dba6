//! Leadership that is handed on and on, and taken.

use anyhow::{Result, ensure};

use crate::world::{SOME, World};

const ROUNDS: usize = 6;

pub async fn transfer(world: &mut World) -> Result<()> {
    for round in 0..ROUNDS {
        let leader = world.cluster.leader(&[]).await?;
        let term = world.cluster.term(leader).await?;
        let next = world.follower_of(leader)?;
        if round % 3 < 2 {
            world.fault("leadership is handed over");
            world.cluster.hand_over(next).await?;
        } else {
            world.fault("a follower is made to campaign");
            world.cluster.campaign(next).await?;
        }
        let leads = world.cluster.leader(&[]).await?;
        let now = world.cluster.term(leads).await?;
        ensure!(now > term, "term {now} after term {term}");
        world.count("new leaders", 1);
        world.load.go_on(SOME).await?;
    }
    Ok(())
}
