//! The services as a connection calls them, with any bytes for messages, in front of a real driver:
//! one voter that leads, replicates `kv` and answers in the turn that follows.

use std::cell::OnceCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use futures::StreamExt;
use http::{Request, Response};
use kontiki_proto::kv::kv_server::KvServer;
use kontiki_proto::raft::peer_server::PeerServer;
use kontiki_proto::v1::admin_server::AdminServer;
use kontiki_proto::v1::data_server::DataServer;
use kontiki_raft::{Role, ServerId, Term, Time};
use tokio::sync::{mpsc, watch};
use tonic::{Code, Status};
use tower::Service;

use super::fields::Fields;
use super::heap;
use super::members::{CLUSTER, ME};
use crate::address_book::{AddressBook, ServerRef};
use crate::api::{AdminService, DataService, KvService};
use crate::config::{Config, MachineKind};
use crate::driver::{Driver, Input, Output, Standing};
use crate::ending::Ending;
use crate::handle::{Handle, HandleParts, Reply};
use crate::metrics::Metrics;
use crate::peer::{LinkEvent, PeerService};
use crate::watching::Watching;

/// Requests of one input.
const REQUESTS_MAX: usize = 64;
/// Turns that a request is given; one that waits for more is given up, as a client does.
const TURNS_MAX: usize = 8;
/// What a node may take, besides what it was given to store.
const HEAP_BYTES_MAX: usize = 1 << 20;
/// For every byte of the input: a key of one byte is a record, an entry and a few frames.
const HEAP_PER_BYTE_MAX: usize = 2048;

pub(super) const CLIENT: [&str; 10] = [
    "/kontiki.v1.Data/Write",
    "/kontiki.v1.Data/WriteStream",
    "/kontiki.v1.Data/Read",
    "/kontiki.v1.Data/OpenSession",
    "/kontiki.v1.Data/CloseSession",
    "/kontiki.kv.v1.Kv/Put",
    "/kontiki.kv.v1.Kv/Get",
    "/kontiki.kv.v1.Kv/Delete",
    "/kontiki.kv.v1.Kv/Range",
    "/kontiki.kv.v1.Kv/Watch",
];
pub(super) const ADMIN: [&str; 13] = [
    "/kontiki.v1.Admin/Bootstrap",
    "/kontiki.v1.Admin/Activate",
    "/kontiki.v1.Admin/AddServer",
    "/kontiki.v1.Admin/RemoveServer",
    "/kontiki.v1.Admin/ReplaceServer",
    "/kontiki.v1.Admin/TransferLeadership",
    "/kontiki.v1.Admin/TriggerElection",
    "/kontiki.v1.Admin/AwaitLeader",
    "/kontiki.v1.Admin/Status",
    "/kontiki.v1.Admin/Introduce",
    "/kontiki.v1.Admin/Ping",
    "/kontiki.v1.Admin/Inspect",
    "/kontiki.v1.Admin/StopServer",
];
pub(super) const PEER: [&str; 3] = [
    "/kontiki.raft.v1.Peer/Liveness",
    "/kontiki.raft.v1.Peer/Entries",
    "/kontiki.raft.v1.Peer/Snapshots",
];

/// What a request is, besides its messages.
pub(super) mod flag {
    /// The body is what it is, without frames.
    pub(in crate::fuzz) const RAW: u8 = 1;
    /// A `grpc-timeout` follows.
    pub(in crate::fuzz) const TIMEOUT: u8 = 2;
    /// Messages after the first, in the upper four bits.
    pub(in crate::fuzz) const MORE_SHIFT: u32 = 4;
}

pub(super) fn client(data: &[u8]) {
    run(data, &CLIENT);
}

pub(super) fn admin(data: &[u8]) {
    run(data, &ADMIN);
}

pub(super) fn peer(data: &[u8]) {
    run(data, &PEER);
}

fn run(data: &[u8], paths: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut desk = Desk::open();
        let before = heap::live();
        let mut fields = Fields::new(data);
        for _ in 0..REQUESTS_MAX {
            if fields.is_over() {
                break;
            }
            let path = paths[usize::from(fields.byte()) % paths.len()];
            desk.serve(path, request(path, &mut fields)).await;
        }
        desk.turn();
        let heap = (heap::live() - before).max(0) as usize;
        let max = HEAP_BYTES_MAX + HEAP_PER_BYTE_MAX * data.len();
        assert!(heap <= max, "{heap} bytes of memory for {}", data.len());
    });
}

fn request(path: &str, fields: &mut Fields<'_>) -> Request<Body> {
    let flags = fields.byte();
    let mut builder = Request::post(path).header("content-type", "application/grpc");
    if flags & flag::TIMEOUT != 0
        && let Ok(timeout) = http::HeaderValue::from_bytes(fields.bytes())
    {
        builder = builder.header("grpc-timeout", timeout);
    }
    let mut body = Vec::new();
    for _ in 0..=flags >> flag::MORE_SHIFT {
        let message = fields.long_bytes();
        if flags & flag::RAW == 0 {
            body.push(0);
            body.extend((message.len() as u32).to_be_bytes());
        }
        body.extend_from_slice(message);
    }
    builder.body(Body::from(body)).expect("a request")
}

