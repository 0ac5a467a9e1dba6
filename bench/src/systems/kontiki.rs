//! Three kontiki-node processes on loopback in memory mode, made a cluster as the operator does it.

use std::ffi::OsString;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kontiki_proto::kv::{GetRequest, GetResponse, PutRequest, PutResponse};
use kontiki_proto::v1;
use prost::Message;

use crate::generator::{Operation, VALUE_BYTES};
use crate::grpc::{Connection, decode, encode};
use crate::process::Process;

use super::{ASK, Dialect, Kind, Place, START, Server, System, free_addresses, pause};

/// `kontiki.kv.v1.Kv`.
pub struct Kv;

impl Dialect for Kv {
    fn path(&self, operation: Operation) -> &'static str {
        match operation {
            Operation::Put => "/kontiki.kv.v1.Kv/Put",
            Operation::Get => "/kontiki.kv.v1.Kv/Get",
        }
    }

    fn encode(&self, operation: Operation, key: &Bytes, value: &Bytes) -> Bytes {
        match operation {
            Operation::Put => encode(&PutRequest {
                key: key.clone(),
                value: value.clone(),
                ..PutRequest::default()
            }),
            Operation::Get => encode(&GetRequest {
                key: key.clone(),
                consistency: v1::Consistency::Linearizable.into(),
                ..GetRequest::default()
            }),
        }
    }

    fn check(&self, operation: Operation, answer: Bytes) -> Result<()> {
        match operation {
            Operation::Put => {
                let answer: PutResponse = decode(answer)?;
                ensure!(answer.revision > 0, "a put without a revision");
            }
            Operation::Get => {
                let answer: GetResponse = decode(answer)?;
                let hit = answer.found && answer.kv.is_some_and(|kv| kv.value.len() == VALUE_BYTES);
                ensure!(hit, "a read did not hit");
            }
        }
        Ok(())
    }
}

/// Starts three fresh nodes of `binary`, bootstraps and activates them.
pub async fn start(place: &Place, binary: &Path) -> Result<System> {
    start_with(place, binary, "").await
}

/// As [`start`], with a configuration file of these lines for each node, if there are any.
pub async fn start_with(place: &Place, binary: &Path, configuration: &str) -> Result<System> {
    let launched = (0..3).map(|n| launch(place, binary, n, configuration));
    let mut servers = launched.collect::<Result<Vec<_>>>()?;
    let flags = servers[0].arguments.clone();
    let deadline = Instant::now() + START;
    let members = meet(&mut servers, deadline).await?;
    let cluster_id = format!("{:016x}", RandomState::new().build_hasher().finish());
    let bootstrap = v1::BootstrapRequest {
        cluster_id: cluster_id.clone(),
        voters: members.clone(),
    };
    for server in &servers {
        let _: v1::BootstrapResponse = ask(server, "Bootstrap", &bootstrap).await?;
    }
    let introduce = v1::IntroduceRequest {
        cluster_id: cluster_id.clone(),
        servers: members,
    };
    for server in &servers {
        let _: v1::IntroduceResponse = ask(server, "Introduce", &introduce).await?;
    }
    activate(&mut servers, cluster_id, deadline).await?;
    let status: v1::StatusResponse = ask(&servers[0], "Status", &v1::StatusRequest {}).await?;
    Ok(System {
        kind: Kind::Kontiki,
        version: status.version,
        flags,
        servers,
    })
}

/// The server that leads, serves and accepts client writes.
pub async fn leader(servers: &[Server]) -> Option<usize> {
    for (n, server) in servers.iter().enumerate() {
        if status(server)
            .await
            .is_ok_and(|status| leads(&status) && status.activated)
        {
            return Some(n);
        }
    }
    None
}

/// Starts the node of number `n`.
fn launch(place: &Place, binary: &Path, n: usize, configuration: &str) -> Result<Server> {
    let addresses = free_addresses(3)?;
    let (client, peer, http) = (addresses[0], addresses[1], addresses[2]);
    let mut arguments = vec![
        format!("--node-name=n{n}"),
        format!("--listen-client={client}"),
        format!("--listen-peer={peer}"),
        format!("--listen-http={http}"),
        "--advertise-host=127.0.0.1".to_owned(),
        "--machine=kv".to_owned(),
    ];
    if !configuration.is_empty() {
        let file = place.folder.join(format!("n{n}.yaml"));
        std::fs::write(&file, configuration).with_context(|| format!("{}", file.display()))?;
        arguments.push(format!("--config={}", file.display()));
    }
    let os: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    let log = place.folder.join(format!("n{n}.log"));
    let name = format!("kontiki n{n}");
    let process = Process::start(&place.launcher, &name, binary, &os, log)?;
    let server = Server {
        process,
        client,
        admin: peer,
        arguments,
    };
    Ok(server)
}

/// Starts a fresh node of number `n`; it waits to be added.
pub async fn join(place: &Place, binary: &Path, n: usize) -> Result<(Server, v1::Server)> {
    let mut servers = [launch(place, binary, n, "")?];
    let mut members = meet(&mut servers, Instant::now() + START).await?;
    let [server] = servers;
    let member = members.pop().context("one was asked")?;
    Ok((server, member))
}

