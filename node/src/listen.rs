//! The ports: an accept loop and hyper's HTTP/2, straight to the generated services. tonic's own
//! server would put a router and its layers on the path of every request.
//!
//! Here is also where whoever speaks something else, comes in crowds, or sends what is no request, is
//! turned away: `docs/bad-input.md` lists all of it.

mod budget;
mod door;
mod preface;
mod refused;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kontiki_proto::kv::kv_server::KvServer;
use kontiki_proto::raft::peer_server::PeerServer;
use kontiki_proto::v1::data_server::DataServer;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;

use crate::api::{DataService, KvService};
use crate::handle::Handle;
use crate::metrics::{Face, Reason};
use crate::peer::PeerService;

use budget::Budget;
pub use budget::Metered;
pub(crate) use door::Door;
use preface::{Beginning, PREFACE};
pub(crate) use refused::{Remote, clear, of_library, of_reason};

/// Connections of one port; past it, they are closed as they come. Half of them may be of one address.
const CONNECTIONS_MAX: u32 = 2048;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// It does not resolve.
    #[error("the address {address} ({what}) does not resolve: {source}")]
    Unresolved {
        /// Which listener.
        what: &'static str,
        /// As configured.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// It is taken, or not of this machine, or not permitted.
    #[error("cannot listen on {address} ({what}): {source}")]
    Taken {
        /// Which listener.
        what: &'static str,
        /// As configured.
        address: String,
        /// Why.
        source: io::Error,
    },
}

/// Listens on HOST:PORT. Needs no runtime.
///
/// # Errors
/// The address does not resolve, or its port is taken.
pub fn bind(what: &'static str, address: &str) -> Result<std::net::TcpListener, ListenError> {
    let unresolved = |source| ListenError::Unresolved {
        what,
        address: address.into(),
        source,
    };
    let taken = |source| ListenError::Taken {
        what,
        address: address.into(),
        source,
    };
    let candidates: Vec<SocketAddr> = address.to_socket_addrs().map_err(unresolved)?.collect();
    let listener = std::net::TcpListener::bind(&candidates[..]).map_err(taken)?;
    listener.set_nonblocking(true).map_err(taken)?;
    Ok(listener)
}

/// What is served on a port.
pub trait Port: Clone + Send + 'static {
    /// Who a request for this path is for.
    fn face(&self, path: &str) -> Face;

    /// Whether a request for this path is a stream of messages.
    fn is_stream(&self, path: &str) -> bool;

    /// Answers a request.
    fn call(&self, request: Request<Metered>) -> Answer;
}

/// Comes in the end.
pub type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

/// Data and Kv, and the standard services.
#[derive(Clone, Debug)]
pub struct ClientPort {
    /// Opaque commands.
    pub data: DataServer<DataService>,
    /// Typed ones.
    pub kv: KvServer<KvService>,
    /// Everything else.
    pub rest: Routes,
}

/// Peer, and in `rest` Admin and the standard services.
#[derive(Clone, Debug)]
pub struct PeerPort {
    /// Between servers.
    pub peer: PeerServer<PeerService>,
    /// Everything else.
    pub rest: Routes,
}

impl Port for ClientPort {
    fn face(&self, _: &str) -> Face {
        Face::Client
    }

    fn is_stream(&self, path: &str) -> bool {
        path == "/kontiki.v1.Data/WriteStream"
    }

    fn call(&self, request: Request<Metered>) -> Answer {
        let path = request.uri().path();
        if path.starts_with("/kontiki.kv.v1.Kv/") {
            self.kv.clone().call(request)
        } else if path.starts_with("/kontiki.v1.Data/") {
            self.data.clone().call(request)
        } else {
            Box::pin(self.rest.clone().call(request))
        }
    }
}

impl Port for PeerPort {
    fn face(&self, path: &str) -> Face {
        // A connection that is refused has asked for nothing yet.
        match path.is_empty() || path.starts_with("/kontiki.raft.v1.Peer/") {
            true => Face::Peer,
            false => Face::Admin,
        }
    }

    fn is_stream(&self, path: &str) -> bool {
        self.face(path) == Face::Peer
    }

    fn call(&self, request: Request<Metered>) -> Answer {
        match self.face(request.uri().path()) {
            Face::Peer => self.peer.clone().call(request),
            Face::Admin | Face::Client | Face::Http => Box::pin(self.rest.clone().call(request)),
        }
    }
}

/// Settings of the connections of a port.
#[derive(Clone, Copy, Debug)]
pub struct Transport {
    /// Requests in flight on one connection.
    pub requests_max: u32,
    /// A silent connection is asked for a sign of life after this long.
    pub keep_alive: Duration,
    /// And closed if there is none within this.
    pub keep_alive_timeout: Duration,
    /// Bytes that a stream may have sent and that nobody has read yet.
    pub stream_window: u32,
    /// The same of all streams of a connection.
    pub connection_window: u32,
}

