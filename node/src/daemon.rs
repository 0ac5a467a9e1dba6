//! A whole daemon around a machine: the node on a thread of its own, metrics and probes on this one.

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use clap::Parser;
use kontiki_raft::ServerId;

use crate::address_book::ServerRef;
use crate::bootstrap::draw_id;
use crate::config::{Cli, Config, ConfigError, host_name};
use crate::http::router;
use crate::listen::{ListenError, bind};
use crate::machine::StateMachine;
use crate::runner::{Node, NodeParts};
use crate::{shutdown, telemetry};

/// Why a daemon did not start, or did not stop by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(ConfigError),
    /// An address cannot be listened on.
    #[error("{0}")]
    Listen(ListenError),
    /// The operating system refused something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The node ended without being told to; the log says why.
    #[error("the node thread broke down")]
    Broken,
}

impl RunError {
    /// The status that the process exits with, from `sysexits.h`.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Config(_) => 78,
            Self::Listen(ListenError::Unresolved { .. }) => 68,
            Self::Listen(ListenError::Taken { .. }) => 69,
            Self::System { .. } | Self::Broken => 70,
        }
    }
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> RunError {
    move |source| RunError::System { what, source }
}

/// `main` of a daemon: flags and configuration, then [`run`] with the machine that `build` makes of
/// the configuration, until SIGTERM or SIGINT.
///
/// ```no_run
/// use kontiki_node::machine::counter::Counter;
///
/// fn main() -> std::process::ExitCode {
///     kontiki_node::main(|_config| Box::new(Counter::default()))
/// }
/// ```
pub fn main(build: impl FnOnce(&Config) -> Box<dyn StateMachine>) -> ExitCode {
    let cli = Cli::parse();
    let config = match Config::load(&cli) {
        Ok(config) => config,
        Err(error) => return fail(&RunError::Config(error)),
    };
    if cli.print_config {
        print!("{}", config.to_yaml());
        return ExitCode::SUCCESS;
    }
    telemetry::install(&config.log);
    let machine = build(&config);
    let signalled = async {
        match shutdown::signals() {
            Ok(signalled) => signalled.await,
            Err(error) => tracing::error!(%error, "cannot watch for signals"),
        }
    };
    match run(config, machine, signalled) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &RunError) -> ExitCode {
    eprintln!("kontiki-node: {error}");
    ExitCode::from(error.exit_status())
}

/// Runs a node until `shutdown` resolves; then hands leadership over and answers what is pending.
/// Blocks; must not be called from within a runtime.
///
/// ```
/// use kontiki_node::machine::counter::Counter;
/// use kontiki_node::{Config, run};
///
/// let mut config = Config::default();
/// let any_port = || "127.0.0.1:0".to_owned();
/// config.listen.client = any_port();
/// config.listen.peer = any_port();
/// config.listen.http = any_port();
/// // Told to stop at once.
/// run(config, Box::new(Counter::default()), std::future::ready(()))?;
/// # Ok::<(), kontiki_node::RunError>(())
/// ```
///
/// # Errors
/// An address cannot be listened on, or the node broke down.
pub fn run(
    config: Config,
    machine: Box<dyn StateMachine>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let client = bind("listen.client", &config.listen.client).map_err(RunError::Listen)?;
    let peer = bind("listen.peer", &config.listen.peer).map_err(RunError::Listen)?;
    let http = bind("listen.http", &config.listen.http).map_err(RunError::Listen)?;
    let me = ServerRef {
        id: ServerId(draw_id()),
        name: config.node_name.clone(),
        peer_address: advertised(&config, &peer).map_err(system("read an address"))?,
        client_address: advertised(&config, &client).map_err(system("read an address"))?,
    };
    tracing::info!(
        server_id = %me.id,
        node = me.name,
        client = %local(&client)?,
        peer = %local(&peer)?,
        http = %local(&http)?,
        machine = machine.name(),
        version = env!("CARGO_PKG_VERSION"),
        "started"
    );
    let node = Node::start(NodeParts {
        config,
        machine,
        me,
        peer,
        client: Some(client),
        embedded: None,
    })
    .map_err(system("start the node"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start a runtime"))?;
    let stopped = runtime.block_on(attend(&node, http, shutdown))?;
    match node.join() && stopped {
        true => Ok(()),
        false => Err(RunError::Broken),
    }
}

/// Serves metrics and probes until the node has ended. `false`: it was not told to.
async fn attend(
    node: &Node,
    http: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<bool, RunError> {
    let listener = tokio::net::TcpListener::from_std(http).map_err(system("serve metrics"))?;
    let app = router(node.handle().clone());
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "metrics are not served any more");
        }
    });
    tokio::select! {
        () = shutdown => {
            node.stop().await;
            tracing::info!("stopped");
            Ok(true)
        }
        () = node.ended() => Ok(node.handle().ending.is_told()),
    }
}

fn local(listener: &TcpListener) -> Result<SocketAddr, RunError> {
    listener.local_addr().map_err(system("read an address"))
}

/// HOST:PORT under which others reach a listener.
fn advertised(config: &Config, listener: &TcpListener) -> std::io::Result<String> {
    let address = listener.local_addr()?;
    let host = match &config.advertise.host {
        Some(host) => host.clone(),
        None if address.ip().is_unspecified() => host_name(),
        None => address.ip().to_string(),
    };
    Ok(match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{}", address.port()),
        false => format!("{host}:{}", address.port()),
    })
}
