//! A fresh server is refilled by a snapshot, over real connections.

mod common;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use common::eventually;
use kontiki_node::config::{Limits, RaftSettings};
use kontiki_node::driver::PeerRefill;
use kontiki_node::machine::{
    BytesView, Command, Effects, Place, Refused, RestoreError, StateMachine, Version, View,
};
use kontiki_node::{Role, Server, ServerOptions};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle};

/// Values by key; a query answers a digest of all.
struct Values {
    values: BTreeMap<[u8; 4], Vec<u8>>,
    place: Place,
    refuses: Arc<AtomicBool>,
}

impl Values {
    fn new(place: Place, refuses: &Arc<AtomicBool>) -> Self {
        Self {
            values: BTreeMap::new(),
            place,
            refuses: refuses.clone(),
        }
    }
}

impl StateMachine for Values {
    fn name(&self) -> &'static str {
        "values"
    }

    fn place(&self) -> Place {
        self.place
    }

    fn apply(&mut self, _: Version, batch: &[Command<'_>], _: &mut Effects) -> Vec<Vec<u8>> {
        let apply = |command: &Command<'_>| {
            if let Some((key, value)) = command.bytes.split_first_chunk::<4>() {
                self.values.insert(*key, value.to_vec());
            }
            Vec::new()
        };
        batch.iter().map(apply).collect()
    }

    fn read(&self, _: &[u8]) -> Result<Vec<u8>, Refused> {
        let mut hasher = DefaultHasher::new();
        self.values.hash(&mut hasher);
        Ok(hasher.finish().to_le_bytes().to_vec())
    }

    fn snapshot(&self) -> Box<dyn View> {
        let mut out = Vec::new();
        for (key, value) in &self.values {
            out.extend_from_slice(key);
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
            out.extend_from_slice(value);
        }
        Box::new(BytesView::new(out))
    }

    fn restore(&mut self, _: Version, reader: &mut dyn Read) -> Result<(), RestoreError> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        self.values.clear();
        let mut rest = &bytes[..];
        while let Some((key, after)) = rest.split_first_chunk::<4>() {
            let (length, after) = after
                .split_first_chunk::<4>()
                .ok_or_else(|| RestoreError("cut short".into()))?;
            let (value, after) = after.split_at(u32::from_le_bytes(*length) as usize);
            if self.refuses.load(Relaxed) {
                return Err(RestoreError("out of sorts".into()));
            }
            self.values.insert(*key, value.to_vec());
            rest = after;
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.values.values().map(Vec::len).sum()
    }
}

fn options(name: &str, min_majority: usize) -> ServerOptions {
    ServerOptions {
        name: name.into(),
        raft: RaftSettings {
            heartbeat_milliseconds: 50,
            election_timeout_milliseconds: 1000,
            min_majority,
            ..RaftSettings::default()
        },
        limits: Limits {
            log_tail_bytes: 64 << 10,
            // Slow enough to be looked at, and broken, on its way.
            snapshot_bytes_per_second: 1 << 20,
            ..Limits::default()
        },
        ..ServerOptions::default()
    }
}

/// A server alone, with far more written to it than its log keeps.
async fn filled(place: Place) -> Server {
    let never = Arc::new(AtomicBool::new(false));
    let server = Server::start(Values::new(place, &never), options("first", 1)).expect("started");
    eventually("a leader that accepts a write", async || {
        server.write(command(0)).await.ok()
    })
    .await;
    for key in 1..500 {
        server.write(command(key)).await.expect("written");
    }
    let status = server.status().await.expect("it runs");
    assert!(status.first.0 > 400, "compacted: {:?}", status.first);
    assert!(status.log_bytes < 300 << 10, "{} bytes", status.log_bytes);
    server
}

fn command(key: u32) -> Vec<u8> {
    let mut command = key.to_be_bytes().to_vec();
    command.resize(4096, key as u8);
    command
}

