//! Metrics and probes over HTTP, off the node thread.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

use crate::handle::Handle;

/// A driver that has not turned for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// `/metrics`, `/livez` and `/readyz` of a node.
pub fn router(handle: Handle) -> Router {
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
            "not an activated voter that has caught up\n",
        ),
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
}
