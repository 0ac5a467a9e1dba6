//! Whether a node grows: resident memory through millions of writes over the same keys.
//!
//! Every state of a node is bounded: the map holds a value for each key, the log its tail, histories
//! and queues what they may. So once all keys are written and the log is as long as it gets, memory
//! stays where it is, however many writes follow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use kontiki_proto::v1::data_client::DataClient;
use kontiki_proto::v1::streamed_result::Result as StreamResult;
use kontiki_proto::v1::{StreamedCommand, WriteStreamRequest};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use crate::generator::{Data, Operation};
use crate::grpc::Connection;
use crate::machine;
use crate::measure::memory_of;
use crate::options::Options;
use crate::run::find_node;
use crate::systems::kontiki::{self, start};
use crate::systems::{Place, System};

/// Streams of writes to the leader.
const STREAMS: usize = 4;
/// Commands of one message.
const BATCH: u64 = 128;
/// Messages in flight on a stream.
const BATCHES_IN_FLIGHT: usize = 4;
/// Samples between the first and the last.
const SAMPLES: u64 = 100;
/// Between two looks at how far it is.
const POLL: Duration = Duration::from_millis(20);
/// No write was answered for so long.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Followers have applied everything by then.
const CATCH_UP: Duration = Duration::from_secs(30);
/// The most that a node may have, in parts of what it had after the first writes.
const GROWTH_MAX: f64 = 1.5;
const MIB: f64 = (1 << 20) as f64;

/// Resident bytes of one node.
#[derive(Clone, Copy, Debug, Default)]
struct Growth {
    /// Once the first writes were done.
    first: u64,
    /// At any sample since.
    largest: u64,
    /// Once all were done.
    last: u64,
}

impl Growth {
    fn ratio(&self) -> f64 {
        self.largest as f64 / self.first as f64
    }
}

/// Writes `writes` values, and compares memory with what it was after the first `first`.
///
/// # Errors
/// A node grew too much, a write failed, or a server does not do what it should.
pub async fn run(options: &Options, writes: u64, first: u64) -> Result<()> {
    ensure!(first < writes, "--first must be below --writes");
    let node = find_node(options)?;
    machine::check_tmpfs(&options.tmpfs)?;
    let scratch = tempfile::Builder::new()
        .prefix("kontiki-memory-")
        .tempdir_in(&options.tmpfs)
        .with_context(|| format!("make a folder in {}", options.tmpfs.display()))?;
    let place = Place {
        launcher: std::env::current_exe().context("find this program")?,
        folder: scratch.path().to_owned(),
    };
    let data = Data::new(options.keys);
    println!(
        "{writes} writes of {} bytes over {} keys, on three servers",
        data.value.len(),
        data.keys.len()
    );
    let mut system = start(&place, &node).await?;
    let leader = system.leader().await?;
    let begun = Instant::now();
    let nodes = write_and_watch(&system, leader, &data, writes, first).await?;
    let rate = writes as f64 / begun.elapsed().as_secs_f64();
    println!("{rate:.0} writes/s");
    check_applied(&mut system, &data, writes).await?;
    report(&nodes, leader, writes, first)
}

/// Does the writes, and samples every node meanwhile.
async fn write_and_watch(
    system: &System,
    leader: usize,
    data: &Data,
    writes: u64,
    first: u64,
) -> Result<Vec<Growth>> {
    let answered = Arc::new(AtomicU64::new(0));
    let mut streams = JoinSet::new();
    let address = format!("http://{}", system.servers[leader].client);
    for n in 0..STREAMS as u64 {
        let share = writes / STREAMS as u64 + u64::from(n < writes % STREAMS as u64);
        let start = n as usize * data.keys.len() / STREAMS;
        let stream = write(
            address.clone(),
            data.clone(),
            start,
            share,
            answered.clone(),
        );
        streams.spawn(stream);
    }
    let pids = system.pids();
    let mut nodes = vec![Growth::default(); pids.len()];
    let step = ((writes - first) / SAMPLES).max(1);
    let (mut next, mut last, mut changed) = (first, 0, Instant::now());
    while last < writes {
        tokio::time::sleep(POLL).await;
        while let Some(ended) = streams.try_join_next() {
            ended.context("a stream panicked")?.context("a stream")?;
        }
        let now = answered.load(Relaxed);
        if now > last {
            (last, changed) = (now, Instant::now());
        }
        ensure!(changed.elapsed() < SILENCE_MAX, "no write is answered");
        if now < next && now < writes {
            continue;
        }
        for (growth, pid) in nodes.iter_mut().zip(&pids) {
            growth.last = memory_of(*pid)?.resident_bytes;
            if growth.first == 0 {
                growth.first = growth.last;
            }
            growth.largest = growth.largest.max(growth.last);
        }
        if next % (step * 10) == first % (step * 10) {
            let sizes = nodes
                .iter()
                .map(|node| format!("{:.1}", node.last as f64 / MIB));
            let sizes: Vec<String> = sizes.collect();
            eprintln!("{now} writes: {} MiB resident", sizes.join(", "));
        }
        next += step;
    }
    while let Some(ended) = streams.join_next().await {
        ended.context("a stream panicked")?.context("a stream")?;
    }
    Ok(nodes)
}

