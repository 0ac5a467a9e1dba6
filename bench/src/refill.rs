//! Fresh servers are refilled from a million keys while writes go on.
//!
//! What it shows: how much memory compaction saves (the same load with a log that is never
//! compacted, and with the default tail); how many bytes and seconds a refill takes; the longest
//! time without any acknowledgement meanwhile, beside that of as long a time without a refill; and what
//! the refilled server holds, in the end and at its peak, beside its leader. It fails if that is too much.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kontiki_proto::kv::{RangeRequest, RangeResponse};
use kontiki_proto::v1;
use tokio::task::JoinSet;

use crate::generator::{self, Data, Operation};
use crate::grpc::Connection;
use crate::machine;
use crate::measure::{memory_of, peak_of};
use crate::options::Options;
use crate::run::find_node;
use crate::statistics::Figure;
use crate::systems::kontiki::{self, ask, join, start_with};
use crate::systems::{Place, Server, System};

/// Writers while servers are refilled, each with one put in flight.
const WRITERS: usize = 8;
/// A put that takes longer is given up; the gap that it leaves counts all the same.
const ATTEMPT: Duration = Duration::from_secs(10);
/// The time without a refill that gaps are compared with.
const QUIET: Duration = Duration::from_secs(10);
/// A refill that is not over by then has failed.
const REFILL_MAX: Duration = Duration::from_secs(300);
/// Between two looks at how far it is.
const POLL: Duration = Duration::from_millis(20);
/// Longest time without an acknowledgement.
const GAP_TARGET: Duration = Duration::from_millis(50);
/// What a refilled server holds in the end, as a multiple of what its leader holds.
const END_RATIO_MAX: f64 = 1.10;
/// The most that it has held until then.
const PEAK_RATIO_MAX: f64 = 1.25;
const MIB: f64 = (1 << 20) as f64;

/// Measures it, and prints what came out.
///
/// # Errors
/// A server does not do what it should.
pub async fn run(options: &Options, keys: u32, times: u32) -> Result<()> {
    let node = find_node(options)?;
    machine::check_tmpfs(&options.tmpfs)?;
    let scratch = tempfile::Builder::new()
        .prefix("kontiki-refill-")
        .tempdir_in(&options.tmpfs)
        .with_context(|| format!("make a folder in {}", options.tmpfs.display()))?;
    let place = Place {
        launcher: std::env::current_exe().context("find this program")?,
        folder: scratch.path().to_owned(),
    };
    let data = Data::new(keys);
    let payload = f64::from(keys) * (data.keys[0].len() + data.value.len()) as f64 / MIB;
    println!("{keys} keys, {payload:.0} MiB of keys and values, on three servers");

    // 64 GiB: nothing of this load is compacted.
    let whole = "limits:\n  logTailBytes: 68719476736\n  logKeptBytesMax: 68719476736\n";
    for (what, configuration) in [("no compaction", whole), ("default tail", "")] {
        let mut system = start_with(&place, &node, configuration).await?;
        load(&mut system, &data).await?;
        report_memory(what, &mut system).await?;
    }

    let mut system = start_with(&place, &node, "").await?;
    load(&mut system, &data).await?;
    let leader = system.leader().await?;
    let writers = Writers::start(&system.servers[leader], &system, &data).await?;
    let (mut quiet, mut gaps, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ends, mut peaks) = (Vec::new(), Vec::new());
    for n in 0..times as usize {
        writers.gap();
        tokio::time::sleep(QUIET).await;
        quiet.push(writers.gap().as_secs_f64() * 1e3);
        let (fresh, member) = join(&place, &node, 3 + n).await?;
        let acknowledged = writers.acknowledged();
        writers.gap();
        let begun = Instant::now();
        let bytes = refill(&system.servers[leader], &member).await?;
        let took = begun.elapsed();
        let gap = writers.gap();
        let rate = (writers.acknowledged() - acknowledged) as f64 / took.as_secs_f64();
        check_state(&fresh, &data).await?;
        let leads = memory_of(system.servers[leader].process.id())?.resident_bytes as f64;
        let end = memory_of(fresh.process.id())?.resident_bytes as f64;
        let peak = peak_of(fresh.process.id())? as f64;
        println!(
            "refill {}: {:.0} MiB in {:.2} s, votes and has all keys; {rate:.0} puts/s meanwhile, \
             longest gap {:.1} ms; {:.0} MiB resident, {:.0} at the peak, its leader {:.0}",
            n + 1,
            bytes as f64 / MIB,
            took.as_secs_f64(),
            gap.as_secs_f64() * 1e3,
            end / MIB,
            peak / MIB,
            leads / MIB,
        );
        ends.push(end / leads);
        peaks.push(peak / leads);
        gaps.push(gap.as_secs_f64() * 1e3);
        seconds.push(took.as_secs_f64());
        remove(&system.servers[leader], &member).await?;
        drop(fresh);
    }
    writers.check()?;
    show("longest gap without a refill", "ms", &quiet)?;
    show("longest gap during a refill", "ms", &gaps)?;
    show("a refill", "s", &seconds)?;
    let worst = gaps.iter().copied().fold(0.0, f64::max);
    let target = GAP_TARGET.as_secs_f64() * 1e3;
    let met = if worst <= target { "met" } else { "not met" };
    println!("target: at most {target:.0} ms without an acknowledgement: {met}");
    check_ratio("a refilled server in the end", &ends, END_RATIO_MAX)?;
    check_ratio("a refilled server at its peak", &peaks, PEAK_RATIO_MAX)
}

