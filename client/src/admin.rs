//! `Admin`, on the peer port: what operators and people ask of servers.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tonic::transport::Channel;

use kontiki_proto::v1::admin_client::AdminClient;
use kontiki_proto::v1::{
    ActivateRequest, ActivateResponse, AddServerRequest, AwaitLeaderRequest, AwaitLeaderResponse,
    BootstrapRequest, ChangeResponse, Configuration, InspectRequest, InspectResponse,
    IntroduceRequest, PingRequest, PingResponse, RemoveServerRequest, ReplaceServerRequest, Role,
    Server, StatusRequest, StatusResponse, StopServerRequest, TransferLeadershipRequest,
    TransferLeadershipResponse, TriggerElectionRequest, TriggerElectionResponse,
};

use crate::router::{Kind, Port, Router};
use crate::{Address, Error, Options};

/// A client of the `Admin` service. Cheap to clone; clones share connections.
///
/// ```
/// # use std::time::Duration;
/// # use kontiki_node::{Server, ServerOptions, machine::kv::Kv};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::start(Kv::default(), ServerOptions::default())?;
/// # let endpoint = server.me().peer_address.clone();
/// use kontiki_client::Admin;
/// use kontiki_client::proto::v1::InspectRequest;
///
/// let admin = Admin::new([endpoint])?;
/// let led = admin.await_leader(Duration::from_secs(30)).await?;
/// println!("{} leads in term {}", led.leader.unwrap_or_default().node, led.term);
/// for member in admin.members().await?.members {
///     println!("{} votes: {}", member.server.node, member.voter);
/// }
/// let seen = admin.inspect(&admin.endpoints()[0], InspectRequest::default()).await?;
/// assert!(!seen.entries.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Admin {
    router: Arc<Router>,
}

/// Who is in the cluster, as one server sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Members {
    /// The cluster.
    pub cluster_id: String,
    /// The server that was believed: the leader, or the furthest if none answered as leader.
    pub seen_by: String,
    /// Whether `seen_by` leads and is heard by a quorum.
    pub seen_by_leader: bool,
    /// Its term.
    pub term: u64,
    /// The configuration in force there.
    pub configuration: Configuration,
    /// Voters first, then learners, each by server id.
    pub members: Vec<Member>,
}

/// One server of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its id, and where it can be reached if that is known.
    pub server: Server,
    /// Whether it votes. An outgoing voter of a joint change votes still.
    pub voter: bool,
    /// Whether a joint change takes it out.
    pub outgoing: bool,
    /// Whether it is the leader that `seen_by` knows.
    pub leader: bool,
    /// Of a learner: stay, join or replace.
    pub purpose: String,
    /// Highest index known to be replicated there; only the leader knows.
    pub matched: Option<u64>,
    /// Milliseconds since the leader last heard it; only the leader knows.
    pub last_heard_ms: Option<u64>,
}

impl Admin {
    /// A client of the servers behind these endpoints (HOST:PORT of peer ports). Nothing is dialled
    /// yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no endpoint or one of them is no HOST:PORT.
    pub fn new<S: AsRef<str>>(endpoints: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        Admin::with_options(endpoints, Options::default())
    }

    /// As [`Admin::new`], with bounds of one's own. Membership changes wait for a server to catch
    /// up, so give them time.
    ///
    /// # Errors
    /// As [`Admin::new`].
    pub fn with_options<S: AsRef<str>>(
        endpoints: impl IntoIterator<Item = S>,
        options: Options,
    ) -> Result<Self, Error> {
        let endpoints = Address::parse_all(endpoints)?;
        Ok(Admin {
            router: Arc::new(Router::new(endpoints, Port::Peer, options)),
        })
    }

    /// The endpoints it was built from.
    pub fn endpoints(&self) -> &[Address] {
        self.router.endpoints()
    }

    /// The status of every endpoint, each asked once and all at the same time, in their order.
    pub async fn status(&self) -> Vec<(Address, Result<StatusResponse, Error>)> {
        let endpoints = self.router.endpoints().to_vec();
        join_all(endpoints.into_iter().map(|endpoint| async move {
            let status = self.status_of(&endpoint).await;
            (endpoint, status)
        }))
        .await
    }

    /// The status of one server, asked once.
    ///
    /// # Errors
    /// [`Error::Failed`]: asking changes nothing.
    pub async fn status_of(&self, endpoint: &Address) -> Result<StatusResponse, Error> {
        self.router
            .call_once(endpoint, Kind::Read, |channel| async move {
                admin(channel).status(StatusRequest {}).await
            })
            .await
    }

