//! The flags, each with its environment variable.

use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser};

use super::{LogFormat, MachineKind};

const EXIT_STATUSES: &str = "\
Exit status:
  0   stopped by SIGTERM or SIGINT, or --print-config
  2   a flag or environment variable is not understood
  68  an address to listen on does not resolve
  69  a port is taken, or cannot be listened on
  70  the node broke down
  78  the configuration is wrong: a typo, or a value out of its range";

/// One server of a Raft cluster: replicates a state machine over gRPC.
///
/// Flags win over environment variables, these over the file, the file over the defaults.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "kontiki-node", version, after_help = EXIT_STATUSES)]
pub struct Cli {
    /// YAML file with the configuration.
    #[arg(long, value_name = "FILE", env = "KONTIKI_CONFIG")]
    pub config: Option<PathBuf>,
    /// Name of this node [default: the host's name].
    #[arg(long, value_name = "NAME", env = "KONTIKI_NODE_NAME")]
    pub node_name: Option<String>,
    /// Where clients connect [default: 0.0.0.0:7400].
    #[arg(long, value_name = "HOST:PORT", env = "KONTIKI_LISTEN_CLIENT")]
    pub listen_client: Option<String>,
    /// Where servers and operators connect [default: 0.0.0.0:7401].
    #[arg(long, value_name = "HOST:PORT", env = "KONTIKI_LISTEN_PEER")]
    pub listen_peer: Option<String>,
    /// Where metrics and probes are served [default: 0.0.0.0:7402].
    #[arg(long, value_name = "HOST:PORT", env = "KONTIKI_LISTEN_HTTP")]
    pub listen_http: Option<String>,
    /// Host under which others reach this node [default: the address listened on].
    #[arg(long, value_name = "HOST", env = "KONTIKI_ADVERTISE_HOST")]
    pub advertise_host: Option<String>,
    /// The state machine [default: kv].
    #[arg(long, value_enum, env = "KONTIKI_MACHINE")]
    pub machine: Option<MachineKind>,
    /// Interval of heartbeats in milliseconds [default: 100].
    #[arg(long, value_name = "MS", env = "KONTIKI_HEARTBEAT_MS")]
    pub heartbeat_ms: Option<u64>,
    /// Shortest election timeout in milliseconds [default: 1000].
    #[arg(long, value_name = "MS", env = "KONTIKI_ELECTION_TIMEOUT_MS")]
    pub election_timeout_ms: Option<u64>,
    /// Longest election timeout in milliseconds [default: twice the shortest].
    #[arg(long, value_name = "MS", env = "KONTIKI_ELECTION_TIMEOUT_MAX_MS")]
    pub election_timeout_max_ms: Option<u64>,
    /// Raises this server's own quorum [default: 1].
    #[arg(long, value_name = "N", env = "KONTIKI_MIN_MAJORITY")]
    pub min_majority: Option<usize>,
    /// Memory that the process may take, in bytes: in a pod the limit of its container [default: not
    /// known].
    #[arg(long, value_name = "BYTES", env = "KONTIKI_MEMORY_BYTES")]
    pub memory_bytes: Option<u64>,
    /// Bytes of state, log and snapshots past which writes that may make the state larger are refused
    /// [default: 40 % of --memory-bytes].
    #[arg(long, value_name = "BYTES", env = "KONTIKI_STATE_BYTES_MAX")]
    pub state_bytes_max: Option<u64>,
    /// How willing this server is to lead, 0 (only if it is told to) to 10 [default: 10].
    #[arg(long, value_name = "N", env = "KONTIKI_ELECTION_PRIORITY")]
    pub election_priority: Option<u8>,
    /// Whether stale reads are answered [default: true].
    #[arg(long, value_name = "BOOL", env = "KONTIKI_DIRTY_READ")]
    pub dirty_read: Option<bool>,
    /// Whether reads under a lease are on while this server leads [default: false].
    #[arg(long, value_name = "BOOL", env = "KONTIKI_LEASE_READS")]
    pub lease_reads: Option<bool>,
    /// How a line of the log looks [default: text].
    #[arg(long, value_enum, env = "KONTIKI_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug or trace [default: info].
    #[arg(long, value_name = "LEVEL", env = "KONTIKI_LOG_LEVEL")]
    pub log_level: Option<String>,
    /// Print the configuration in force as YAML, and exit.
    #[arg(long)]
    pub print_config: bool,
    /// Whether the program has a machine of its own, so that none may be configured. No flag.
    #[arg(skip)]
    pub own_machine: bool,
}

impl Cli {
    /// The flags of a program of one's own, under its name: without `--machine`, which it refuses.
    /// Ends the process for `--help`, `--version` and what it does not understand.
    pub fn parse_own(program: &'static str) -> Self {
        let command = Self::command()
            .name(program)
            .version(concat!("with Kontiki ", env!("CARGO_PKG_VERSION")))
            .mut_arg("machine", |machine| machine.hide(true));
        let matches = command.get_matches();
        let parsed = Self::from_arg_matches(&matches);
        Self {
            own_machine: true,
            ..parsed.unwrap_or_else(|error| error.exit())
        }
    }
}
