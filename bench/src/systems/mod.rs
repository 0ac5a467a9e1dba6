//! What is measured: three servers each, and an empty one for calibration.

pub mod echo;
pub mod etcd;
pub mod kontiki;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;

use crate::generator::Operation;
use crate::process::Process;

/// A system that is not up by then does not come up.
const START: Duration = Duration::from_secs(30);

/// A system that has no leader for so long in the middle of a run has none.
const LEADER: Duration = Duration::from_secs(15);

/// How long one question of ours to a server may take.
const ASK: Duration = Duration::from_secs(2);

const POLL: Duration = Duration::from_millis(20);

/// How a system spells the operations.
pub trait Dialect: Send + Sync {
    /// `/package.Service/Method`.
    fn path(&self, operation: Operation) -> &'static str;
    /// The request as a gRPC frame.
    fn encode(&self, operation: Operation, key: &Bytes, value: &Bytes) -> Bytes;
    /// Whether the answer, a gRPC frame, is that of a put that was done or of a read that hit.
    fn check(&self, operation: Operation, answer: Bytes) -> Result<()>;
}

/// What it takes to start a system.
pub struct Place {
    /// This program, to start others with.
    pub launcher: PathBuf,
    /// An empty folder of the system's own, on a tmpfs.
    pub folder: PathBuf,
}

/// One server process.
pub struct Server {
    pub process: Process,
    /// Where clients connect.
    pub client: SocketAddr,
    /// Where questions about leadership go.
    pub admin: SocketAddr,
    /// What it was started with.
    pub arguments: Vec<String>,
}

/// A running system.
pub struct System {
    pub kind: Kind,
    pub version: String,
    /// Arguments of the first server.
    pub flags: Vec<String>,
    pub servers: Vec<Server>,
}

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Echo,
    Kontiki,
    Etcd,
}

impl Kind {
    /// As in the report.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Echo => "echo",
            Kind::Kontiki => "kontiki",
            Kind::Etcd => "etcd",
        }
    }
}

impl System {
    /// Its messages.
    pub fn dialect(&self) -> &'static dyn Dialect {
        match self.kind {
            Kind::Echo | Kind::Kontiki => &kontiki::Kv,
            Kind::Etcd => &etcd::Kv,
        }
    }

    /// Process ids of its servers.
    pub fn pids(&self) -> Vec<u32> {
        self.servers
            .iter()
            .map(|server| server.process.id())
            .collect()
    }

    /// Makes the system whole again after the process of server `lost` was killed: etcd's member comes
    /// back with its data; ours, which lost its state, is replaced by a fresh server, the one of number
    /// `number`.
    pub async fn mend(
        &mut self,
        place: &Place,
        binary: &Path,
        (lost, number): (usize, usize),
    ) -> Result<()> {
        match self.kind {
            Kind::Echo => Ok(()),
            Kind::Kontiki => {
                kontiki::replace(place, binary, &mut self.servers, (lost, number)).await
            }
            Kind::Etcd => etcd::restart(place, binary, &mut self.servers, lost).await,
        }
    }

    /// Which of the servers leads, asked now.
    pub async fn leader(&mut self) -> Result<usize> {
        let deadline = Instant::now() + LEADER;
        loop {
            let leader = match self.kind {
                Kind::Echo => Some(0),
                Kind::Kontiki => kontiki::leader(&self.servers).await,
                Kind::Etcd => etcd::leader(&self.servers).await,
            };
            if let Some(leader) = leader {
                return Ok(leader);
            }
            pause(deadline, &mut self.servers, "it has no leader").await?;
        }
    }
}

/// Waits a little; an error past `deadline`, or if a server has ended.
async fn pause(deadline: Instant, servers: &mut [Server], waiting_for: &str) -> Result<()> {
    for server in &mut *servers {
        server.process.check_alive()?;
    }
    if Instant::now() >= deadline {
        let first = &servers[0].process;
        bail!(
            "{waiting_for}; the log of {} ends: {}",
            first.name(),
            first.quote()
        );
    }
    tokio::time::sleep(POLL).await;
    Ok(())
}

/// `count` free ports of the loopback address, all different: each is held until the last is found.
fn free_addresses(count: usize) -> Result<Vec<SocketAddr>> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port");
    let held = (0..count).map(|_| bind()).collect::<Result<Vec<_>>>()?;
    held.iter()
        .map(|held| held.local_addr().context("name a free port"))
        .collect()
}

/// The path of `file`, or an error that says how to get one.
pub fn existing(file: &Path, advice: &str) -> Result<PathBuf> {
    if file.is_file() {
        return Ok(file.to_owned());
    }
    bail!("there is no file {}: {advice}", file.display())
}