    /// Who one server is, asked once.
    ///
    /// # Errors
    /// [`Error::Failed`]: asking changes nothing.
    pub async fn ping(&self, endpoint: &Address) -> Result<PingResponse, Error> {
        self.router
            .call_once(endpoint, Kind::Read, |channel| async move {
                admin(channel).ping(PingRequest {}).await
            })
            .await
    }

    /// What one server knows, and a page of its log; asked once.
    ///
    /// # Errors
    /// [`Error::Failed`]: looking changes nothing.
    pub async fn inspect(
        &self,
        endpoint: &Address,
        request: InspectRequest,
    ) -> Result<InspectResponse, Error> {
        self.router
            .call_once(endpoint, Kind::Read, |channel| {
                let request = request.clone();
                async move { admin(channel).inspect(request).await }
            })
            .await
    }

    /// Ends one server's process.
    ///
    /// # Errors
    /// Any of [`Error`]. [`Error::Unknown`] may be the end itself, which cut the answer off.
    pub async fn stop_server(
        &self,
        endpoint: &Address,
        request: StopServerRequest,
    ) -> Result<(), Error> {
        self.router
            .call_once(endpoint, Kind::Write, |channel| {
                let request = request.clone();
                async move { admin(channel).stop_server(request).await }
            })
            .await
            .map(|_| ())
    }

    /// Who is in the cluster, by the word of the leader of the highest term, or of the server that
    /// is furthest if none answers as a leader that serves.
    ///
    /// # Errors
    /// The error of an endpoint if none answered; [`Error::Failed`] with reason `NOT_A_MEMBER` if
    /// none of those that did is in a cluster.
    pub async fn members(&self) -> Result<Members, Error> {
        let mut known = Vec::new();
        let mut last_error = None;
        for (endpoint, status) in self.status().await {
            match status {
                Ok(status) => known.push((endpoint, status)),
                Err(error) => last_error = Some(error),
            }
        }
        let best = known
            .iter()
            .filter(|(_, status)| status.configuration.as_ref().is_some_and(|c| c.index > 0))
            .max_by_key(|(_, s)| {
                (
                    s.serving && s.role() == Role::Leader,
                    s.term,
                    s.commit_index,
                )
            });
        match (best, known.first(), last_error) {
            (Some((_, status)), ..) => Ok(Members::from_status(status)),
            (None, Some((endpoint, _)), _) => Err(Error::Failed {
                reason: kontiki_proto::reason::NOT_A_MEMBER.to_owned(),
                message: "no server that answered is in a cluster; bootstrap it first".to_owned(),
                endpoint: endpoint.to_string(),
                attempts: 1,
            }),
            (None, None, Some(error)) => Err(error),
            (None, None, None) => Err(Error::invalid("no endpoint given")),
        }
    }

    /// Answers when a server knows a leader; asks the endpoints in turn.
    ///
    /// # Errors
    /// [`Error::Failed`] if none does within `timeout`.
    pub async fn await_leader(&self, timeout: Duration) -> Result<AwaitLeaderResponse, Error> {
        let timeout_ms = u64::try_from(timeout.as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        let slice_ms = u64::try_from(self.router.options().attempt_timeout.as_millis() / 2)
            .unwrap_or(u64::MAX)
            .max(1);
        let request = AwaitLeaderRequest {
            timeout_ms: timeout_ms.min(slice_ms),
        };
        self.router
            .call_any(timeout, Kind::Read, |channel| async move {
                admin(channel).await_leader(request).await
            })
            .await
    }

    /// Adds servers; answers when they vote, or with `as_learner` or `no_wait` when the change is
    /// committed. Idempotent, so one whose outcome is unknown may be asked for again.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn add_server(&self, request: AddServerRequest) -> Result<ChangeResponse, Error> {
        self.router
            .call(Kind::Write, |channel| {
                let request = request.clone();
                async move { admin(channel).add_server(request).await }
            })
            .await
    }

