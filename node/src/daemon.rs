//! A whole daemon around a machine: the node on a thread of its own, metrics and probes on this one.
//!
//! `kontiki-node` is one with the machines that are shipped. A program of one's own is [`main`] with
//! a machine of one's own: the same flags, environment, configuration file, ports and exit statuses,
//! so that the operator runs it as it runs the shipped one (`stateMachine.kind: Custom`).

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use clap::Parser;
use kontiki_raft::ServerId;

use crate::address_book::ServerRef;
use crate::bootstrap::draw_id;
use crate::config::{Cli, Config, ConfigError, host_name};
use crate::http;
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
    /// The program cannot make its machine, in its own words.
    #[error("{0}")]
    Machine(String),
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
            Self::Config(_) | Self::Machine(_) => 78,
            Self::Listen(ListenError::Unresolved { .. }) => 68,
            Self::Listen(ListenError::Taken { .. }) => 69,
            Self::System { .. } | Self::Broken => 70,
        }
    }
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> RunError {
    move |source| RunError::System { what, source }
}

/// `main` of a daemon around a machine of one's own: flags and configuration, then [`run`] with the
/// machine that `build` makes, until SIGTERM or SIGINT.
///
/// Messages and `--help` have the name of the program. A configuration that names one of the shipped
/// machines is refused, as is what `build` says no to: both exit with 78.
///
/// ```no_run
/// use kontiki_node::machine::counter::Counter;
///
/// fn main() -> std::process::ExitCode {
///     kontiki_node::main(|_config| Ok(Box::<Counter>::default()))
/// }
/// ```
pub fn main(build: impl FnOnce(&Config) -> Result<Box<dyn StateMachine>, String>) -> ExitCode {
    let program = program();
    start(program, &Cli::parse_own(program), build)
}

/// `main` of `kontiki-node`: a daemon around the shipped machine that its configuration names.
pub fn main_shipped() -> ExitCode {
    start(program(), &Cli::parse(), |config| {
        Ok(config.machine.unwrap_or_default().build())
    })
}

/// The name of the file that was started.
fn program() -> &'static str {
    let path = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&path).file_name();
    // Once, and needed for as long as the process lives.
    name.map_or("node".into(), |name| name.to_string_lossy().into_owned())
        .leak()
}

fn start(
    program: &str,
    cli: &Cli,
    build: impl FnOnce(&Config) -> Result<Box<dyn StateMachine>, String>,
) -> ExitCode {
    let outcome = Config::load(cli)
        .map_err(RunError::Config)
        .and_then(|config| match cli.print_config {
            true => {
                print!("{}", config.to_yaml());
                Ok(())
            }
            false => serve(config, build),
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}

fn serve(
    config: Config,
    build: impl FnOnce(&Config) -> Result<Box<dyn StateMachine>, String>,
) -> Result<(), RunError> {
    let machine = build(&config).map_err(RunError::Machine)?;
    telemetry::install(&config.log);
    let signalled = async {
        match shutdown::signals() {
            Ok(signalled) => signalled.await,
            Err(error) => tracing::error!(%error, "cannot watch for signals"),
        }
    };
    run(config, machine, signalled)
}

/// Runs a node until `shutdown` resolves; then hands leadership over and answers what is pending.
/// Blocks; must not be called from within a runtime. `config.machine` is not looked at.
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
        versions = ?machine.versions(),
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
    tokio::spawn(http::serve(listener, node.handle().clone()));
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
