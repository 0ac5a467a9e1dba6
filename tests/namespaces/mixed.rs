//! Faults of all kinds in an order that a seed draws, at up to as many servers at once as may fail.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::cluster::eventually;
use crate::network::Cut;
use crate::reading::Reading;
use crate::world::World;

const ROUNDS: usize = 6;
/// How long the faults of a round last: from less than a heartbeat to more than an election timeout.
const LASTS_MILLISECONDS: (u64, u64) = (50, 2500);
const WRITES: u64 = 20;
/// Gets that come all at once to a server whose link carries little.
const GETS: u64 = 100;

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
            lost = lost.or(relieve(world, victim, fault).await?);
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
    let what = format!("{fault:?}: n{victim}");
    if let Fault::Campaigns = fault {
        let term = world.cluster.term(victim).await?;
        world.fault(what);
        world.cluster.campaign(victim).await?;
        let now = world.cluster.term(victim).await?;
        ensure!(now > term, "it campaigned in term {now} after term {term}");
        world.count("campaigns", 1);
        return Ok(fault);
    }
    world.fault(what);
    let network = &world.cluster.network;
    match &fault {
        Fault::Killed { .. } | Fault::Campaigns => {}
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
        Fault::Slow => {
            network.slow(victim, 300)?;
            // More than it lets through at once; what comes of it is of no interest.
            drop(world.load.burst(victim, Reading::Leader, GETS));
        }
    }
    Ok(fault)
}

/// Ends a fault that has taken place, but for the cuts; who was lost.
async fn relieve(
    world: &mut World,
    victim: usize,
    fault: Fault,
) -> Result<Option<(usize, String)>> {
    let network = &world.cluster.network;
    match fault {
        Fault::Killed { lost } => {
            world.count("killed", 1);
            return Ok(Some((victim, lost)));
        }
        Fault::Paused => {
            ensure!(
                world.cluster.node(victim).is_stopped(),
                "it went on by itself"
            );
            world.cluster.signal(victim, Signal::CONT);
            world.count("stood still", 1);
        }
        Fault::Unplugged => {
            network.set_cable(victim, true)?;
            world.count("cables pulled", 1);
        }
        Fault::Slow => {
            let waited = eventually("packets wait", async || {
                let waited = network.waited(victim)?;
                Ok((waited > 0).then_some(waited))
            });
            let waited = waited.await?;
            network.hurry(victim)?;
            world.count("packets that waited", waited);
        }
        Fault::CutOff(_) | Fault::NotHeard | Fault::Deaf => {
            eventually("the cut stops something", async || {
                let stopped = network.stopped_at(victim)?;
                Ok((stopped.dropped + stopped.reset > 0).then_some(()))
            })
            .await?;
        }
        Fault::Campaigns => {}
    }
    Ok(None)
}
