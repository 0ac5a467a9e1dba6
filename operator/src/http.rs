//! Metrics and probes of the operator.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;

use crate::metrics::Metrics;

/// Serves `/metrics`, `/healthz` and `/readyz` until `shutdown`. Ready: every RaftCluster has been
/// read once.
///
/// # Errors
/// The address is taken or is none of this machine.
pub async fn serve(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    ready: Arc<AtomicBool>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let router = router(metrics, ready);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown)
        .await
}

fn router(metrics: Arc<Metrics>, ready: Arc<AtomicBool>) -> Router {
    let text = move || async move {
        metrics
            .text()
            .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
    };
    let readiness = move || async move {
        if ready.load(Ordering::Relaxed) {
            (StatusCode::OK, "ready\n")
        } else {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "the RaftClusters are not all read yet\n",
            )
        }
    };
    Router::new()
        .route("/metrics", get(text))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readiness))
}
