//! Changes of the configuration, each with a fault in the middle of it.

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::network::Cut;
use crate::world::{SOME, World};

pub async fn change(world: &mut World) -> Result<()> {
    let first = world.size;

    // Two more, while a voter stands still.
    let leader = world.cluster.leader(&[]).await?;
    let still = world.follower_of(leader)?;
    world.fault("SIGSTOP of a follower, and two servers are added");
    world.cluster.pause(still).await?;
    world.cluster.add(&[first, first + 1]).await?;
    world.load.go_on(SOME).await?;
    ensure!(
        world.cluster.node(still).is_stopped(),
        "it went on by itself"
    );
    world.count("stood still", 1);
    world.cluster.signal(still, Signal::CONT);
    world.load.go_on(SOME).await?;

    // A lost one is replaced while leadership moves.
    let leader = world.cluster.leader(&[]).await?;
    let victim = world.follower_of(leader)?;
    let next = world.cluster.others(&[leader, victim])[0];
    world.fault("kill -9 of a follower, which is replaced while leadership is handed over");
    let lost = world.cluster.kill(victim)?;
    world.count("killed", 1);
    world.cluster.launch(victim);
    let replaced = world.cluster.put_in_place(victim, &lost);
    let (replaced, handed_over) = tokio::join!(replaced, world.cluster.hand_over(next));
    replaced?;
    handed_over?;
    world.load.go_on(SOME).await?;

    // The leader takes itself out while another hears nothing.
    let leader = world.cluster.leader(&[]).await?;
    let deaf = world.follower_of(leader)?;
    world.fault("the leader is removed while a follower is cut off");
    let others = world.cluster.others(&[deaf]);
    world.cluster.network.cut_off(deaf, &others, Cut::Silent)?;
    world.cluster.remove(&[leader]).await?;
    world.load.go_on(SOME).await?;
    let stopped = world.heal()?;
    ensure!(stopped.dropped > 0, "nothing was cut: {stopped:?}");

    // The leader dies once one of the others is removed.
    let leader = world.cluster.leader(&[]).await?;
    let leaves = world.follower_of(leader)?;
    world.fault("a follower is removed, and kill -9 of the leader");
    world.cluster.remove(&[leaves]).await?;
    let lost = world.cluster.kill(leader)?;
    world.count("killed", 1);
    world.cluster.leader(&[]).await?;
    world.load.go_on(SOME).await?;
    world.step("replaced");
    world.cluster.replace(leader, &lost).await?;
    world.load.go_on(SOME).await?;
    let left = world.cluster.places().len();
    ensure!(left == first, "{left} servers are left of {first} and two");
    Ok(())
}
