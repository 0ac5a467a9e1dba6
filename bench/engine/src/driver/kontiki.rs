//! Three drivers, each in a task with the loop that a node runs it in, and channels for a network.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use kontiki_node::driver::{Answer, Driver, DriverConfig, Input, Output, Refusal};
use kontiki_node::{ClusterId, Config, ServerId};
use kontiki_raft::Time;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep};

use super::machine::{Machine, Replica, state_of};
use super::{Client, Cluster, ELECTION_TIMEOUT, HEARTBEAT, POLL};

/// Inputs that wait for a turn, and those of one turn, as in a node.
const INPUTS_MAX: usize = 8192;

type Reply = oneshot::Sender<Result<Answer, Refusal>>;
type Inputs = mpsc::Sender<Input<Reply>>;

pub struct Kontiki {
    servers: Vec<Running>,
    leader: usize,
}

struct Running {
    inputs: Inputs,
    replica: Replica,
    /// Answers the state at the end.
    task: JoinHandle<Result<Vec<u8>>>,
    stop: oneshot::Sender<()>,
}

/// What one task owns.
struct Server {
    driver: Driver<Reply>,
    peers: BTreeMap<ServerId, Inputs>,
    begun: Instant,
    inputs: Vec<Input<Reply>>,
    outputs: Vec<Output<Reply>>,
}

impl Cluster for Kontiki {
    type Client = Leader;

    async fn start(machine: Machine) -> Result<Self> {
        let ids = [1, 2, 3].map(ServerId);
        let channels = ids.map(|_| mpsc::channel(INPUTS_MAX));
        let senders = channels.each_ref().map(|(sender, _)| sender.clone());
        let peers: BTreeMap<ServerId, Inputs> = ids.into_iter().zip(senders).collect();
        let begun = Instant::now();
        let mut servers = Vec::new();
        for (id, (inputs, taken)) in ids.into_iter().zip(channels) {
            let machine = machine.make();
            let replica = machine.replica();
            let (driver, elsewhere) = Driver::new(id, config(), Box::new(machine), Time(0));
            anyhow::ensure!(elsewhere.is_none(), "both machines live with the driver");
            let server = Server {
                driver,
                peers: peers.clone(),
                begun,
                inputs: Vec::new(),
                outputs: Vec::new(),
            };
            let (stop, stopped) = oneshot::channel();
            servers.push(Running {
                inputs,
                replica,
                task: tokio::spawn(server.run(taken, stopped)),
                stop,
            });
        }
        for server in &servers {
            let voters = ids.to_vec();
            let bootstrap = |reply| Input::Bootstrap {
                cluster: ClusterId(1),
                voters,
                reply,
            };
            ask(&server.inputs, bootstrap).await?;
        }
        let leader = await_leader(&servers).await?;
        Ok(Self { servers, leader })
    }

    fn client(&self) -> Leader {
        Leader(self.servers[self.leader].inputs.clone())
    }

    fn replicas(&self) -> [Replica; 3] {
        [0, 1, 2].map(|n| self.servers[n].replica.clone())
    }

    async fn stop(self) -> Result<Vec<Vec<u8>>> {
        let mut states = Vec::new();
        for server in self.servers {
            drop(server.stop);
            states.push(server.task.await.context("a server panicked")??);
        }
        Ok(states)
    }
}

/// The defaults of an embedded server.
fn config() -> DriverConfig {
    let mut config = Config::default().driver(true);
    config.raft.heartbeat = HEARTBEAT;
    [
        config.raft.election_timeout_min,
        config.raft.election_timeout_max,
    ] = ELECTION_TIMEOUT;
    config
}

async fn await_leader(servers: &[Running]) -> Result<usize> {
    loop {
        for (n, server) in servers.iter().enumerate() {
            let answer = ask(&server.inputs, |reply| Input::Status { reply }).await?;
            if let Answer::Status(status) = answer
                && status.serving
                && status.activated
            {
                return Ok(n);
            }
        }
        sleep(POLL).await;
    }
}

async fn ask(inputs: &Inputs, input: impl FnOnce(Reply) -> Input<Reply>) -> Result<Answer> {
    let (reply, answer) = oneshot::channel();
    match inputs.try_send(input(reply)) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => bail!("the queue is full"),
        Err(TrySendError::Closed(_)) => bail!("the server has ended"),
    }
    let answer = answer.await.context("the server has ended")?;
    answer.map_err(|refusal| anyhow!("refused: {refusal}"))
}

#[derive(Clone)]
pub struct Leader(Inputs);

impl Client for Leader {
    async fn write(&self, command: Bytes) -> Result<Vec<u8>> {
        match ask(&self.0, |reply| Input::Write { command, reply }).await? {
            Answer::Written { reply, .. } => Ok(reply),
            other => bail!("a write was answered by {other:?}"),
        }
    }
}

impl Server {
    async fn run(
        mut self,
        mut taken: mpsc::Receiver<Input<Reply>>,
        mut stopped: oneshot::Receiver<()>,
    ) -> Result<Vec<u8>> {
        let mut timer = std::pin::pin!(sleep(Duration::ZERO));
        loop {
            tokio::select! {
                biased;
                _ = taken.recv_many(&mut self.inputs, INPUTS_MAX) => {}
                () = timer.as_mut() => {}
                _ = &mut stopped => break,
            }
            // On a runtime of several threads who was woken last runs next: the first write of many would
            // have a turn of its own. A node has a runtime of one thread, where the others go first.
            tokio::task::yield_now().await;
            while self.inputs.len() < INPUTS_MAX
                && let Ok(input) = taken.try_recv()
            {
                self.inputs.push(input);
            }
            let now = Time(0) + self.begun.elapsed();
            let due = self.driver.turn(now, &mut self.inputs, &mut self.outputs);
            self.perform()?;
            arm(timer.as_mut(), due.since(now));
        }
        let machine = self.driver.machine().context("the machine is away")?;
        Ok(state_of(machine))
    }

    fn perform(&mut self) -> Result<()> {
        for output in self.outputs.drain(..) {
            match output {
                Output::Send(envelope) => {
                    let peer = &self.peers[&envelope.to];
                    match peer.try_send(Input::Peer(envelope)) {
                        // A peer that has ended is sent nothing, as over a network.
                        Ok(()) | Err(TrySendError::Closed(_)) => {}
                        Err(TrySendError::Full(_)) => bail!("a peer's queue is full"),
                    }
                }
                Output::Reply(reply, outcome) => drop(reply.send(outcome)),
                Output::Standing(_) => {}
                // Both machines live with the driver, and nobody needs a snapshot.
                _ => bail!("a driver wants what nothing here does"),
            }
        }
        Ok(())
    }
}

/// As a node's: set anew only if it would go off too late.
fn arm(timer: std::pin::Pin<&mut Sleep>, wait: Duration) {
    let wanted = tokio::time::Instant::now() + wait;
    if timer.is_elapsed() || wanted < timer.deadline() {
        timer.reset(wanted);
    }
}