/// Starts a fresh node of number `number` in the place of `lost`, whose process is dead, and waits until
/// it votes instead.
pub async fn replace(
    place: &Place,
    binary: &Path,
    servers: &mut [Server],
    (lost, number): (usize, usize),
) -> Result<()> {
    let (fresh, member) = join(place, binary, number).await?;
    let fresh_id = member.server_id.clone();
    servers[lost] = fresh;
    let deadline = Instant::now() + START;
    loop {
        if let Some(leader) = leader(servers).await
            && let Ok(status) = status(&servers[leader]).await
        {
            let configuration = status.configuration.unwrap_or_default();
            let live = ids(servers).await;
            let is_whole = live.len() == servers.len()
                && configuration.committed
                && configuration.outgoing.is_empty()
                && configuration.voters.len() == live.len()
                && configuration.voters.iter().all(|id| live.contains(id));
            if is_whole && is_ready(&servers[lost]).await {
                return Ok(());
            }
            let has_begun = configuration
                .learners
                .iter()
                .any(|l| l.server_id == fresh_id);
            let gone = configuration.voters.iter().find(|id| !live.contains(*id));
            if let Some(gone) = gone.filter(|_| !has_begun && live.len() == servers.len()) {
                let request = v1::ReplaceServerRequest {
                    cluster_id: status.cluster_id,
                    lost: gone.clone(),
                    server: Some(member.clone()),
                    no_wait: true,
                    ..v1::ReplaceServerRequest::default()
                };
                // Refused if leadership has just gone: then the next one is asked.
                let _ =
                    ask::<v1::ChangeResponse>(&servers[leader], "ReplaceServer", &request).await;
            }
        }
        pause(
            deadline,
            servers,
            "a node does not take the place of a lost one",
        )
        .await?;
    }
}

/// Ids of the servers that answer.
async fn ids(servers: &[Server]) -> Vec<String> {
    let mut ids = Vec::new();
    for server in servers {
        let known = status(server).await.ok().and_then(|status| status.server);
        ids.extend(known.map(|known| known.server_id));
    }
    ids
}

async fn is_ready(server: &Server) -> bool {
    status(server).await.is_ok_and(|status| status.ready)
}

/// Who the fresh servers are.
async fn meet(servers: &mut [Server], deadline: Instant) -> Result<Vec<v1::Server>> {
    let mut members = Vec::new();
    while members.len() < servers.len() {
        let n = members.len();
        match ask::<v1::PingResponse>(&servers[n], "Ping", &v1::PingRequest {}).await {
            Ok(answer) => {
                let known = answer
                    .server
                    .context("a Ping is answered without a server")?;
                ensure!(
                    !known.server_id.is_empty(),
                    "a Ping is answered without a server id"
                );
                let server = &servers[n];
                members.push(member(known, server.admin, server.client));
            }
            Err(_) => pause(deadline, servers, "a node does not answer").await?,
        }
    }
    Ok(members)
}

fn member(known: v1::Server, peer: SocketAddr, client: SocketAddr) -> v1::Server {
    v1::Server {
        peer_address: peer.to_string(),
        client_address: client.to_string(),
        ..known
    }
}

/// Commits the entry from which writes are accepted, and waits until all servers have it.
async fn activate(servers: &mut [Server], cluster_id: String, deadline: Instant) -> Result<()> {
    let request = v1::ActivateRequest { cluster_id };
    loop {
        let mut activated = 0;
        for server in &*servers {
            let Ok(status) = status(server).await else {
                continue;
            };
            if status.activated {
                activated += 1;
            } else if leads(&status) {
                // Refused if its leadership has just gone: then the next one is asked.
                let _ = ask::<v1::ActivateResponse>(server, "Activate", &request).await;
            }
        }
        if activated == servers.len() {
            return Ok(());
        }
        pause(
            deadline,
            servers,
            "the nodes do not become an activated cluster",
        )
        .await?;
    }
}

fn leads(status: &v1::StatusResponse) -> bool {
    status.role() == v1::Role::Leader && status.serving
}

/// What a server says of itself.
pub async fn status(server: &Server) -> Result<v1::StatusResponse> {
    ask(server, "Status", &v1::StatusRequest {}).await
}

/// One call of `kontiki.v1.Admin`.
pub async fn ask<T: Message + Default>(
    server: &Server,
    method: &str,
    request: &impl Message,
) -> Result<T> {
    let question = async {
        let mut connection = Connection::open(server.admin, ASK).await?;
        anyhow::Ok(
            connection
                .unary(&format!("/kontiki.v1.Admin/{method}"), request)
                .await?,
        )
    };
    let answer = tokio::time::timeout(ASK, question)
        .await
        .map_err(anyhow::Error::from)
        .flatten();
    answer.with_context(|| format!("{method} of {}", server.process.name()))
}

#[cfg(test)]
mod tests {
    use kontiki_proto::kv::KeyValue;

    use super::*;

    #[test]
    fn a_read_that_does_not_hit_is_an_error() {
        let check = |found, bytes: usize| {
            let kv = KeyValue {
                value: vec![1; bytes].into(),
                ..Default::default()
            };
            Kv.check(
                Operation::Get,
                encode(&GetResponse {
                    found,
                    kv: Some(kv),
                    revision: 1,
                    ..GetResponse::default()
                }),
            )
        };
        check(true, VALUE_BYTES).unwrap();
        assert!(check(false, VALUE_BYTES).is_err());
        assert!(check(true, VALUE_BYTES - 1).is_err());
        assert!(
            Kv.check(Operation::Put, encode(&PutResponse::default()))
                .is_err()
        );
    }
}
