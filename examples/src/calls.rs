//! Everything that the stories ask of servers and processes, behind one trait, so that a test can
//! put a fault between the story and what it looks at.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use anyhow::{Context, anyhow};
use futures::TryStreamExt;
use kontiki_client::{Address, Admin, Client, Consistency, Range};
use kontiki_proto::v1::data_client::DataClient;
use kontiki_proto::v1::{ReadRequest, WriteRequest, WriteResponse};
use kontiki_proto::{metadata, reason};
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

use crate::process::Process;
use crate::sight::Sight;

/// Keys and values of the `kv` machine, as text.
pub type Pairs = BTreeMap<String, String>;

/// What a server answers to a write.
#[derive(Clone, Debug)]
pub enum WriteAnswer {
    /// It is replicated and applied.
    Accepted(WriteResponse),
    /// The server does not lead, and nothing was done; this one leads (ExRaft's redirect).
    Redirected {
        /// Its id.
        leader: String,
        /// Its client address.
        address: String,
    },
}

/// The calls.
#[tonic::async_trait]
pub trait Calls: Send + Sync {
    /// `Admin.Status` of the server with this peer address.
    async fn status(&self, peer: &Address) -> anyhow::Result<Sight>;
    /// `Data.Write` to the server with this client address, and to no other.
    async fn write(&self, client: &str, command: &str) -> anyhow::Result<WriteAnswer>;
    /// `Data.Read` from the server with this client address, and from no other.
    async fn read(&self, client: &str, query: &[u8], how: Consistency) -> anyhow::Result<String>;
    /// `Kv.Put`, wherever the leader is; answers with the revision.
    async fn put(&self, cluster: &Client, key: &str, value: &str) -> anyhow::Result<u64>;
    /// `Kv.Range` over all keys, linearizably, wherever the leader is.
    async fn pairs(&self, cluster: &Client) -> anyhow::Result<Pairs>;
    /// `Kv.Range` over all keys that one server has applied.
    async fn pairs_at(&self, cluster: &Client, at: &Address) -> anyhow::Result<Pairs>;
    /// SIGKILL.
    async fn kill(&self, process: Process) -> anyhow::Result<()>;
}

/// The calls as they are: gRPC and signals.
#[derive(Debug, Default)]
pub struct Real {
    admin: OnceLock<Admin>,
}

/// Attempts at a put whose outcome is not known. Putting the same value again is harmless.
const PUT_ATTEMPTS_MAX: u32 = 5;

#[tonic::async_trait]
impl Calls for Real {
    async fn status(&self, peer: &Address) -> anyhow::Result<Sight> {
        let admin = match self.admin.get() {
            Some(admin) => admin,
            None => {
                let admin = Admin::new([peer.as_str()])?;
                self.admin.get_or_init(|| admin)
            }
        };
        Ok(Sight(admin.status_of(peer).await?))
    }

    async fn write(&self, client: &str, command: &str) -> anyhow::Result<WriteAnswer> {
        let command = command.as_bytes().to_vec().into();
        let request = WriteRequest {
            command,
            ..Default::default()
        };
        let status = match data(client).await?.write(request).await {
            Ok(written) => return Ok(WriteAnswer::Accepted(written.into_inner())),
            Err(status) => status,
        };
        let redirect = status
            .get_details_error_info()
            .filter(|info| info.reason == reason::NOT_LEADER);
        let Some(info) = redirect else {
            return Err(anyhow!("write to {client}: {status}"));
        };
        let get = |key| info.metadata.get(key).cloned().unwrap_or_default();
        Ok(WriteAnswer::Redirected {
            leader: get(metadata::LEADER_ID),
            address: get(metadata::LEADER_ADDRESS),
        })
    }

    async fn read(&self, client: &str, query: &[u8], how: Consistency) -> anyhow::Result<String> {
        let request = ReadRequest {
            query: query.to_vec().into(),
            consistency: i32::from(how),
            ..ReadRequest::default()
        };
        let answer = data(client).await?.read(request).await;
        let answer = answer
            .with_context(|| format!("read from {client}"))?
            .into_inner();
        String::from_utf8(answer.reply.to_vec()).context("the reply is no text")
    }

    async fn put(&self, cluster: &Client, key: &str, value: &str) -> anyhow::Result<u64> {
        let mut attempts = 1;
        loop {
            match cluster.put(key.to_owned(), value.to_owned()).await {
                Ok(put) => return Ok(put.revision),
                Err(error) if error.is_unknown() && attempts < PUT_ATTEMPTS_MAX => attempts += 1,
                Err(error) => return Err(error).with_context(|| format!("put of {key:?}")),
            }
        }
    }

    async fn pairs(&self, cluster: &Client) -> anyhow::Result<Pairs> {
        collect(cluster.range(Range::all(), Consistency::Linearizable)).await
    }

    async fn pairs_at(&self, cluster: &Client, at: &Address) -> anyhow::Result<Pairs> {
        collect(cluster.range_at(at, Range::all(), Consistency::Stale)).await
    }

    async fn kill(&self, process: Process) -> anyhow::Result<()> {
        let sent = process.signal(rustix::process::Signal::KILL);
        sent.with_context(|| format!("kill -9 {}", process.pid))
    }
}

async fn data(client: &str) -> anyhow::Result<DataClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{client}"));
    let endpoint = endpoint.with_context(|| format!("client address {client:?}"))?;
    let channel = endpoint
        .connect()
        .await
        .with_context(|| format!("connect to {client}"))?;
    Ok(DataClient::new(channel))
}

async fn collect(mut pages: kontiki_client::Pages) -> anyhow::Result<Pairs> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut pairs = Pairs::new();
    while let Some(page) = pages.try_next().await? {
        pairs.extend(page.kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))));
    }
    Ok(pairs)
}