async fn refill(leader: &Server) -> Option<PeerRefill> {
    let status = leader.status().await.expect("it runs");
    status.progress.first().and_then(|peer| peer.refill)
}

async fn votes_with_equal_state(fresh: &Server, leader: &Server) {
    eventually("the fresh server has the same state", async || {
        let wanted = leader.read("").await.ok()?;
        let found = fresh.read_dirty("").await.ok()?;
        (found == wanted).then_some(())
    })
    .await;
    let status = fresh.status().await.expect("it runs");
    assert_eq!(status.standing.role, Role::Follower);
    assert!(status.first.0 > 400, "it holds no log from before");
}

/// Forwards connections from 127.0.0.2 to the same port of 127.0.0.1, until it is told to break them.
struct Proxy {
    task: JoinHandle<()>,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Proxy {
    async fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.2", port)).await;
        let listener = listener.expect("the port is free there");
        let connections: Arc<Mutex<Vec<AbortHandle>>> = Arc::default();
        let known = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                let forward = tokio::spawn(async move {
                    if let Ok(mut there) = TcpStream::connect(("127.0.0.1", port)).await {
                        let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                    }
                });
                let mut known = known.lock().expect("nobody panics with it");
                known.push(forward.abort_handle());
            }
        });
        Self { task, connections }
    }

    fn break_all(&self) {
        let mut connections = self.connections.lock().expect("nobody panics with it");
        connections.drain(..).for_each(|forward| forward.abort());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.break_all();
    }
}

#[tokio::test]
async fn a_new_server_is_refilled_and_the_transfer_outlives_its_connection() {
    let leader = filled(Place::Inline).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let proxy = Proxy::start(port).await;
    let never = Arc::new(AtomicBool::new(false));
    let fresh = Server::start(
        Values::new(Place::Inline, &never),
        ServerOptions {
            peer_listener: Some(listener),
            advertise_host: Some("127.0.0.2".into()),
            ..options("fresh", 2)
        },
    )
    .expect("started");
    let address = format!("127.0.0.2:{port}");
    let change = leader.add_server(&address);
    let observation = async {
        let half = eventually("half of the snapshot is delivered", async || {
            refill(&leader).await.filter(|it| it.delivered > 800 << 10)
        })
        .await;
        proxy.break_all();
        eventually("the same snapshot goes on", async || {
            let now = refill(&leader).await?;
            assert_eq!(now.sending, half.sending, "begun anew");
            (now.delivered > half.delivered + (200 << 10)).then_some(())
        })
        .await;
        // What is written meanwhile follows in the log.
        leader.write(command(1000)).await.expect("written");
    };
    let (changed, ()) = tokio::join!(change, observation);
    let changed = changed.expect("added");
    assert!(changed.configuration.voters.contains(&fresh.me().id));
    votes_with_equal_state(&fresh, &leader).await;
}

#[tokio::test]
async fn a_machine_that_cannot_restore_is_tried_again_and_stops_nobody() {
    let leader = filled(Place::Thread).await;
    let refuses = Arc::new(AtomicBool::new(true));
    let machine = Values::new(Place::Thread, &refuses);
    let fresh = Server::start(machine, options("fresh", 2)).expect("started");
    let change = leader.add_server(&fresh.me().peer_address);
    let observation = async {
        let why = eventually("the snapshot is refused", async || {
            fresh.status().await.expect("it runs").snapshot_refusal
        })
        .await;
        assert!(why.contains("out of sorts"), "{why}");
        let status = fresh.status().await.expect("it runs");
        assert_eq!(status.standing.role, Role::Joiner, "it has nothing yet");
        assert_eq!(status.quarantine, None);
        leader.write(command(1000)).await.expect("written");
        refuses.store(false, Relaxed);
    };
    let (changed, ()) = tokio::join!(change, observation);
    changed.expect("added");
    votes_with_equal_state(&fresh, &leader).await;
    let status = fresh.status().await.expect("it runs");
    assert_eq!(status.snapshot_refusal, None);
}
