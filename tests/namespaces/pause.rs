//! A leader that stands still for longer than an election timeout, and then goes on as if nothing had
//! been. Clients have asked it meanwhile; it must not answer from what it was.

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::cluster::eventually;
use crate::reading::Reading;
use crate::world::{SOME, World};

const ROUNDS: usize = 3;
/// Gets that the leader finds waiting when it goes on.
const WAITING: u64 = 20;

pub async fn leader(world: &mut World) -> Result<()> {
    for _ in 0..ROUNDS {
        let leader = world.cluster.leader(&[]).await?;
        let term = world.cluster.term(leader).await?;
        world.fault("SIGSTOP of the leader");
        world.cluster.pause(leader).await?;
        let next = world.cluster.leader(&[leader]).await?;
        let now = world.cluster.term(next).await?;
        ensure!(now > term, "a new leader in term {now} after term {term}");
        world.load.go_on(SOME).await?;
        let waiting = world.load.burst(leader, Reading::Leader, WAITING);
        world.load.go_on(SOME).await?;
        ensure!(
            world.cluster.node(leader).is_stopped(),
            "it went on by itself"
        );
        world.step("SIGCONT");
        world.cluster.signal(leader, Signal::CONT);
        waiting.ended().await?;
        world.count("leaders that stood still", 1);
        eventually("it learns the new term", async || {
            Ok((world.cluster.term(leader).await? >= now).then_some(()))
        })
        .await?;
        world.load.go_on(SOME).await?;
    }
    Ok(())
}
