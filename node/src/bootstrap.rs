//! How embedded servers become a cluster without an operator (ExRaft's `initial_config`).
//!
//! The server with the smallest name asks all that are listed who they are. Only if all answer that
//! they were never initialised, with the same list, does it draw a cluster and send everyone the
//! configuration of exact ids. If any is initialised, this one is a fresh incarnation: it waits to
//! be added. Without a list a server is a cluster of its own, unless `min_majority` says that one is
//! not enough: then it waits to be added, too.

use std::time::Duration;

use futures::future::join_all;
use kontiki_proto::v1::admin_client::AdminClient;
use kontiki_proto::v1::{BootstrapRequest, PingRequest, PingResponse, Server};
use kontiki_raft::{ClusterId, ServerId};
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::address_book::ServerRef;
use crate::driver::Input;
use crate::handle::Handle;
use crate::introduce::wire;
use crate::peer::endpoint;

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// How long another server may take to answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// A random id; never 0, which stands for none.
pub fn draw_id() -> u64 {
    rand::random::<u64>().max(1)
}

/// Asks the server at an address who it is.
///
/// # Errors
/// It cannot be reached within a second, or is none of ours.
pub(crate) async fn ping(address: &str) -> Result<PingResponse, Status> {
    let late = |_| Status::deadline_exceeded(format!("no answer from {address}"));
    let call = async {
        let unreachable = |error| Status::unavailable(format!("{address}: {error}"));
        let channel = endpoint(address).map_err(unreachable)?.connect().await;
        let mut client = AdminClient::new(channel.map_err(unreachable)?);
        Ok(client.ping(PingRequest {}).await?.into_inner())
    };
    timeout(CALL_TIMEOUT, call).await.map_err(late)?
}

/// What the others say.
enum Survey {
    /// All fresh, and of the same mind: who they are.
    Agreed(Vec<Server>),
    /// Not all answer yet.
    Incomplete,
    /// One belongs to a cluster.
    Initialised(String),
    /// One was started with another list.
    Differs(String),
}

/// Makes a cluster of the servers listed, as (name, peer address); see the top of this file.
pub(crate) async fn bootstrap(handle: Handle, initial: Vec<(String, String)>, min_majority: usize) {
    if initial.is_empty() {
        if min_majority <= 1 {
            let voters = vec![handle.server];
            begin(&handle, ClusterId(draw_id()), voters).await;
        }
        return;
    }
    let smallest = initial.iter().map(|(name, _)| name).min();
    if smallest != Some(&handle.book.me().name) {
        return;
    }
    let mut complained = false;
    // Until the node ends, or somebody makes it a member: ExRaft's servers wait for each other, too.
    while handle.cluster().is_none() {
        match survey(&handle, &initial).await {
            Survey::Agreed(servers) => return found(&handle, servers).await,
            Survey::Initialised(name) => {
                tracing::info!(server = name, "is initialised; waits to be added");
                return;
            }
            Survey::Differs(name) if !complained => {
                complained = true;
                tracing::warn!(server = name, "was started with another initial_config");
            }
            Survey::Differs(_) | Survey::Incomplete => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn survey(handle: &Handle, initial: &[(String, String)]) -> Survey {
    let others = initial
        .iter()
        .filter(|(name, _)| *name != handle.book.me().name);
    let answers = join_all(others.map(async |(name, address)| (name, ping(address).await))).await;
    let me = handle.book.me();
    let mut servers = vec![wire(me)];
    for (name, answer) in answers {
        let Ok(answer) = answer else {
            return Survey::Incomplete;
        };
        let Some(server) = answer.server else {
            return Survey::Incomplete;
        };
        if !answer.cluster_id.is_empty() {
            return Survey::Initialised(name.clone());
        }
        let listed = answer.initial_config.into_iter();
        let mut theirs: Vec<_> = listed.map(|one| (one.node, one.peer_address)).collect();
        let mut ours = initial.to_vec();
        theirs.sort();
        ours.sort();
        if theirs != ours {
            return Survey::Differs(name.clone());
        }
        servers.push(server);
    }
    Survey::Agreed(servers)
}

/// Draws a cluster and tells everyone. From here on the list of ids never changes, so telling twice
/// is harmless.
async fn found(handle: &Handle, servers: Vec<Server>) {
    let cluster = ClusterId(draw_id());
    let mut voters = Vec::new();
    for server in &servers {
        let Ok(id) = server.server_id.parse::<ServerId>() else {
            tracing::warn!(id = server.server_id, "is no server id");
            return;
        };
        voters.push(id);
        handle.book.learn(ServerRef {
            id,
            name: server.node.clone(),
            peer_address: server.peer_address.clone(),
            client_address: server.client_address.clone(),
        });
    }
    let others = servers.iter().skip(1);
    let told = others.map(|server| tell(server, cluster, &servers));
    tokio::join!(begin(handle, cluster, voters), join_all(told));
}

async fn begin(handle: &Handle, cluster: ClusterId, voters: Vec<ServerId>) {
    let input = |reply| Input::Bootstrap {
        cluster,
        voters,
        reply,
    };
    match handle.ask(CALL_TIMEOUT, input).await {
        Ok(_) => tracing::info!(%cluster, "bootstrapped"),
        Err(failure) => tracing::warn!(%failure, "is not bootstrapped"),
    }
}

/// Tells one server until it has heard: it may be slow, or its answer may get lost.
async fn tell(server: &Server, cluster: ClusterId, voters: &[Server]) {
    loop {
        let request = BootstrapRequest {
            cluster_id: cluster.to_string(),
            voters: voters.to_vec(),
        };
        let call = async {
            let address = &server.peer_address;
            let unreachable = |error| Status::unavailable(format!("{address}: {error}"));
            let channel = endpoint(address).map_err(unreachable)?.connect().await;
            let mut client = AdminClient::new(channel.map_err(unreachable)?);
            client.bootstrap(request).await
        };
        match timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(_)) => return,
            Ok(Err(status)) if status.code() == Code::FailedPrecondition => {
                // Another incarnation by now, or a member of something else: an operator's matter.
                tracing::warn!(server = server.node, %status, "is not bootstrapped");
                return;
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}
