//! A cluster of node processes on hosts of their own, and what an operator does to it: bootstrap,
//! activate, introduce, replace, add, remove, hand over.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kontiki_client::{Address, Admin, Options};
use kontiki_proto::v1::{
    ActivateRequest, AddServerRequest, BootstrapRequest, IntroduceRequest, RemoveServerRequest,
    ReplaceServerRequest, Server, StatusResponse, TransferLeadershipRequest,
    TriggerElectionRequest,
};
use kontiki_tests::node::{Launch, Node};
use rustix::process::Signal;

use crate::network::{self, Network};

/// Long enough for anything that is to happen, on a busy machine too.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// A server that does not answer a question within this is dead, stands still, or is cut off.
const PATIENCE: Duration = Duration::from_millis(500);
/// A change that is not answered within this is asked for again.
const CHANGE_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at the same condition.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Unless it is configured.
pub const DEFAULT_ELECTION_TIMEOUT_MAX: Duration = Duration::from_secs(2);

/// Defaults, but for the time after which a write's outcome is called unknown...
const CONFIG: &str = "limits:\n  writeTimeoutMilliseconds: 2500\n";
/// ...in some clusters for reads under a lease...
const LEASES: &str = "  leaseReads: true\n";
/// ...and in some for timers: leaders that are replaced believe in themselves for so long that clients
/// meet them, however slow the machine is. Voters promise 3 s then.
const SLOW: &str = "  heartbeatMilliseconds: 600\n  electionTimeoutMilliseconds: 5000\n";

/// Where every node listens, on its own address.
pub const CLIENT_PORT: u16 = 7400;
pub const PEER_PORT: u16 = 7401;
const HTTP_PORT: u16 = 7402;

const CLUSTER_ID: &str = "00000000000c1057";

/// What is not the same in all clusters.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Voters at first.
    pub size: usize,
    /// They reach each other through proxies.
    pub is_proxied: bool,
    /// Reads under a lease are on.
    pub has_leases: bool,
    /// Their timers are slow.
    pub is_slow: bool,
}

impl Kind {
    fn config(self) -> String {
        let mut config = CONFIG.to_owned();
        if self.has_leases || self.is_slow {
            config += "raft:\n";
        }
        for (part, is_wanted) in [(LEASES, self.has_leases), (SLOW, self.is_slow)] {
            config += if is_wanted { part } else { "" };
        }
        config
    }
}

/// Node processes, by the place of their host.
pub struct Cluster {
    nodes: BTreeMap<usize, Node>,
    kind: Kind,
    logs: PathBuf,
    /// Last, so that it goes after the nodes.
    pub network: Network,
}

/// Waits until something is there; fails after [`DEADLINE`].
pub async fn eventually<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + DEADLINE;
    let mut last = None;
    while Instant::now() < deadline {
        match look().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => last = None,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let why = last.map_or(String::new(), |error| format!(": {error:#}"));
    bail!("not within {DEADLINE:?}: {what}{why}")
}

/// The Admin service of these servers.
fn admin_of(endpoints: impl IntoIterator<Item = String>, timeout: Duration) -> Admin {
    let options = Options {
        timeout,
        attempt_timeout: timeout.min(Duration::from_secs(2)),
        ..Options::default()
    };
    Admin::with_options(endpoints, options).expect("addresses")
}

impl Cluster {
    /// Voters on the first hosts, bootstrapped and activated, with a leader.
    ///
    /// # Errors
    /// It does not come about.
    pub async fn start(network: Network, kind: Kind, logs: &Path) -> Result<Self> {
        std::fs::create_dir_all(logs)?;
        let mut cluster = Self {
            network,
            nodes: BTreeMap::new(),
            kind,
            logs: logs.to_owned(),
        };
        for place in 0..kind.size {
            cluster.launch(place);
        }
        let servers = cluster.servers(&cluster.places());
        for node in cluster.nodes.values() {
            let request = BootstrapRequest {
                cluster_id: CLUSTER_ID.to_owned(),
                voters: servers.clone(),
            };
            let endpoint: Address = node.peer.parse()?;
            cluster.admin().bootstrap(&endpoint, request).await?;
        }
        cluster.campaign(0).await?; // nobody waits for a timeout
        cluster.leader(&[]).await?;
        let request = ActivateRequest {
            cluster_id: CLUSTER_ID.to_owned(),
        };
        cluster.admin().activate(request).await?;
        Ok(cluster)
    }

