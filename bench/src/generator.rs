//! The load generator: closed loops over shared connections, all on the calling thread.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::grpc::Connection;
use crate::measure::{Cost, Machine, Snapshot, cost_of, cost_of_this_thread};
use crate::systems::Dialect;

/// A leader that accepts no connection for so long is not up.
const DIAL: Duration = Duration::from_secs(5);

/// How long the requests in flight at the end of a leg may take.
const DRAIN: Duration = Duration::from_secs(10);

/// Latencies are recorded in microseconds up to this one, with three digits.
const LATENCY_MICROSECONDS_MAX: u64 = 60_000_000;

/// 16 bytes a key.
pub const KEY_BYTES: usize = 16;
/// 256 bytes a value.
pub const VALUE_BYTES: usize = 256;

/// What every client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Put,
    /// A linearizable read of one key, which has to hit.
    Get,
}

/// How many do it.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub operation: Operation,
    pub clients: usize,
    pub connections: usize,
}

/// The keys that were loaded, and the value under each.
#[derive(Clone)]
pub struct Data {
    /// The keys, in order.
    pub keys: Arc<[Bytes]>,
    /// The value of each.
    pub value: Bytes,
}

/// What was measured in one leg.
#[derive(Debug)]
pub struct Measured {
    pub elapsed: Duration,
    pub latencies: Histogram<u64>,
    /// Of the generator's thread.
    pub generator: Cost,
    /// Of the servers together.
    pub servers: Cost,
    pub machine: Machine,
}

impl Data {
    /// `count` keys.
    pub fn new(count: u32) -> Self {
        let keys = (0..count)
            .map(|n| Bytes::from(format!("key-{n:012}")))
            .collect();
        // No run of equal bytes, should somebody compress.
        let value = (0..VALUE_BYTES).map(|n| (n * 167 + n / 7) as u8).collect();
        Data { keys, value }
    }

    /// The frame of the next request in the walk at `position`. The step is a prime above every number
    /// of keys allowed, so that a walk meets all keys, far apart, and in the same order everywhere.
    fn next(&self, dialect: &dyn Dialect, operation: Operation, position: &mut usize) -> Bytes {
        const STEP: usize = 1_000_003;
        *position = (*position + STEP) % self.keys.len();
        dialect.encode(operation, &self.keys[*position], &self.value)
    }
}

/// What the clients of a leg share.
struct Shared {
    latencies: Mutex<Histogram<u64>>,
    measuring: AtomicBool,
    stopping: AtomicBool,
}

/// Runs `load` against the leader at `address`, and measures after `warm_up` for `measured`. `pids` are
/// the servers.
///
/// # Errors
///
/// The first request that fails, and the first read that does not hit, ends the leg.
pub async fn closed_loop(
    address: SocketAddr,
    dialect: &'static dyn Dialect,
    data: &Data,
    load: Load,
    (warm_up, measured): (Duration, Duration),
    pids: &[u32],
) -> Result<Measured> {
    let shared = Arc::new(Shared {
        latencies: Mutex::new(Histogram::new_with_bounds(1, LATENCY_MICROSECONDS_MAX, 3)?),
        measuring: AtomicBool::new(false),
        stopping: AtomicBool::new(false),
    });
    let connections = open(address, load.connections).await?;
    let mut clients = JoinSet::new();
    for n in 0..load.clients {
        let connection = connections[n % connections.len()].clone();
        let start = n * data.keys.len() / load.clients;
        let client = client(
            connection,
            dialect,
            data.clone(),
            load.operation,
            start,
            shared.clone(),
        );
        clients.spawn(client);
    }
    let mut alive = AliveFor(&mut clients);
    alive.wait(warm_up).await?;

    let known: Vec<u32> = pids.iter().copied().chain([std::process::id()]).collect();
    let before = Snapshot::take(&known)?;
    let (servers, generator) = (cost_of(pids)?, cost_of_this_thread()?);
    shared.measuring.store(true, Ordering::Relaxed);
    let start = Instant::now();
    alive.wait(measured).await?;
    let elapsed = start.elapsed();
    shared.measuring.store(false, Ordering::Relaxed);
    let (generator, servers) = (cost_of_this_thread()? - generator, cost_of(pids)? - servers);
    let machine = before.until(&Snapshot::take(&known)?);

    shared.stopping.store(true, Ordering::Relaxed);
    tokio::time::timeout(DRAIN, alive.drain())
        .await
        .context("the last requests do not end")??;
    let latencies = shared.latencies.lock().expect("no client panicked").clone();
    ensure!(
        !latencies.is_empty(),
        "no request was answered in {elapsed:?}"
    );
    Ok(Measured {
        elapsed,
        latencies,
        generator,
        servers,
        machine,
    })
}

/// Puts every key once.
pub async fn load_keys(
    address: SocketAddr,
    dialect: &'static dyn Dialect,
    data: &Data,
    clients: usize,
) -> Result<()> {
    let connections = open(address, clients.min(8)).await?;
    let next = Arc::new(AtomicU64::new(0));
    let mut loaders = JoinSet::new();
    for n in 0..clients {
        let mut connection = connections[n % connections.len()].clone();
        let (data, next) = (data.clone(), next.clone());
        loaders.spawn(async move {
            let method = connection.method(dialect.path(Operation::Put));
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed) as usize;
                let Some(key) = data.keys.get(n) else {
                    return anyhow::Ok(());
                };
                let frame = dialect.encode(Operation::Put, key, &data.value);
                let answer = connection
                    .call(&method, frame)
                    .await
                    .context("load a key")?;
                dialect.check(Operation::Put, answer)?;
            }
        });
    }
    while let Some(loader) = loaders.join_next().await {
        loader.context("loader")??;
    }
    Ok(())
}

