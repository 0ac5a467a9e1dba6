//! `run`: the operator on Kubernetes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use kube::Client;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{EXIT_CONFIG, Failure};
use crate::controller::{self, Context, chain};
use crate::metrics::Metrics;
use crate::objects::Settings;
use crate::telemetry::LogFormat;
use crate::{http, signals};

/// Options of `run`.
#[derive(Debug, Parser)]
pub struct RunOptions {
    /// Namespace to look after; by default all of them.
    #[arg(long, env = "KONTIKI_NAMESPACE")]
    pub namespace: Option<String>,
    /// Image of nodes whose `spec.image` is empty.
    #[arg(long, env = "KONTIKI_NODE_IMAGE", default_value = concat!(
        "ghcr.io/kontiki/kontiki-node:", env!("CARGO_PKG_VERSION")
    ))]
    pub node_image: String,
    /// Log format of nodes.
    #[arg(
        long,
        env = "KONTIKI_NODE_LOG_FORMAT",
        value_enum,
        default_value = "json"
    )]
    pub node_log_format: LogFormat,
    /// Least severe level that nodes log.
    #[arg(long, env = "KONTIKI_NODE_LOG_LEVEL", default_value = "info")]
    pub node_log_level: String,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "KONTIKI_HTTP_LISTEN", default_value = "0.0.0.0:8080")]
    pub http_listen: SocketAddr,
}

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(options: RunOptions) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(serve(options))
}

async fn serve(options: RunOptions) -> Result<(), Failure> {
    let client = Client::try_default().await.map_err(|error| Failure {
        message: format!(
            "no way to reach Kubernetes: {}; run it in a pod with a service account, or set \
             KUBECONFIG",
            chain(&error)
        ),
        status: EXIT_CONFIG,
    })?;
    let metrics = Arc::new(Metrics::new()?);
    let ready = Arc::new(AtomicBool::new(false));
    let shutdown = CancellationToken::new();
    signals::cancel_at_the_end(shutdown.clone())?;
    let settings = Settings {
        node_image: options.node_image,
        node_log_format: options.node_log_format.to_string(),
        node_log_level: options.node_log_level,
    };
    let context = Context::new(client, settings, metrics.clone());
    let address = options.http_listen;
    let http = http::serve(
        address,
        metrics,
        ready.clone(),
        shutdown.clone().cancelled_owned(),
    );
    info!(version = env!("CARGO_PKG_VERSION"), %address, "started");
    let controller = async {
        controller::run(context, options.namespace, ready, shutdown.clone()).await;
        // It ends by itself only when the watches have ended.
        shutdown.cancel();
        Ok(())
    };
    let http = async {
        let served = http.await;
        shutdown.cancel();
        served.map_err(|error| Failure {
            message: format!("--http-listen {address}: {error}"),
            status: if error.kind() == std::io::ErrorKind::AddrInUse {
                69
            } else {
                1
            },
        })
    };
    let (controller, http): (Result<(), Failure>, _) = tokio::join!(controller, http);
    controller.and(http)
}
