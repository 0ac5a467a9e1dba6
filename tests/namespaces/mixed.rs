//! Faults of all kinds in an order that a seed draws, at up to as many servers at once as may fail.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::network::Cut;
use crate::world::World;

const ROUNDS: usize = 6;
/// How long the faults of a round last: from less than a heartbeat to more than an election timeout.
const LASTS_MILLISECONDS: (u64, u64) = (50, 2500);
const WRITES: u64 = 20;

/// What happens to a server.
#[derive(Clone, Debug)]
enum Fault {
    Killed { lost: String },
    Paused,
    CutOff(Cut),
    NotHeard,
    Deaf,
    Unplugged,
    Slow,
    Campaigns,
}

pub async fn mixed(world: &mut World) -> Result<()> {
    for _ in 0..ROUNDS {
        let victims_max = (world.size - 1) / 2;
        let mut faults: Vec<(usize, Fault)> = Vec::new();
        for _ in 0..victims_max {
            let hurt: Vec<usize> = faults.iter().map(|(place, _)| *place).collect();
            // The leader is the most worthwhile.
            let victim = match (hurt.is_empty(), world.rng.chance(500)) {
                (true, true) => world.cluster.leader(&[]).await?,
                _ => {
                    let others = world.cluster.others(&hurt);
                    world.rng.pick(&others).context("few are hurt")?
                }
            };
            let has_killed = faults
                .iter()
                .any(|(_, fault)| matches!(fault, Fault::Killed { .. }));
            let fault = strike(world, victim, has_killed).await?;
            faults.push((victim, fault));
        }
        let (least, most) = LASTS_MILLISECONDS;
        let lasts = world.rng.within(least, most);
        tokio::time::sleep(Duration::from_millis(lasts)).await; // the faults themselves
        let mut lost = None;
        for (victim, fault) in faults {
            lost = lost.or(relieve(world, victim, fault)?);
        }
        world.heal()?;
        if let Some((place, id)) = lost {
            world.cluster.replace(place, &id).await?;
        }
        world.load.go_on(WRITES).await?;
    }
    Ok(())
}

/// One kill a round: the others are lost with their memory.
async fn strike(world: &mut World, victim: usize, has_killed: bool) -> Result<Fault> {
    let others = world.cluster.others(&[victim]);
    let fault = match world.rng.below(if has_killed { 8 } else { 9 }) {
        0 => Fault::Paused,
        1 => Fault::CutOff(Cut::Silent),
        2 => Fault::CutOff(Cut::Reset),
        3 => Fault::NotHeard,
        4 => Fault::Deaf,
        5 => Fault::Unplugged,
        6 => Fault::Slow,
        7 => Fault::Campaigns,
        _ => {
            world.fault(format!("kill -9 of n{victim}"));
            let lost = world.cluster.kill(victim)?;
            return Ok(Fault::Killed { lost });
        }
    };
    world.fault(format!("{fault:?}: n{victim}"));
    let network = &world.cluster.network;
    match &fault {
        Fault::Killed { .. } => {}
        Fault::Paused => world.cluster.pause(victim).await?,
        Fault::CutOff(how) => network.cut_off(victim, &others, *how)?,
        Fault::NotHeard => {
            for other in others {
                network.cut(victim, other, Cut::Silent)?;
            }
        }
        Fault::Deaf => {
            for other in others {
                network.cut(other, victim, Cut::Silent)?;
            }
        }
        Fault::Unplugged => network.set_cable(victim, false)?,
        Fault::Slow => network.slow(victim, 300)?,
        // It may be dead for others by now; then it does not.
        Fault::Campaigns => drop(world.cluster.campaign(victim).await),
    }
    Ok(fault)
}

/// Ends a fault, but for the cuts; who was lost.
fn relieve(world: &mut World, victim: usize, fault: Fault) -> Result<Option<(usize, String)>> {
    let network = &world.cluster.network;
    match fault {
        Fault::Killed { lost } => return Ok(Some((victim, lost))),
        Fault::Paused => {
            ensure!(
                world.cluster.node(victim).is_stopped(),
                "it went on by itself"
            );
            world.cluster.signal(victim, Signal::CONT);
        }
        Fault::Unplugged => network.set_cable(victim, true)?,
        Fault::Slow => drop(network.hurry(victim)?),
        Fault::CutOff(_) | Fault::NotHeard | Fault::Deaf | Fault::Campaigns => {}
    }
    Ok(None)
}
