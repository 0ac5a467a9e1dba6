//! Scripted servers on loopback: each answers puts as its script says, and remembers what it saw.

#![allow(dead_code)] // each test program uses a part of it

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kontiki_client::proto::kv::kv_server::{Kv, KvServer};
use kontiki_client::proto::kv::*;
use kontiki_client::proto::{ERROR_DOMAIN, metadata, reason};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// How a scripted server answers one request.
#[derive(Debug, Clone)]
pub enum Say {
    Ok,
    /// An error with our detail.
    Failed(Code, &'static str),
    /// NOT_LEADER naming this address.
    Redirect(String),
    /// A status without our detail.
    Bare(Code),
    /// No answer, ever.
    Silence,
}

#[derive(Debug, Default)]
pub struct State {
    pub script: VecDeque<Say>,
    /// When the script is used up. `None`: Ok.
    pub then: Option<Say>,
    pub puts: Vec<Vec<u8>>,
    pub gets: u64,
    pub revision: u64,
    pub store: BTreeMap<Vec<u8>, (Vec<u8>, u64)>,
    /// Store without these in what it reads.
    pub loses: Vec<Vec<u8>>,
    pub stale_reads: u64,
    /// Watches in the order in which they are asked for: what each says, and how it ends; `None`: not.
    pub watches: VecDeque<(Vec<WatchResponse>, Option<Status>)>,
    /// What they asked.
    pub watched: Vec<WatchRequest>,
}

impl State {
    fn find(&self, key: &[u8]) -> Option<KeyValue> {
        self.store.get(key).map(|(value, revision)| KeyValue {
            key: key.to_vec().into(),
            value: value.clone().into(),
            create_revision: *revision,
            mod_revision: *revision,
        })
    }

    /// The key as it is, if it is not as the request names it.
    fn mismatch(&self, key: &[u8], if_mod_revision: Option<u64>) -> Option<Option<KeyValue>> {
        let current = self.find(key);
        let at = current.as_ref().map_or(0, |kv| kv.mod_revision);
        if_mod_revision
            .is_some_and(|wanted| wanted != at)
            .then_some(current)
    }
}

#[derive(Debug, Clone, Default)]
pub struct Server {
    pub state: Arc<Mutex<State>>,
}

pub fn failed(code: Code, reason: &str, leader: Option<&str>) -> Status {
    let mut meta = HashMap::from([(metadata::OUTCOME.to_owned(), "FAILED".to_owned())]);
    if let Some(leader) = leader {
        meta.insert(metadata::LEADER_ADDRESS.to_owned(), leader.to_owned());
        meta.insert(metadata::LEADER_PEER_ADDRESS.to_owned(), leader.to_owned());
    }
    let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, meta);
    Status::with_error_details(code, format!("scripted {reason}"), details)
}

impl Server {
    pub fn new(script: impl IntoIterator<Item = Say>, then: Option<Say>) -> Self {
        let server = Server::default();
        {
            let mut state = server.state.lock().unwrap();
            state.script = script.into_iter().collect();
            state.then = then;
        }
        server
    }

    pub fn puts(&self) -> usize {
        self.state.lock().unwrap().puts.len()
    }

    /// Serves on a free port of loopback.
    pub async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.serve_on(listener)
    }

    pub fn serve_on(&self, listener: TcpListener) -> String {
        let address = listener.local_addr().unwrap();
        let service = KvServer::new(self.clone());
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        address.to_string()
    }

    async fn say(&self) -> Result<(), Status> {
        let say = {
            let mut state = self.state.lock().unwrap();
            state
                .script
                .pop_front()
                .or(state.then.clone())
                .unwrap_or(Say::Ok)
        };
        match say {
            Say::Ok => Ok(()),
            Say::Failed(code, reason) => Err(failed(code, reason, None)),
            Say::Redirect(leader) => Err(failed(
                Code::FailedPrecondition,
                "NOT_LEADER",
                Some(&leader),
            )),
            Say::Bare(code) => Err(Status::new(code, "a proxy speaks")),
            Say::Silence => std::future::pending().await,
        }
    }
}