/// Does `share` writes on one stream, from the key at `position` on.
async fn write(
    address: String,
    data: Data,
    mut position: usize,
    share: u64,
    answered: Arc<AtomicU64>,
) -> Result<()> {
    let mut client = DataClient::connect(address).await.context("connect")?;
    let (requests, queue) = mpsc::channel(BATCHES_IN_FLIGHT);
    let answers = client.write_stream(ReceiverStream::new(queue)).await;
    let mut answers = answers.context("open a stream of writes")?.into_inner();
    let (mut sent, mut done) = (0, 0);
    while done < share {
        while sent < share && sent - done + BATCH <= BATCH * BATCHES_IN_FLIGHT as u64 {
            let commands = (sent..share.min(sent + BATCH)).map(|id| {
                position = (position + 1) % data.keys.len();
                StreamedCommand {
                    id,
                    command: put(&data.keys[position], &data.value),
                    in_session: None,
                }
            });
            let commands: Vec<StreamedCommand> = commands.collect();
            sent += commands.len() as u64;
            let sending = requests.send(WriteStreamRequest { commands }).await;
            sending.context("the stream has ended")?;
        }
        let answer = answers.message().await.context("an answer")?;
        for result in answer.context("the stream has ended")?.results {
            match result.result {
                Some(StreamResult::Written(_)) => {}
                other => bail!("write {} was answered {other:?}", result.id),
            }
            done += 1;
            answered.fetch_add(1, Relaxed);
        }
    }
    Ok(())
}

/// A put as a command of the `kv` machine: a kind, the length of the key, key and value.
fn put(key: &Bytes, value: &Bytes) -> Bytes {
    let mut command = BytesMut::with_capacity(3 + key.len() + value.len());
    command.put_u8(1);
    command.put_u16_le(key.len() as u16);
    command.put_slice(key);
    command.put_slice(value);
    command.freeze()
}

/// All servers have applied all writes, and a key that was written is there.
async fn check_applied(system: &mut System, data: &Data, writes: u64) -> Result<()> {
    let deadline = Instant::now() + CATCH_UP;
    for server in &system.servers {
        loop {
            let applied = kontiki::status(server).await?.applied_index;
            if applied >= writes {
                break;
            }
            ensure!(Instant::now() < deadline, "{applied} entries are applied");
            tokio::time::sleep(POLL).await;
        }
    }
    let leader = system.leader().await?;
    let mut connection = Connection::open(system.servers[leader].client, CATCH_UP).await?;
    let dialect = system.dialect();
    let method = connection.method(dialect.path(Operation::Get));
    for key in [&data.keys[0], &data.keys[data.keys.len() - 1]] {
        let frame = dialect.encode(Operation::Get, key, &data.value);
        let answer = connection
            .call(&method, frame)
            .await
            .context("read a key")?;
        dialect.check(Operation::Get, answer)?;
    }
    Ok(())
}

fn report(nodes: &[Growth], leader: usize, writes: u64, first: u64) -> Result<()> {
    let mut worst: f64 = 0.0;
    for (n, node) in nodes.iter().enumerate() {
        let role = if n == leader { "leader" } else { "follower" };
        println!(
            "n{n} ({role}): {:.1} MiB resident after {first} writes, {:.1} after {writes}, {:.1} at \
             most; ratio {:.2}",
            node.first as f64 / MIB,
            node.last as f64 / MIB,
            node.largest as f64 / MIB,
            node.ratio(),
        );
        worst = worst.max(node.ratio());
    }
    let verdict = format!("at most {GROWTH_MAX} times what it was: {worst:.2}");
    ensure!(worst <= GROWTH_MAX, "target not met: {verdict}");
    println!("target met: {verdict}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_grew_too_much_is_an_error_whatever_it_has_in_the_end() {
        let node = |largest| Growth {
            first: 100,
            largest,
            last: 100,
        };
        report(&[node(100), node(150)], 0, 10, 1).unwrap();
        let error = report(&[node(151), node(100)], 1, 10, 1).unwrap_err();
        assert!(error.to_string().contains("1.51"), "{error}");
    }

    #[test]
    fn a_put_is_encoded_as_the_machine_reads_it() {
        let command = put(&Bytes::from_static(b"key"), &Bytes::from_static(b"value"));
        assert_eq!(&command[..], b"\x01\x03\x00keyvalue");
    }
}
