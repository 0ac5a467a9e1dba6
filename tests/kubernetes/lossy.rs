//! A proxy of `Kv` that refuses as servers do, and loses requests and answers as a broken connection
//! does.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use kontiki_client::proto::kv::kv_server::{Kv, KvServer};
use kontiki_client::proto::kv::{
    DeleteRequest, DeleteResponse, GetRequest, GetResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, WatchRequest, WatchResponse,
};
use kontiki_client::proto::{ERROR_DOMAIN, metadata, reason};
use kontiki_client::{Client, Consistency, Error};
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// What becomes of a put or get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Pass,
    /// A server says that it has failed, and may be sent again.
    Refuse,
    /// A server says that it is wrong in itself.
    RefuseForGood,
    /// It never arrives.
    LoseRequest,
    /// It is done, and nobody hears of it.
    LoseAnswer,
    /// It is done, nobody hears of it, and then somebody else writes the key.
    LoseAnswerAndOverwrite,
}

impl Fate {
    /// How a call ends that does not get through.
    fn before(self) -> Result<(), Status> {
        let (code, reason) = match self {
            Fate::Refuse => (Code::Unavailable, reason::NO_LEADER),
            Fate::RefuseForGood => (Code::InvalidArgument, reason::INVALID),
            Fate::LoseRequest => return Err(broken()),
            Fate::Pass | Fate::LoseAnswer | Fate::LoseAnswerAndOverwrite => return Ok(()),
        };
        let metadata = [(metadata::OUTCOME.to_owned(), "FAILED".to_owned())];
        let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, metadata);
        Err(Status::with_error_details(code, "refused", details))
    }

    /// How a call ends that was done.
    fn after<T>(self, answer: T) -> Result<Response<T>, Status> {
        match self {
            Fate::Pass => Ok(Response::new(answer)),
            _ => Err(broken()),
        }
    }
}

#[derive(Debug)]
struct Inner {
    to: Client,
    /// For the calls to come; then all pass.
    script: Mutex<VecDeque<Fate>>,
    puts: Mutex<usize>,
}

/// The proxy, on a port of loopback; gone when dropped.
pub struct Proxy {
    pub endpoint: String,
    inner: Arc<Inner>,
    server: JoinHandle<()>,
}

impl Proxy {
    /// In front of the servers behind `endpoints`.
    pub fn start(endpoints: &[String]) -> Result<Self> {
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())?;
        let endpoint = incoming.local_addr()?.to_string();
        let inner = Arc::new(Inner {
            to: Client::new(endpoints)?,
            script: Mutex::default(),
            puts: Mutex::default(),
        });
        let service = KvServer::new(Service(inner.clone()));
        let server = tokio::spawn(async move {
            let server = Server::builder().add_service(service);
            if let Err(error) = server.serve_with_incoming(incoming).await {
                println!("  the proxy ended: {error}");
            }
        });
        Ok(Proxy {
            endpoint,
            inner,
            server,
        })
    }

    /// What is to become of the next calls.
    pub fn script(&self, script: &[Fate]) {
        *self.inner.script.lock().expect("no holder panics") = script.iter().copied().collect();
    }

    /// Puts that it was asked for since it was last asked this.
    pub fn take_puts(&self) -> usize {
        std::mem::take(&mut *self.inner.puts.lock().expect("no holder panics"))
    }

    /// Whether all of its script has happened.
    pub fn script_is_done(&self) -> bool {
        let script = self.inner.script.lock().expect("no holder panics");
        script.is_empty()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Service(Arc<Inner>);

/// What gRPC makes of a connection that breaks: a code, and no detail of ours.
fn broken() -> Status {
    Status::unavailable("the connection broke")
}

/// The cluster behind it is well, so this is not expected.
fn unexpected(error: Error) -> Status {
    Status::internal(format!("behind the proxy: {error}"))
}

impl Service {
    fn next(&self) -> Fate {
        let mut script = self.0.script.lock().expect("no holder panics");
        script.pop_front().unwrap_or(Fate::Pass)
    }
}

#[tonic::async_trait]
impl Kv for Service {
    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        *self.0.puts.lock().expect("no holder panics") += 1;
        let fate = self.next();
        fate.before()?;
        let PutRequest {
            key,
            value,
            if_mod_revision,
            ..
        } = request.into_inner();
        let to = &self.0.to;
        let answer = match if_mod_revision {
            None => to.put(key.clone(), value).await,
            Some(revision) => to.put_if(key.clone(), value, revision).await,
        }
        .map_err(unexpected)?;
        if fate == Fate::LoseAnswerAndOverwrite {
            let put = to.put(key, "somebody else's").await;
            put.map_err(unexpected)?;
        }
        fate.after(answer)
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let fate = self.next();
        fate.before()?;
        let key = request.into_inner().key;
        let answer = self.0.to.get(key, Consistency::Linearizable).await;
        fate.after(answer.map_err(unexpected)?)
    }

    async fn delete(&self, _: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        Err(Status::unimplemented("not through the proxy"))
    }

    type WatchStream = futures::stream::Empty<Result<WatchResponse, Status>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("not through the proxy"))
    }

    async fn range(&self, _: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        Err(Status::unimplemented("not through the proxy"))
    }
}
