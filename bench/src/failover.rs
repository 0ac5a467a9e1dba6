//! From `kill -9` of the leader to the next acknowledged write, again and again: the system is made
//! whole after each.
//!
//! A client on each survivor, the same for every system, so that what a server does with a write that
//! it cannot serve (redirect, hold, forward to the dead) decides little: an attempt is given up after
//! 50 ms, and followed by the next after 1 ms.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use crate::generator::{self, Data, put_once};
use crate::grpc::Connection;
use crate::report::Report;
use crate::run::{Binaries, CLIENTS};
use crate::systems::{Dialect, Kind, System};

const ATTEMPT: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(1);

/// No write for so long is no failover.
const GAP_MAX: Duration = Duration::from_secs(30);

/// Whole again, a system is left alone for so long: connections settle, and all hear the leader.
const SETTLE: Duration = Duration::from_secs(1);

/// Kills leaders, `times` each, of ours and of the rival in turns.
pub(crate) async fn measure(
    times: u32,
    binaries: &Binaries,
    data: &Data,
    report: &mut Report,
) -> Result<()> {
    eprintln!("killing {times} leaders each");
    let mut systems = Vec::new();
    for kind in [Kind::Kontiki, Kind::Etcd] {
        if let Some(mut system) = binaries.start(kind).await? {
            let leader = system.leader().await?;
            let address = system.servers[leader].client;
            generator::load_keys(address, system.dialect(), data, CLIENTS).await?;
            systems.push(system);
        }
    }
    for n in 1..=times {
        for system in &mut systems {
            tokio::time::sleep(SETTLE).await;
            let name = system.kind.name();
            let (lost, gap) = gap(system, data)
                .await
                .with_context(|| format!("kill the leader of {name}"))?;
            let milliseconds = gap.as_secs_f64() * 1000.0;
            eprintln!("failover {n}: {name} wrote again after {milliseconds:.1} ms");
            let gaps = report.failovers_ms.entry(name).or_default();
            gaps.push(milliseconds);
            if n < times {
                // Ours are numbered on: n0 to n2 were there from the beginning.
                let number = n as usize + 2;
                let mended = binaries.mend(system, (lost, number)).await;
                mended.with_context(|| format!("make {name} whole again"))?;
            }
        }
    }
    Ok(())
}

/// Kills the leader of `system`. Answers which it was, and how long it took until a write that was sent
/// afterwards was acknowledged. The system is one server short then.
async fn gap(system: &mut System, data: &Data) -> Result<(usize, Duration)> {
    let dialect = system.dialect();
    let leader = system.leader().await?;
    let mut connections = Vec::new();
    for (n, server) in system.servers.iter().enumerate() {
        if n != leader {
            let connection = Connection::open(server.client, ATTEMPT).await;
            connections.push((server.client, connection.context("connect to a follower")?));
        }
    }
    let killed = Instant::now();
    system.servers[leader].process.kill()?;
    let mut clients = JoinSet::new();
    for (address, connection) in connections {
        clients.spawn(write_until_done(address, connection, dialect, data.clone()));
    }
    // The first to end; dropping the set ends the other.
    let first = tokio::time::timeout(GAP_MAX, clients.join_next()).await;
    let done = first
        .ok()
        .flatten()
        .with_context(|| format!("no write for {GAP_MAX:?}"))?;
    let done = done.context("a client panicked")?;
    Ok((leader, done.duration_since(killed)))
}

/// Tries until a write is acknowledged, and answers when that was.
async fn write_until_done(
    address: SocketAddr,
    mut connection: Connection,
    dialect: &'static dyn Dialect,
    data: Data,
) -> Instant {
    loop {
        if put_once(&mut connection, dialect, &data, ATTEMPT)
            .await
            .is_ok()
        {
            return Instant::now();
        }
        tokio::time::sleep(PAUSE).await;
        // An answered refusal leaves the connection as it is; a broken one has to be replaced.
        if connection.is_broken().await
            && let Ok(fresh) = Connection::open(address, ATTEMPT).await
        {
            connection = fresh;
        }
    }
}