#[tonic::async_trait]
impl Kv for Server {
    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let put = request.into_inner();
        self.state.lock().unwrap().puts.push(put.key.to_vec());
        self.say().await?;
        let mut state = self.state.lock().unwrap();
        if let Some(current) = state.mismatch(&put.key, put.if_mod_revision) {
            return Ok(Response::new(PutResponse {
                revision: state.revision,
                mismatch: true,
                current,
            }));
        }
        state.revision += 1;
        let revision = state.revision;
        state
            .store
            .insert(put.key.to_vec(), (put.value.to_vec(), revision));
        Ok(Response::new(PutResponse {
            revision,
            ..PutResponse::default()
        }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let get = request.into_inner();
        self.state.lock().unwrap().gets += 1;
        self.say().await?;
        let state = self.state.lock().unwrap();
        let kv = state.find(&get.key);
        Ok(Response::new(GetResponse {
            found: kv.is_some(),
            kv,
            revision: state.revision,
            ..GetResponse::default()
        }))
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteResponse>, Status> {
        let delete = request.into_inner();
        self.say().await?;
        let mut state = self.state.lock().unwrap();
        if let Some(current) = state.mismatch(&delete.key, delete.if_mod_revision) {
            return Ok(Response::new(DeleteResponse {
                revision: state.revision,
                mismatch: true,
                current,
                deleted: false,
            }));
        }
        state.revision += 1;
        let deleted = state.store.remove(&delete.key[..]).is_some();
        Ok(Response::new(DeleteResponse {
            deleted,
            revision: state.revision,
            ..DeleteResponse::default()
        }))
    }

    type WatchStream = futures::stream::BoxStream<'static, Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        use futures::StreamExt;
        use futures::stream::{iter, pending};
        let mut state = self.state.lock().unwrap();
        state.watched.push(request.into_inner());
        let (says, end) = state.watches.pop_front().unwrap_or_default();
        let says = iter(says).map(Ok);
        Ok(Response::new(match end {
            Some(status) => says.chain(iter([Err(status)])).boxed(),
            None => says.chain(pending()).boxed(),
        }))
    }

    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        /// So that ranges have pages.
        const PAGE_MAX: usize = 3;
        let mut range = request.into_inner();
        self.say().await?;
        // A token is the next key and the end, with a zero between them.
        if !range.continuation.is_empty() {
            assert!(range.start.is_empty() && range.end.is_empty());
            let zero = range.continuation.iter().position(|byte| *byte == 0);
            let zero =
                zero.ok_or_else(|| failed(Code::InvalidArgument, reason::BAD_CONTINUATION, None))?;
            range.start = range.continuation.slice(..zero);
            range.end = range.continuation.slice(zero + 1..);
        }
        let mut state = self.state.lock().unwrap();
        if range.consistency == i32::from(kontiki_client::Consistency::Stale) {
            state.stale_reads += 1;
        }
        let page = match range.limit as usize {
            0 => PAGE_MAX,
            limit => limit.min(PAGE_MAX),
        };
        let mut kvs: Vec<KeyValue> = state
            .store
            .range(range.start.to_vec()..)
            .filter(|(key, _)| range.end.is_empty() || key[..] < range.end[..])
            .filter(|(key, _)| !state.loses.contains(key))
            .take(page + 1)
            .map(|(key, (value, revision))| KeyValue {
                key: key.clone().into(),
                value: value.clone().into(),
                create_revision: *revision,
                mod_revision: *revision,
            })
            .collect();
        let continuation = match kvs.len() > page {
            true => [&kvs.pop().unwrap().key[..], &range.end[..]]
                .join(&0)
                .into(),
            false => Default::default(),
        };
        Ok(Response::new(RangeResponse {
            kvs,
            continuation,
            revision: state.revision,
            ..RangeResponse::default()
        }))
    }
}

/// An address of loopback on which nobody listens, and nobody else will while the tests run.
pub async fn refusing() -> SocketAddr {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    std::mem::forget(socket); // bound and never listening: another test cannot be given the port
    address
}

/// Generous: only a broken client takes so long.
pub fn options() -> kontiki_client::Options {
    kontiki_client::Options {
        timeout: Duration::from_secs(30),
        sessions: false,
        ..Default::default()
    }
}

/// For tests that wait for the deadline itself.
pub fn impatient() -> kontiki_client::Options {
    kontiki_client::Options {
        timeout: Duration::from_secs(1),
        sessions: false,
        ..Default::default()
    }
}