    /// Starts a process on a host: a fresh incarnation.
    pub fn launch(&mut self, place: usize) {
        let name = network::host_name(place);
        let host = network::address(place);
        let mut flags = vec![
            format!("--listen-client={host}:{CLIENT_PORT}"),
            format!("--listen-peer={host}:{PEER_PORT}"),
            format!("--listen-http={host}:{HTTP_PORT}"),
        ];
        if self.kind.is_proxied {
            flags.push(format!(
                "--advertise-host={}",
                network::proxy_address(place)
            ));
        }
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let namespace = format!("--net={}", network::namespace_file(place));
        let launch = Launch {
            name: &name,
            config: &self.kind.config(),
            within: &["nsenter", &namespace],
            flags: &flags,
        };
        let path = self.logs.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&path);
        let mut file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let node = Node::launch(launch, move |line| {
            drop(writeln!(file, "{line}")); // a log that cannot be kept fails nothing
        });
        self.nodes.insert(place, node);
    }

    /// Takes the process of a host off the list of those that are there; it ends with the value.
    pub fn forget(&mut self, place: usize) -> Option<Node> {
        self.nodes.remove(&place)
    }

    pub fn node(&self, place: usize) -> &Node {
        &self.nodes[&place]
    }

    /// As requests name the servers of these hosts, at the addresses that others are to use.
    fn servers(&self, places: &[usize]) -> Vec<Server> {
        let server = |place: &usize| {
            let server = self.node(*place).as_server();
            let through = network::proxy_address(*place);
            match self.kind.is_proxied {
                false => server,
                true => Server {
                    peer_address: format!("{through}:{PEER_PORT}"),
                    client_address: format!("{through}:{CLIENT_PORT}"),
                    ..server
                },
            }
        };
        places.iter().map(server).collect()
    }

    /// Where processes are.
    pub fn places(&self) -> Vec<usize> {
        self.nodes.keys().copied().collect()
    }

    /// All places but these.
    pub fn others(&self, without: &[usize]) -> Vec<usize> {
        let places = self.places().into_iter();
        places.filter(|place| !without.contains(place)).collect()
    }

    pub fn admin(&self) -> Admin {
        let endpoints = self.nodes.values().map(|node| node.peer.clone());
        admin_of(endpoints, CHANGE_PATIENCE)
    }

    /// What a server says of itself, if it answers.
    pub async fn status(&self, place: usize) -> Option<StatusResponse> {
        let node = self.nodes.get(&place)?;
        let asked = admin_of([node.peer.clone()], PATIENCE);
        let endpoint: Address = node.peer.parse().expect("an address");
        asked.status_of(&endpoint).await.ok()
    }

    /// Waits until one of those that are not `without` serves as the leader, in a term that no other
    /// of them is past; its place.
    ///
    /// # Errors
    /// None does.
    pub async fn leader(&self, without: &[usize]) -> Result<usize> {
        let others = self.others(without);
        eventually("somebody leads", async || {
            let mut statuses = Vec::new();
            for place in &others {
                statuses.extend(self.status(*place).await.map(|status| (*place, status)));
            }
            let newest = statuses.iter().map(|(_, status)| status.term).max();
            let leads = |(_, status): &&(usize, StatusResponse)| {
                status.serving && status.term_committed && Some(status.term) == newest
            };
            Ok(statuses.iter().find(leads).map(|(place, _)| *place))
        })
        .await
    }

    /// The term of a server.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn term(&self, place: usize) -> Result<u64> {
        eventually("it tells its term", async || {
            Ok(self.status(place).await.map(|status| status.term))
        })
        .await
    }

    /// Of these the one whose log is the newest, so that all of them may elect it.
    ///
    /// # Errors
    /// None answers.
    pub async fn newest(&self, places: &[usize]) -> Result<usize> {
        let mut newest = None;
        for place in places {
            let Some(status) = self.status(*place).await else {
                continue;
            };
            newest = newest.max(Some((status.last_term, status.last_index, *place)));
        }
        newest.map(|(.., place)| place).context("one answers")
    }

    /// Waits until all servers have the same log.
    ///
    /// # Errors
    /// They do not.
    pub async fn same_log(&self) -> Result<()> {
        eventually("all have the same log", async || {
            let mut ends = Vec::new();
            for place in self.places() {
                let status = self.status(place).await.context("it answers")?;
                ends.push((status.last_term, status.last_index, status.commit_index));
            }
            Ok(ends.windows(2).all(|pair| pair[0] == pair[1]).then_some(()))
        })
        .await
    }

    /// Waits until all servers are voters, follow one leader, and have applied what it has.
    ///
    /// # Errors
    /// They do not.
    pub async fn agreement(&self) -> Result<()> {
        let places = self.places();
        eventually("all servers agree", async || {
            let leader = self.leader(&[]).await?;
            let leads = self.status(leader).await.context("the leader answers")?;
            let configuration = leads.configuration.clone().unwrap_or_default();
            let done = configuration.committed
                && configuration.outgoing.is_empty()
                && configuration.voters.len() == places.len();
            ensure!(done, "the configuration is {configuration:?}");
            for place in &places {
                let status = self.status(*place).await;
                let status = status.with_context(|| format!("{place} answers"))?;
                ensure!(
                    status.term == leads.term && status.applied_index >= leads.commit_index,
                    "{place} is at {} of term {}, the leader at {} of term {}",
                    status.applied_index,
                    status.term,
                    leads.commit_index,
                    leads.term
                );
                let there = &status.server.context("it says who it is")?.server_id;
                ensure!(
                    configuration.voters.contains(there),
                    "{place} does not vote"
                );
            }
            Ok(Some(()))
        })
        .await
    }

    /// Sends a signal to the process of a host.
    pub fn signal(&self, place: usize, signal: Signal) {
        self.nodes[&place].signal(signal);
    }

    /// Stops a process, and waits until it stands still.
    ///
    /// # Errors
    /// It goes on.
    pub async fn pause(&self, place: usize) -> Result<()> {
        self.signal(place, Signal::STOP);
        let node = self.node(place);
        eventually("it stands still", async || {
            Ok(node.is_stopped().then_some(()))
        })
        .await
    }

    /// Ends a process by `kill -9`, and waits until it is gone; its server's id.
    ///
    /// # Errors
    /// It ends in another way.
    pub fn kill(&mut self, place: usize) -> Result<String> {
        let mut node = self.forget(place).context("it runs")?;
        node.signal(Signal::KILL);
        ensure!(!node.ends_well(DEADLINE), "it was killed, and ended well");
        Ok(node.server_id.clone())
    }

    /// Does what the operator does about a lost server: a fresh process on its host, which takes its
    /// place in the configuration. Answers when it votes.
    ///
    /// # Errors
    /// It does not.
    pub async fn replace(&mut self, place: usize, lost: &str) -> Result<()> {
        self.launch(place);
        self.put_in_place(place, lost).await
    }

    /// The process of this host takes the place of a lost server. Answers when it votes.
    ///
    /// # Errors
    /// It does not.
    pub async fn put_in_place(&self, place: usize, lost: &str) -> Result<()> {
        self.introduce().await?;
        let request = ReplaceServerRequest {
            cluster_id: CLUSTER_ID.to_owned(),
            lost: lost.to_owned(),
            server: self.servers(&[place]).pop(),
            ..ReplaceServerRequest::default()
        };
        let admin = self.admin();
        eventually("the lost server is replaced", async || {
            Ok(Some(admin.replace_server(request.clone()).await?))
        })
        .await
        .map(drop)
    }

    /// Starts fresh servers on these hosts, and makes voters of them in one change.
    ///
    /// # Errors
    /// They do not become voters.
    pub async fn add(&mut self, places: &[usize]) -> Result<()> {
        for place in places {
            self.launch(*place);
        }
        self.introduce().await?;
        let request = AddServerRequest {
            cluster_id: CLUSTER_ID.to_owned(),
            servers: self.servers(places),
            ..AddServerRequest::default()
        };
        let admin = self.admin();
        eventually("they are added", async || {
            Ok(Some(admin.add_server(request.clone()).await?))
        })
        .await
        .map(drop)
    }

    /// Takes servers out of the configuration, and ends their processes then.
    ///
    /// # Errors
    /// They stay.
    pub async fn remove(&mut self, places: &[usize]) -> Result<()> {
        let ids = places
            .iter()
            .map(|place| self.node(*place).server_id.clone());
        let request = RemoveServerRequest {
            cluster_id: CLUSTER_ID.to_owned(),
            server_ids: ids.collect(),
            ..RemoveServerRequest::default()
        };
        let admin = self.admin();
        eventually("they are removed", async || {
            Ok(Some(admin.remove_server(request.clone()).await?))
        })
        .await?;
        for place in places {
            drop(self.forget(*place));
        }
        Ok(())
    }

    /// Tells all servers where the others are, as far as they can be told.
    async fn introduce(&self) -> Result<()> {
        let request = IntroduceRequest {
            cluster_id: CLUSTER_ID.to_owned(),
            servers: self.servers(&self.places()),
        };
        for node in self.nodes.values() {
            let endpoint: Address = node.peer.parse()?;
            let admin = admin_of([node.peer.clone()], PATIENCE);
            let told = admin.introduce(&endpoint, request.clone());
            // One that cannot be told now learns it from the others' handshakes.
            drop(told.await);
        }
        Ok(())
    }

    /// Hands leadership to another, and waits until it leads; its place.
    ///
    /// # Errors
    /// Nobody takes it.
    pub async fn hand_over(&self, to: usize) -> Result<()> {
        let target = self.node(to).server_id.clone();
        let request = TransferLeadershipRequest {
            cluster_id: CLUSTER_ID.to_owned(),
            target: target.clone(),
        };
        let admin = self.admin();
        eventually("leadership is handed over", async || {
            // An attempt of which nothing was heard may have succeeded.
            if self.status(to).await.is_some_and(|status| status.serving) {
                return Ok(Some(()));
            }
            let answer = admin.transfer_leadership(request.clone()).await?;
            Ok((answer.leader_id == target).then_some(()))
        })
        .await
    }

    /// Makes a server campaign as soon as it has promised its vote to nobody.
    ///
    /// # Errors
    /// It will not.
    pub async fn campaign(&self, place: usize) -> Result<()> {
        let node = self.node(place);
        let request = TriggerElectionRequest {
            cluster_id: CLUSTER_ID.to_owned(),
            server_id: node.server_id.clone(),
        };
        let endpoint: Address = node.peer.parse()?;
        let admin = self.admin();
        eventually("it campaigns", async || {
            admin.trigger_election(&endpoint, request.clone()).await?;
            Ok(Some(()))
        })
        .await
    }
}
