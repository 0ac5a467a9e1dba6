//! Metrics and probes over HTTP, off the node thread: one request a connection, within a deadline, and
//! a bounded number of them, so that nobody shuts probes out by saying nothing.

use std::net::IpAddr;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::handle::Handle;
use crate::listen::{Door, next_connection};
use crate::metrics::{Face, Reason};

/// Connections; past it, they are closed as they come. Half of them may be of one address.
const CONNECTIONS_MAX: u32 = 128;
/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take, with the answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// A driver that has not turned for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// Serves `/metrics`, `/livez` and `/readyz` of a node for as long as it is polled.
pub async fn serve(listener: TcpListener, handle: Handle) {
    let door = Door::new(CONNECTIONS_MAX);
    let router = router(handle.clone());
    loop {
        let (stream, peer) = next_connection(&listener).await;
        let place = match door.enter(peer) {
            Ok(place) => place,
            Err(why) => {
                handle.refuse(Face::Http, Reason::TooMany, peer, &why);
                continue; // closed
            }
        };
        let (router, handle) = (router.clone(), handle.clone());
        tokio::spawn(async move {
            serve_connection(stream, peer, router, handle).await;
            drop(place);
        });
    }
}

async fn serve_connection(stream: TcpStream, peer: IpAddr, router: Router, handle: Handle) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false);
    let service = TowerToHyperService::new(router);
    let serving = http.serve_connection(TokioIo::new(stream), service);
    let refuse = |reason, why: &dyn std::fmt::Display| handle.refuse(Face::Http, reason, peer, why);
    match timeout(CONNECTION_TIMEOUT, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.is_timeout() => refuse(Reason::Late, &"no request within 5 s"),
        Ok(Err(error)) if error.is_parse() => refuse(Reason::Malformed, &error),
        Ok(Err(error)) => tracing::debug!(%error, "a connection broke"),
        Err(_) => refuse(Reason::Late, &"its answer was not read within 30 s"),
    }
}

fn router(handle: Handle) -> Router {
    let (live, ready) = (handle.clone(), handle.clone());
    let metrics = async move || {
        let kind = [(CONTENT_TYPE, prometheus::TEXT_FORMAT)];
        (kind, handle.metrics.render())
    };
    let livez = async move || match live.since_turn() {
        since if since < STUCK_AFTER => (StatusCode::OK, "ok\n".to_owned()),
        since => {
            let text = format!("the driver has not turned for {} s\n", since.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
    };
    let readyz = async move || match (*ready.ready().borrow(), ready.stopping()) {
        (true, _) => (StatusCode::OK, "ok\n"),
        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        (false, false) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not an activated voter that has caught up and whose machine works\n",
        ),
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
}
