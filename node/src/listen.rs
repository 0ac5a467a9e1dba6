//! The ports: an accept loop and hyper's HTTP/2, straight to the generated services. tonic's own
//! server would put a router and its layers on the path of every request.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kontiki_proto::kv::kv_server::KvServer;
use kontiki_proto::raft::peer_server::PeerServer;
use kontiki_proto::v1::data_server::DataServer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;

use crate::api::{DataService, KvService};
use crate::peer::PeerService;

/// Connections of one port; past it the next waits to be accepted.
const CONNECTIONS_MAX: u32 = 8192;

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
    /// Answers a request.
    fn call(&self, request: Request<Incoming>) -> Answer;
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
    fn call(&self, request: Request<Incoming>) -> Answer {
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
    fn call(&self, request: Request<Incoming>) -> Answer {
        match request.uri().path().starts_with("/kontiki.raft.v1.Peer/") {
            true => self.peer.clone().call(request),
            false => Box::pin(self.rest.clone().call(request)),
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
}

/// A port being served.
#[derive(Debug)]
pub struct Serving {
    /// Stops accepting, and lets every connection finish what is in flight on it.
    pub stop: CancellationToken,
    connections: Arc<Semaphore>,
}

impl Serving {
    /// Waits until no connection is left, at most `wait`.
    pub async fn drained(&self, wait: Duration) {
        let all = self.connections.acquire_many(CONNECTIONS_MAX);
        // Who has not finished by then is cut off with the process.
        let _ = tokio::time::timeout(wait, all).await;
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
) -> io::Result<Serving> {
    let listener = TcpListener::from_std(listener)?;
    let serving = Serving {
        stop: CancellationToken::new(),
        connections: Arc::new(Semaphore::new(CONNECTIONS_MAX as usize)),
    };
    let (stop, connections) = (serving.stop.clone(), serving.connections.clone());
    tokio::spawn(async move {
        let accepting = accept(listener, port, transport, connections, stop.clone());
        let _ = stop.run_until_cancelled(accepting).await;
    });
    Ok(serving)
}

async fn accept(
    listener: TcpListener,
    port: impl Port + Sync,
    transport: Transport,
    connections: Arc<Semaphore>,
    stop: CancellationToken,
) {
    let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        // gRPC has no use for it, and it costs bytes in every response.
        .auto_date_header(false)
        .max_concurrent_streams(transport.requests_max)
        .keep_alive_interval(transport.keep_alive)
        .keep_alive_timeout(transport.keep_alive_timeout);
    while let Ok(permit) = connections.clone().acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: a pause lets some close.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (http, port, stop) = (http.clone(), port.clone(), stop.clone());
        tokio::spawn(async move {
            serve_connection(stream, http, port, stop).await;
            drop(permit);
        });
    }
}

async fn serve_connection(
    stream: TcpStream,
    http: hyper::server::conn::http2::Builder<TokioExecutor>,
    port: impl Port + Sync,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the connection ended before it was served");
        return;
    }
    let service = hyper::service::service_fn(move |request| port.call(request));
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection broke");
    }
}