/// Shows what refilled servers held as multiples of what their leader did, and fails past the bound.
fn check_ratio(what: &str, ratios: &[f64], max: f64) -> Result<()> {
    let worst = ratios.iter().copied().fold(0.0, f64::max);
    println!("{what}: {worst:.2} times its leader at most; bound {max:.2}");
    ensure!(
        worst <= max,
        "{what} holds {worst:.2} times what its leader holds, and {max:.2} is the bound"
    );
    Ok(())
}

fn show(what: &str, unit: &str, samples: &[f64]) -> Result<()> {
    let figure = Figure::of(samples).context("there are samples")?;
    println!(
        "{what}: median {:.1} {unit} ({:.1} to {:.1}, {} times)",
        figure.median,
        figure.lowest,
        figure.highest,
        samples.len()
    );
    Ok(())
}

async fn load(system: &mut System, data: &Data) -> Result<()> {
    let leader = system.leader().await?;
    let address = system.servers[leader].client;
    generator::load_keys(address, system.dialect(), data, 64).await
}

async fn report_memory(what: &str, system: &mut System) -> Result<()> {
    let leader = system.leader().await?;
    let mut sizes = Vec::new();
    for server in &system.servers {
        sizes.push(memory_of(server.process.id())?.resident_bytes as f64 / MIB);
    }
    let status = kontiki::status(&system.servers[leader]).await?;
    println!(
        "{what}: leader {:.0} MiB resident, largest server {:.0}; log {:.0} MiB, entries {} to {}",
        sizes[leader],
        sizes.iter().copied().fold(0.0, f64::max),
        status.log_bytes as f64 / MIB,
        status.first_index,
        status.last_index,
    );
    Ok(())
}