    /// Removes servers; answers when that is committed. Idempotent.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn remove_server(
        &self,
        request: RemoveServerRequest,
    ) -> Result<ChangeResponse, Error> {
        self.router
            .call(Kind::Write, |channel| {
                let request = request.clone();
                async move { admin(channel).remove_server(request).await }
            })
            .await
    }

    /// Puts a new server in the place of a lost one. Idempotent.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn replace_server(
        &self,
        request: ReplaceServerRequest,
    ) -> Result<ChangeResponse, Error> {
        self.router
            .call(Kind::Write, |channel| {
                let request = request.clone();
                async move { admin(channel).replace_server(request).await }
            })
            .await
    }

    /// Hands leadership to `target`; if it is empty, to the voter of the highest election priority that
    /// has caught up.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn transfer_leadership(
        &self,
        request: TransferLeadershipRequest,
    ) -> Result<TransferLeadershipResponse, Error> {
        self.router
            .call(Kind::Write, |channel| {
                let request = request.clone();
                async move { admin(channel).transfer_leadership(request).await }
            })
            .await
    }

    /// Commits the entry from which client writes are accepted. Idempotent.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn activate(&self, request: ActivateRequest) -> Result<ActivateResponse, Error> {
        self.router
            .call(Kind::Write, |channel| {
                let request = request.clone();
                async move { admin(channel).activate(request).await }
            })
            .await
    }

    /// Gives one fresh server its cluster and initial configuration. Idempotent.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn bootstrap(
        &self,
        endpoint: &Address,
        request: BootstrapRequest,
    ) -> Result<(), Error> {
        self.router
            .call_once(endpoint, Kind::Write, |channel| {
                let request = request.clone();
                async move { admin(channel).bootstrap(request).await }
            })
            .await
            .map(|_| ())
    }

    /// Tells one server where others are. Idempotent.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn introduce(
        &self,
        endpoint: &Address,
        request: IntroduceRequest,
    ) -> Result<(), Error> {
        self.router
            .call_once(endpoint, Kind::Write, |channel| {
                let request = request.clone();
                async move { admin(channel).introduce(request).await }
            })
            .await
            .map(|_| ())
    }

    /// Makes one server campaign at once.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn trigger_election(
        &self,
        endpoint: &Address,
        request: TriggerElectionRequest,
    ) -> Result<TriggerElectionResponse, Error> {
        self.router
            .call_once(endpoint, Kind::Write, |channel| {
                let request = request.clone();
                async move { admin(channel).trigger_election(request).await }
            })
            .await
    }
}

impl Members {
    /// What one server's status says.
    pub fn from_status(status: &StatusResponse) -> Self {
        let configuration = status.configuration.clone().unwrap_or_default();
        let mut voters = configuration.voters.clone();
        voters.extend(configuration.outgoing.iter().cloned());
        voters.sort();
        voters.dedup();
        let mut learners = configuration.learners.clone();
        learners.retain(|learner| !voters.contains(&learner.server_id));
        learners.sort_by(|a, b| a.server_id.cmp(&b.server_id));
        let voters = voters.into_iter().map(|id| (id, true, String::new()));
        let learners = learners
            .into_iter()
            .map(|l| (l.server_id, false, l.purpose));
        let member = |(id, voter, purpose)| Member::from_status(status, id, voter, purpose);
        Members {
            cluster_id: status.cluster_id.clone(),
            seen_by: own_id(status).to_owned(),
            seen_by_leader: status.role() == Role::Leader && status.serving,
            term: status.term,
            members: voters.chain(learners).map(member).collect(),
            configuration,
        }
    }
}

impl Member {
    fn from_status(status: &StatusResponse, id: String, voter: bool, purpose: String) -> Self {
        let own = status.server.iter();
        let server = own
            .chain(&status.servers)
            .find(|server| server.server_id == id)
            .cloned()
            .unwrap_or_else(|| Server {
                server_id: id.clone(),
                ..Server::default()
            });
        let progress = status
            .progress
            .iter()
            .find(|progress| progress.server_id == id);
        let itself = id == own_id(status);
        let leads = itself && status.role() == Role::Leader;
        let empty = Configuration::default();
        let configuration = status.configuration.as_ref().unwrap_or(&empty);
        Member {
            server,
            voter,
            outgoing: configuration.outgoing.contains(&id) && !configuration.voters.contains(&id),
            leader: status
                .leader
                .as_ref()
                .is_some_and(|leader| leader.server_id == id),
            purpose,
            matched: progress
                .map(|p| p.matched)
                .or(leads.then_some(status.last_index)),
            last_heard_ms: progress
                .filter(|p| p.heard)
                .map(|p| p.last_heard_ms)
                .or(leads.then_some(0)),
        }
    }
}

fn own_id(status: &StatusResponse) -> &str {
    status
        .server
        .as_ref()
        .map_or("", |server| &server.server_id)
}

fn admin(channel: Channel) -> AdminClient<Channel> {
    AdminClient::new(channel)
}