/// A port being served.
#[derive(Debug)]
pub struct Serving {
    /// Stops accepting, and lets every connection finish what is in flight on it.
    pub stop: CancellationToken,
    door: Door,
}

impl Serving {
    /// Waits until no connection is left, at most `wait`.
    pub async fn drained(&self, wait: Duration) {
        self.door.emptied(wait).await;
    }
}

/// Serves a port on the current runtime.
///
/// # Errors
/// The listener cannot be registered with the runtime.
pub fn serve(
    listener: std::net::TcpListener,
    port: impl Port + Sync,
    transport: Transport,
    handle: Handle,
) -> io::Result<Serving> {
    let listener = TcpListener::from_std(listener)?;
    let serving = Serving {
        stop: CancellationToken::new(),
        door: Door::new(CONNECTIONS_MAX),
    };
    let (stop, door) = (serving.stop.clone(), serving.door.clone());
    let house = House {
        port,
        handle,
        budget: Budget::default(),
        stop: stop.clone(),
    };
    tokio::spawn(async move {
        let accepting = accept(listener, transport, door, house);
        let _ = stop.run_until_cancelled(accepting).await;
    });
    Ok(serving)
}

/// What all connections of a port share.
#[derive(Clone)]
struct House<P> {
    port: P,
    handle: Handle,
    budget: Budget,
    stop: CancellationToken,
}

/// Waits for one.
pub(crate) async fn next_connection(listener: &TcpListener) -> (TcpStream, IpAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer.ip().to_canonical()),
            Err(error) => {
                // Out of file descriptors, most likely: a pause lets some close.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn accept(
    listener: TcpListener,
    transport: Transport,
    door: Door,
    house: House<impl Port + Sync>,
) {
    let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .initial_stream_window_size(transport.stream_window)
        .initial_connection_window_size(transport.connection_window)
        // gRPC has no use for it, and it costs bytes in every response.
        .auto_date_header(false)
        .max_concurrent_streams(transport.requests_max)
        .keep_alive_interval(transport.keep_alive)
        .keep_alive_timeout(transport.keep_alive_timeout);
    loop {
        let (stream, peer) = next_connection(&listener).await;
        let place = match door.enter(peer) {
            Ok(place) => place,
            Err(why) => {
                house.refuse("", Reason::TooMany, peer, &why);
                continue; // closed
            }
        };
        let (http, house) = (http.clone(), house.clone());
        tokio::spawn(async move {
            serve_connection(stream, peer, http, house).await;
            drop(place);
        });
    }
}

impl<P: Port> House<P> {
    fn refuse(&self, path: &str, reason: Reason, peer: IpAddr, why: &dyn std::fmt::Display) {
        self.handle.refuse(self.port.face(path), reason, peer, why);
    }

    async fn answer(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let path = request.uri().path();
        let (face, is_stream) = (self.port.face(path), self.port.is_stream(path));
        let mut request = request.map(|body| self.budget.meter(body, is_stream));
        if is_stream {
            request.extensions_mut().insert(Remote(peer));
        }
        let Ok(response) = self.port.call(request).await;
        refused::look(&self.handle, face, peer, response)
    }
}

async fn serve_connection(
    mut stream: TcpStream,
    peer: IpAddr,
    http: hyper::server::conn::http2::Builder<TokioExecutor>,
    house: House<impl Port + Sync>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the connection ended before it was served");
        return;
    }
    match preface::read(&mut stream).await {
        Beginning::Http2 => {}
        Beginning::Closed => return,
        Beginning::Refused(reason, why) => return house.refuse("", reason, peer, &why),
    }
    let (rest, write) = stream.into_split();
    let stream = TokioIo::new(tokio::io::join(PREFACE.chain(rest), write));
    let inside = house.clone();
    let service = hyper::service::service_fn(move |request| {
        let inside = inside.clone();
        async move { Ok::<_, Infallible>(inside.answer(request, peer).await) }
    });
    let mut connection = std::pin::pin!(http.serve_connection(stream, service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = house.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    match served {
        Err(error) if is_nonsense(&error) => {
            let why = format!("it breaks the rules of HTTP/2: {error:?}");
            house.refuse("", Reason::Malformed, peer, &why);
        }
        Err(error) => tracing::debug!(%error, "a connection broke"),
        Ok(()) => {}
    }
}

/// Whether a connection ended because of what came by it, not because nothing did.
fn is_nonsense(error: &hyper::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<io::Error>() {
            return false;
        }
        cause = error.source();
    }
    !error.is_timeout() && !error.is_canceled() && !error.is_closed()
}