/// Adds the server, and waits until it votes. Answers the bytes of the snapshot that it got.
async fn refill(leader: &Server, member: &v1::Server) -> Result<u64> {
    let request = v1::AddServerRequest {
        servers: vec![member.clone()],
        no_wait: true,
        ..v1::AddServerRequest::default()
    };
    let _: v1::ChangeResponse = ask(leader, "AddServer", &request).await?;
    let deadline = Instant::now() + REFILL_MAX;
    let mut bytes = 0;
    loop {
        let status = kontiki::status(leader).await?;
        let progress = status.progress.iter();
        let its = progress.filter(|progress| progress.server_id == member.server_id);
        bytes = its.fold(bytes, |bytes, progress| bytes.max(progress.snapshot_bytes));
        let configuration = status.configuration.unwrap_or_default();
        if configuration.committed
            && configuration.outgoing.is_empty()
            && configuration.voters.contains(&member.server_id)
        {
            ensure!(bytes > 0, "it votes, and got no snapshot");
            return Ok(bytes);
        }
        ensure!(
            Instant::now() < deadline,
            "it does not vote after {REFILL_MAX:?}"
        );
        tokio::time::sleep(POLL).await;
    }
}

async fn remove(leader: &Server, member: &v1::Server) -> Result<()> {
    let request = v1::RemoveServerRequest {
        server_ids: vec![member.server_id.clone()],
        ..v1::RemoveServerRequest::default()
    };
    let _: v1::ChangeResponse = ask(leader, "RemoveServer", &request).await?;
    Ok(())
}

/// Every key is on the server that was refilled.
async fn check_state(server: &Server, data: &Data) -> Result<()> {
    let mut connection = Connection::open(server.client, ATTEMPT).await?;
    let mut missing: HashSet<&Bytes> = data.keys.iter().collect();
    let mut continuation = Bytes::new();
    loop {
        let request = RangeRequest {
            continuation,
            consistency: v1::Consistency::Stale.into(),
            ..RangeRequest::default()
        };
        let page: RangeResponse = connection
            .unary("/kontiki.kv.v1.Kv/Range", &request)
            .await
            .context("list what was refilled")?;
        for kv in &page.kvs {
            missing.remove(&kv.key);
        }
        continuation = page.continuation;
        if continuation.is_empty() {
            break;
        }
    }
    ensure!(
        missing.is_empty(),
        "{} keys are missing after a refill",
        missing.len()
    );
    Ok(())
}

/// Puts that go on, and the longest time without an acknowledgement to any of them.
struct Writers {
    seen: Arc<Mutex<Seen>>,
    /// Ends them when it is dropped.
    _tasks: JoinSet<()>,
}

struct Seen {
    last: Instant,
    longest: Duration,
    acknowledged: u64,
    error: Option<String>,
}

impl Seen {
    fn note(&mut self, now: Instant) {
        self.longest = self.longest.max(now.duration_since(self.last));
        self.last = now;
    }
}

impl Writers {
    async fn start(leader: &Server, system: &System, data: &Data) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Seen {
            last: Instant::now(),
            longest: Duration::ZERO,
            acknowledged: 0,
            error: None,
        }));
        let mut tasks = JoinSet::new();
        let dialect = system.dialect();
        for n in 0..WRITERS {
            let mut connection = Connection::open(leader.client, ATTEMPT).await?;
            let (seen, data) = (seen.clone(), data.clone());
            tasks.spawn(async move {
                let method = connection.method(dialect.path(Operation::Put));
                let mut at = n * data.keys.len() / WRITERS;
                loop {
                    at = (at + 1) % data.keys.len();
                    let frame = dialect.encode(Operation::Put, &data.keys[at], &data.value);
                    let answer = connection.call(&method, frame).await;
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    match answer {
                        Ok(_) => {
                            seen.note(Instant::now());
                            seen.acknowledged += 1;
                        }
                        Err(error) => {
                            seen.error = Some(error.to_string());
                            return;
                        }
                    }
                }
            });
        }
        Ok(Self {
            seen,
            _tasks: tasks,
        })
    }

    /// The longest gap since it was last asked for, one that lasts still included.
    fn gap(&self) -> Duration {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.note(Instant::now());
        std::mem::take(&mut seen.longest)
    }

    fn acknowledged(&self) -> u64 {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .acknowledged
    }

    /// No put failed.
    fn check(&self) -> Result<()> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &seen.error {
            None => Ok(()),
            Some(error) => anyhow::bail!("a put failed: {error}"),
        }
    }
}
