//! Tells the servers of a configuration where the others are, so that each can reach each though it
//! was one server alone that added them. Addresses are hints: what is not delivered is delivered with
//! the next change, by an operator, or learned when the other dials.

use std::time::Duration;

use futures::future::join_all;
use kontiki_proto::v1::admin_client::AdminClient;
use kontiki_proto::v1::{IntroduceRequest, PingResponse, Server};
use kontiki_raft::ServerId;
use tokio::time::timeout;
use tonic::Status;

use crate::address_book::ServerRef;
use crate::bootstrap::ping;
use crate::driver::Input;
use crate::handle::Handle;
use crate::peer::endpoint;

/// How long a server may take to take note.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// A server as `kontiki.v1` describes it.
pub(crate) fn wire(server: &ServerRef) -> Server {
    Server {
        server_id: server.id.to_string(),
        node: server.name.clone(),
        peer_address: server.peer_address.clone(),
        client_address: server.client_address.clone(),
    }
}

/// Introduces `servers` to each other, all at once, each attempted once.
pub(crate) async fn introduce(handle: &Handle, servers: &[ServerRef]) {
    let reachable = |server: &&ServerRef| !server.peer_address.is_empty();
    let known: Vec<_> = servers.iter().filter(reachable).collect();
    let request = IntroduceRequest {
        cluster_id: handle
            .cluster()
            .map(|id| id.to_string())
            .unwrap_or_default(),
        servers: known.iter().map(|server| wire(server)).collect(),
    };
    let others = known.iter().filter(|server| server.id != handle.server);
    join_all(others.map(async |server| {
        let call = tell(&server.peer_address, request.clone());
        if let Ok(Err(status)) = timeout(CALL_TIMEOUT, call).await {
            tracing::debug!(peer = %server.id, %status, "is not told where the others are");
        }
    }))
    .await;
}

/// Asks a server that is to be added which versions of the machine it runs, and tells the driver. The
/// server at the address may be another by now: then nothing is learnt.
pub(crate) async fn ask_versions(handle: &Handle, server: &ServerRef) {
    let known = handle.book.find(server.id).peer_address;
    let address = match server.peer_address.is_empty() {
        true => &known,
        false => &server.peer_address,
    };
    if address.is_empty() {
        return;
    }
    match ping(address).await {
        Ok(answer) => learn_versions(handle, server.id, &answer),
        Err(status) => tracing::debug!(server = %server.id, %status, "does not say what it runs"),
    }
}

/// What a server says of its versions, for the driver.
pub(crate) fn learn_versions(handle: &Handle, server: ServerId, answer: &PingResponse) {
    let named = answer.server.as_ref();
    let is_it = named.is_some_and(|named| named.server_id == server.to_string());
    let versions = answer.machine_versions_min..=answer.machine_versions_max;
    if is_it && *versions.start() > 0 && !versions.is_empty() {
        // If the queue is full, the change that follows is refused for the same reason.
        drop(handle.submit(Input::Runs { server, versions }));
    }
}

async fn tell(address: &str, request: IntroduceRequest) -> Result<(), Status> {
    let unreachable = |error| Status::unavailable(format!("{address}: {error}"));
    let channel = endpoint(address).map_err(unreachable)?.connect().await;
    let mut client = AdminClient::new(channel.map_err(unreachable)?);
    client.introduce(request).await.map(drop)
}
