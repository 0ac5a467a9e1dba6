//! From `kill -9` of the leader to the next acknowledged write.
//!
//! A client on each survivor, the same for every system, so that what a server does with a write that
//! it cannot serve (redirect, hold, forward to the dead) decides little: an attempt is given up after
//! 50 ms, and followed by the next after 1 ms.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use crate::generator::{Data, put_once};
use crate::grpc::Connection;
use crate::systems::{Dialect, System};

const ATTEMPT: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(1);

/// No write for so long is no failover.
const GAP_MAX: Duration = Duration::from_secs(30);

/// Kills the leader of `system`, and answers how long it was until a write that was sent afterwards
/// was acknowledged. The system is one server short then.
pub async fn gap(system: &mut System, data: &Data) -> Result<Duration> {
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
    Ok(done.context("a client panicked")?.duration_since(killed))
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
