//! A TCP proxy in front of every host, which delays what it carries: the kernel here may have no
//! netem. Servers know each other at its addresses only.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::cluster::{CLIENT_PORT, PEER_PORT};
use crate::network::{HOSTS_MAX, address, proxy_address};

/// Pieces that a direction of a connection holds back at most...
const PIECES_MAX: usize = 256;
/// ...each of at most so many bytes.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// The proxies of all hosts; they end with the value.
#[derive(Debug)]
pub struct Proxies {
    carriage: Arc<Carriage>,
    /// One for each port of each host.
    _listeners: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Carriage {
    /// From one host, to another.
    delay_milliseconds: [[AtomicU64; HOSTS_MAX]; HOSTS_MAX],
    delayed_bytes: AtomicU64,
}

impl Proxies {
    /// In front of so many hosts; nothing is delayed yet.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub async fn start(hosts: usize) -> Result<Self> {
        let carriage = Arc::new(Carriage::default());
        let mut listeners = JoinSet::new();
        for place in 0..hosts {
            for port in [CLIENT_PORT, PEER_PORT] {
                let listener = TcpListener::bind((proxy_address(place), port)).await?;
                listeners.spawn(listen(listener, (place, port), Arc::clone(&carriage)));
            }
        }
        Ok(Self {
            carriage,
            _listeners: listeners,
        })
    }

    /// From now on what a host sends another takes so much longer.
    pub fn delay(&self, from: usize, to: usize, by: Duration) {
        let milliseconds = u64::try_from(by.as_millis()).expect("a short time");
        self.carriage.delay_milliseconds[from][to].store(milliseconds, Relaxed);
    }

    /// All that hosts send each other, each way.
    pub fn delay_all(&self, by: Duration) {
        for from in 0..HOSTS_MAX {
            (0..HOSTS_MAX).for_each(|to| self.delay(from, to, by));
        }
    }

    /// What has been delayed so far.
    pub fn delayed_bytes(&self) -> u64 {
        self.carriage.delayed_bytes.load(Relaxed)
    }
}

async fn listen(listener: TcpListener, to: (usize, u16), carriage: Arc<Carriage>) {
    // Connections end with the proxy.
    let mut connections = JoinSet::new();
    while let Ok((accepted, from)) = listener.accept().await {
        connections.spawn(carry(accepted, from, to, Arc::clone(&carriage)));
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(accepted: TcpStream, from: SocketAddr, to: (usize, u16), carriage: Arc<Carriage>) {
    let (place, port) = to;
    // A host that cannot be reached: whoever dialled sees his connection closed.
    let Ok(dialled) = TcpStream::connect((address(place), port)).await else {
        return;
    };
    drop((accepted.set_nodelay(true), dialled.set_nodelay(true)));
    let (from_client, to_client) = accepted.into_split();
    let (from_host, to_host) = dialled.into_split();
    // Clients are no hosts, and are not delayed.
    let dialler = (0..HOSTS_MAX).find(|place| from.ip() == IpAddr::from(address(*place)));
    let way = |from: usize, to: usize| &carriage.delay_milliseconds[from][to];
    let none = AtomicU64::new(0);
    let (there, back) = match dialler {
        Some(dialler) => (way(dialler, place), way(place, dialler)),
        None => (&none, &none),
    };
    // When one direction ends, the whole connection does.
    tokio::select! {
        () = pump(from_client, to_host, there, &carriage.delayed_bytes) => {}
        () = pump(from_host, to_client, back, &carriage.delayed_bytes) => {}
    }
}

async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    delay_milliseconds: &AtomicU64,
    delayed_bytes: &AtomicU64,
) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let read = async move {
        let mut piece = vec![0; PIECE_BYTES_MAX];
        while let Ok(bytes @ 1..) = from.read(&mut piece).await {
            let delay = delay_milliseconds.load(Relaxed);
            if delay > 0 {
                delayed_bytes.fetch_add(bytes as u64, Relaxed);
            }
            let due = Instant::now() + Duration::from_millis(delay);
            if sender.send((due, piece[..bytes].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some((due, piece)) = receiver.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    // What was read before the end is still written.
    tokio::join!(read, write);
}
