//! Three etcd servers on loopback, data on a tmpfs, no fsync: as much in memory as etcd can be.
//!
//! The messages are the few fields that are used of `etcdserverpb` and `mvccpb`, written by hand;
//! tags are those of etcd 3.6's `rpc.proto` and `kv.proto`.

use std::ffi::OsString;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;

use crate::generator::{Operation, VALUE_BYTES};
use crate::grpc::{Connection, decode, encode};
use crate::process::Process;

use super::{ASK, Dialect, Kind, Place, START, Server, System, free_addresses, pause};

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
    #[prost(int64, tag = "3")]
    revision: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

/// Without `serializable` a range is linearizable; without `range_end` it is one key.
#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(int64, tag = "3")]
    mod_revision: i64,
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(string, tag = "2")]
    version: String,
    /// Member id, 0: none.
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// `etcdserverpb.KV`.
pub struct Kv;

impl Dialect for Kv {
    fn path(&self, operation: Operation) -> &'static str {
        match operation {
            Operation::Put => "/etcdserverpb.KV/Put",
            Operation::Get => "/etcdserverpb.KV/Range",
        }
    }

    fn encode(&self, operation: Operation, key: &Bytes, value: &Bytes) -> Bytes {
        match operation {
            Operation::Put => encode(&PutRequest {
                key: key.clone(),
                value: value.clone(),
            }),
            Operation::Get => encode(&RangeRequest { key: key.clone() }),
        }
    }

    fn check(&self, operation: Operation, answer: Bytes) -> Result<()> {
        match operation {
            Operation::Put => {
                let answer: PutResponse = decode(answer)?;
                ensure!(
                    answer.header.is_some_and(|h| h.revision > 0),
                    "a put without a revision"
                );
            }
            Operation::Get => {
                let answer: RangeResponse = decode(answer)?;
                let hit = matches!(&answer.kvs[..], [kv] if kv.value.len() == VALUE_BYTES);
                ensure!(hit, "a read did not hit");
            }
        }
        Ok(())
    }
}

/// Starts three servers of `binary`, and waits until all follow one leader.
pub async fn start(place: &Place, binary: &Path) -> Result<System> {
    // Client and peer port of each.
    let addresses = free_addresses(6)?;
    let initial_cluster: Vec<String> = (0..3)
        .map(|n| format!("n{n}=http://{}", addresses[3 + n]))
        .collect();
    let initial_cluster = initial_cluster.join(",");
    let mut servers = Vec::new();
    for n in 0..3 {
        let (client, peer) = (addresses[n], addresses[3 + n]);
        let folder = place.folder.join(format!("n{n}"));
        let arguments = [
            format!("--name=n{n}"),
            format!("--data-dir={}", folder.display()),
            format!("--listen-client-urls=http://{client}"),
            format!("--advertise-client-urls=http://{client}"),
            format!("--listen-peer-urls=http://{peer}"),
            format!("--initial-advertise-peer-urls=http://{peer}"),
            format!("--initial-cluster={initial_cluster}"),
            "--initial-cluster-state=new".to_owned(),
            // History is not compacted within a run; the default quota would end a long one.
            "--quota-backend-bytes=8589934592".to_owned(),
            "--log-level=warn".to_owned(),
            "--unsafe-no-fsync".to_owned(),
        ];
        servers.push(Server {
            process: launch(place, binary, n, &arguments)?,
            client,
            admin: client,
            arguments: arguments.to_vec(),
        });
    }
    let version = await_one_leader(&mut servers).await?;
    Ok(System {
        kind: Kind::Etcd,
        version,
        flags: servers[0].arguments.clone(),
        servers,
    })
}

fn launch(place: &Place, binary: &Path, n: usize, arguments: &[String]) -> Result<Process> {
    let os: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    let log = place.folder.join(format!("n{n}.log"));
    Process::start(&place.launcher, &format!("etcd n{n}"), binary, &os, log)
}

/// Starts the member again whose process is dead, from its data, and waits until all follow one leader.
pub async fn restart(
    place: &Place,
    binary: &Path,
    servers: &mut [Server],
    lost: usize,
) -> Result<()> {
    servers[lost].process = launch(place, binary, lost, &servers[lost].arguments)?;
    await_one_leader(servers).await.map(drop)
}

/// Waits until all follow one leader; answers the version that they run.
async fn await_one_leader(servers: &mut [Server]) -> Result<String> {
    let deadline = Instant::now() + START;
    loop {
        let status = statuses(servers).await;
        let first = status[0].as_ref().map(|s| (s.leader, s.version.clone()));
        if let Some((leader, version)) = first
            && leader != 0
            && status
                .iter()
                .all(|s| s.as_ref().is_some_and(|s| s.leader == leader))
        {
            return Ok(version);
        }
        pause(deadline, servers, "etcd's servers do not follow one leader").await?;
    }
}

/// The server that says that it leads.
pub async fn leader(servers: &[Server]) -> Option<usize> {
    statuses(servers).await.iter().position(|status| {
        status.as_ref().is_some_and(|status| {
            status.leader != 0 && status.header.is_some_and(|h| h.member_id == status.leader)
        })
    })
}

async fn statuses(servers: &[Server]) -> Vec<Option<StatusResponse>> {
    let mut statuses = Vec::new();
    for server in servers {
        statuses.push(status(server).await.ok());
    }
    statuses
}

async fn status(server: &Server) -> Result<StatusResponse> {
    let mut connection = Connection::open(server.admin, ASK)
        .await
        .context("connect")?;
    let question = connection.unary("/etcdserverpb.Maintenance/Status", &StatusRequest {});
    Ok(tokio::time::timeout(ASK, question).await??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_does_not_hit_is_an_error() {
        let header = Some(ResponseHeader {
            member_id: 1,
            revision: 3,
        });
        let kv = |bytes: usize| KeyValue {
            value: vec![1; bytes].into(),
            ..Default::default()
        };
        let check = |kvs| Kv.check(Operation::Get, encode(&RangeResponse { header, kvs }));
        check(vec![kv(VALUE_BYTES)]).unwrap();
        assert!(check(vec![]).is_err());
        assert!(check(vec![kv(VALUE_BYTES - 1)]).is_err());
        assert!(
            Kv.check(Operation::Put, encode(&PutResponse { header: None }))
                .is_err()
        );
    }

    #[test]
    fn requests_are_on_the_wire_as_etcd_reads_them() {
        let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"v"));
        let put = Kv.encode(Operation::Put, &key, &value);
        assert_eq!(&put[..], [0, 0, 0, 0, 6, 0x0a, 1, b'k', 0x12, 1, b'v']);
        let get = Kv.encode(Operation::Get, &key, &value);
        assert_eq!(&get[..], [0, 0, 0, 0, 3, 0x0a, 1, b'k']);
    }
}