/// A node without its sockets.
struct Desk {
    driver: Driver<Reply>,
    handle: Handle,
    taken: mpsc::Receiver<Input<Reply>>,
    events: mpsc::Receiver<LinkEvent>,
    peer: PeerService,
    now: Time,
    _standing: watch::Sender<Standing>,
}

thread_local! {
    /// Made once: to register them takes longer than an input.
    static METRICS: OnceCell<Arc<Metrics>> = const { OnceCell::new() };
}

impl Desk {
    /// The server leads, and yet says that it does not: whoever leads asks a server that is to be
    /// added for its versions, at whatever address the request says.
    fn open() -> Self {
        let me = ServerRef::unknown(ME);
        let metrics = METRICS.with(|once| {
            let metrics = once.get_or_init(|| Arc::new(Metrics::new(&me, "kv")));
            metrics.clone()
        });
        let config = Config::default();
        let standing = Standing {
            role: Role::Joiner,
            term: Term(0),
            leader: None,
        };
        let (standing, seen) = watch::channel(standing);
        let (inputs, taken) = mpsc::channel(1024);
        let handle = Handle::new(HandleParts {
            book: AddressBook::new(me, config.limits.address_book_max),
            limits: config.limits,
            sessions: config.sessions,
            machine: "kv",
            versions: 1..=1,
            metrics,
            watching: Watching::new(config.watch, seen.clone()),
            initial_config: Vec::new(),
            standing: seen,
            ending: Ending::default(),
            inputs,
        });
        handle
            .cluster
            .store(CLUSTER.0, std::sync::atomic::Ordering::Relaxed);
        let (driver, _) = Driver::new(ME, config.driver(true), MachineKind::Kv.build(), Time(0));
        let (sender, events) = mpsc::channel(64);
        let mut desk = Self {
            driver,
            peer: PeerService::new(handle.clone(), sender),
            handle,
            taken,
            events,
            now: Time(0),
            _standing: standing,
        };
        let (reply, _) = tokio::sync::oneshot::channel();
        let bootstrap = Input::Bootstrap {
            cluster: CLUSTER,
            voters: vec![ME],
            reply: Reply::One(reply),
        };
        desk.take(vec![bootstrap]);
        desk.now = desk.now + Duration::from_secs(3);
        desk.turn();
        desk.turn();
        assert!(desk.driver.status().activated, "a voter alone leads");
        desk
    }

    fn turn(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            drop(event);
        }
        let mut inputs = Vec::new();
        while let Ok(input) = self.taken.try_recv() {
            inputs.push(input);
        }
        self.handle.taken(&inputs);
        self.take(inputs);
    }

    fn take(&mut self, mut inputs: Vec<Input<Reply>>) {
        self.now = self.now + Duration::from_millis(1);
        let mut outputs = Vec::new();
        self.driver.turn(self.now, &mut inputs, &mut outputs);
        for output in outputs {
            match output {
                Output::Reply(reply, outcome) => reply.send(outcome),
                Output::Away(mut host, job) => {
                    let done = host.run(job);
                    let mut inputs = vec![Input::Back(host, done)];
                    self.driver.turn(self.now, &mut inputs, &mut Vec::new());
                }
                _ => {}
            }
        }
    }

    async fn serve(&mut self, path: &str, request: Request<Body>) {
        let handle = self.handle.clone();
        if path.starts_with("/kontiki.v1.Data/") {
            self.call(DataServer::new(DataService::new(handle)), request)
                .await;
        } else if path.starts_with("/kontiki.kv.v1.Kv/") {
            self.call(KvServer::new(KvService::new(handle)), request)
                .await;
        } else if path.starts_with("/kontiki.v1.Admin/") {
            self.call(AdminServer::new(AdminService::new(handle)), request)
                .await;
        } else {
            self.call(PeerServer::new(self.peer.clone()), request).await;
        }
    }

    /// Calls a service, and reads its answer to the end, or for so many turns.
    async fn call<S>(&mut self, mut service: S, request: Request<Body>)
    where
        S: Service<Request<Body>, Response = Response<tonic::body::Body>, Error = Infallible>,
    {
        let calling = service.call(request);
        let mut called = pin!(async {
            let Ok(response) = calling.await;
            check(response.headers());
            let mut body = Body::new(response.into_body()).into_data_stream();
            while let Some(Ok(_)) = body.next().await {}
        });
        for _ in 0..TURNS_MAX {
            if poll_fn(|context| Poll::Ready(called.as_mut().poll(context)))
                .await
                .is_ready()
            {
                break;
            }
            // What a service spawned goes on, too.
            tokio::task::yield_now().await;
            self.turn();
        }
    }
}

/// What passes the bounds is understood by the machine, and what it answers by the service.
fn check(headers: &http::HeaderMap) {
    if let Some(status) = Status::from_header_map(headers) {
        let is_ours = headers.contains_key("grpc-status-details-bin");
        assert!(status.code() != Code::Internal || !is_ours, "{status}");
    }
}

/// For seeds: a stranger.
pub(super) const STRANGER: ServerId = ServerId(0x5eed);