/// One put of the first key, within `timeout`. What it fails with does not matter to a failover.
pub async fn put_once(
    connection: &mut Connection,
    dialect: &dyn Dialect,
    data: &Data,
    timeout: Duration,
) -> Result<()> {
    let method = connection.method(dialect.path(Operation::Put));
    let frame = dialect.encode(Operation::Put, &data.keys[0], &data.value);
    let answer = tokio::time::timeout(timeout, connection.call(&method, frame)).await??;
    dialect.check(Operation::Put, answer)
}

async fn open(address: SocketAddr, count: usize) -> Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let connection = Connection::open(address, DIAL).await;
        connections.push(connection.with_context(|| format!("connect to {address}"))?);
    }
    Ok(connections)
}

async fn client(
    mut connection: Connection,
    dialect: &'static dyn Dialect,
    data: Data,
    operation: Operation,
    mut position: usize,
    shared: Arc<Shared>,
) -> Result<()> {
    let method = connection.method(dialect.path(operation));
    let mut start = Instant::now();
    while !shared.stopping.load(Ordering::Relaxed) {
        let frame = data.next(dialect, operation, &mut position);
        let answer = connection.call(&method, frame).await?;
        dialect.check(operation, answer)?;
        let end = Instant::now();
        if shared.measuring.load(Ordering::Relaxed) {
            let microseconds = (end - start).as_micros() as u64;
            shared
                .latencies
                .lock()
                .expect("no client panicked")
                .saturating_record(microseconds);
        }
        start = end;
    }
    Ok(())
}

/// The clients of a leg, none of which may end before it is told to.
struct AliveFor<'a>(&'a mut JoinSet<Result<()>>);

impl AliveFor<'_> {
    async fn wait(&mut self, duration: Duration) -> Result<()> {
        tokio::select! {
            () = tokio::time::sleep(duration) => Ok(()),
            ended = self.0.join_next() => match ended {
                Some(Ok(Err(error))) => Err(error.context("a client failed")),
                Some(Err(error)) => Err(error).context("a client panicked"),
                Some(Ok(Ok(()))) | None => bail!("the clients ended early"),
            },
        }
    }

    async fn drain(&mut self) -> Result<()> {
        while let Some(ended) = self.0.join_next().await {
            ended
                .context("a client panicked")?
                .context("a client failed at the end")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::net::TcpListener;

    use crate::echo;
    use crate::systems::kontiki;

    use super::*;

    #[test]
    fn a_walk_meets_every_key() {
        for count in [64, 100, 10_000] {
            let data = Data::new(count);
            let mut position = 5;
            let met: BTreeSet<Bytes> = (0..count)
                .map(|_| data.next(&kontiki::Kv, Operation::Get, &mut position))
                .collect();
            assert_eq!(met.len(), count as usize);
        }
    }

    #[test]
    fn keys_and_values_have_the_stated_sizes() {
        let data = Data::new(1000);
        assert!(data.keys.iter().all(|key| key.len() == KEY_BYTES));
        assert_eq!(data.value.len(), VALUE_BYTES);
    }

    async fn echo_server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(echo::serve_on(listener));
        address
    }

    #[tokio::test]
    async fn a_leg_counts_what_was_answered_while_it_measured() {
        let address = echo_server().await;
        let load = Load {
            operation: Operation::Get,
            clients: 4,
            connections: 2,
        };
        let time = (Duration::from_millis(20), Duration::from_millis(200));
        let own = [std::process::id()];
        let leg = closed_loop(address, &kontiki::Kv, &Data::new(100), load, time, &own)
            .await
            .unwrap();
        assert!(leg.latencies.len() > 10, "{}", leg.latencies.len());
        assert!(leg.elapsed >= time.1);
        assert!(leg.generator.cpu_ns > 0 && leg.servers.cpu_ns >= leg.generator.cpu_ns / 2);
        // Four closed loops: the latencies add up to no more than four times the time, with the
        // rounding of the histogram and the operations that the beginning cut.
        let sum: u64 = leg
            .latencies
            .iter_recorded()
            .map(|v| v.value_iterated_to() * v.count_at_value())
            .sum();
        assert!(sum <= 4 * 2 * leg.elapsed.as_micros() as u64, "{sum}");
    }

    #[tokio::test]
    async fn a_leg_ends_with_the_first_failure() {
        let address = echo_server().await;
        let load = Load {
            operation: Operation::Put,
            clients: 4,
            connections: 2,
        };
        let time = (Duration::from_secs(30), Duration::from_secs(30));
        // The echo server does not know etcd's services.
        let data = Data::new(100);
        let run = closed_loop(address, &crate::systems::etcd::Kv, &data, load, time, &[]);
        let error = run.await.unwrap_err();
        assert!(format!("{error:#}").contains("Unimplemented"), "{error:#}");
    }
}
