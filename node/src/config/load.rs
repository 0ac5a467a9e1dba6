//! Puts a configuration together and checks it.

use std::path::Path;

use kontiki_raft::ELECTION_PRIORITY_MAX;

use super::error::Origin;
use super::{Cli, Config, ConfigError};

/// The file's text, kept to name the line of a value.
struct Source<'a> {
    file: Option<(&'a Path, String)>,
    cli: &'a Cli,
}

impl Config {
    /// Reads the file that `cli` names, lays the flags over it, and checks the whole.
    ///
    /// # Errors
    /// The file cannot be read, has an unknown key, or a value is out of its range.
    pub fn load(cli: &Cli) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let mut source = Source { file: None, cli };
        if let Some(file) = &cli.config {
            let text = std::fs::read_to_string(file).map_err(|source| {
                let file = file.clone();
                ConfigError::Unreadable { file, source }
            })?;
            config = parse(file, &text)?;
            source.file = Some((file, text));
        }
        config.overlay(cli);
        config.check(&source)?;
        Ok(config)
    }

    fn overlay(&mut self, cli: &Cli) {
        fn set<T: Clone>(value: &mut T, flag: &Option<T>) {
            if let Some(flag) = flag {
                *value = flag.clone();
            }
        }
        set(&mut self.node_name, &cli.node_name);
        set(&mut self.listen.client, &cli.listen_client);
        set(&mut self.listen.peer, &cli.listen_peer);
        set(&mut self.listen.http, &cli.listen_http);
        if cli.advertise_host.is_some() {
            self.advertise.host.clone_from(&cli.advertise_host);
        }
        self.machine = cli.machine.or(self.machine);
        if !cli.own_machine {
            self.machine.get_or_insert_default();
        }
        set(&mut self.raft.heartbeat_milliseconds, &cli.heartbeat_ms);
        let election = &mut self.raft.election_timeout_milliseconds;
        set(election, &cli.election_timeout_ms);
        if cli.election_timeout_max_ms.is_some() {
            self.raft.election_timeout_max_milliseconds = cli.election_timeout_max_ms;
        }
        set(&mut self.raft.min_majority, &cli.min_majority);
        let limits = &mut self.limits;
        limits.memory_bytes = cli.memory_bytes.or(limits.memory_bytes);
        limits.state_bytes_max = cli.state_bytes_max.or(limits.state_bytes_max);
        set(&mut self.raft.election_priority, &cli.election_priority);
        set(&mut self.raft.lease_reads, &cli.lease_reads);
        set(&mut self.dirty_read, &cli.dirty_read);
        set(&mut self.log.format, &cli.log_format);
        set(&mut self.log.level, &cli.log_level);
    }

    fn check(&self, source: &Source<'_>) -> Result<(), ConfigError> {
        let name = &self.node_name;
        source.require(
            (1..=253).contains(&name.len()) && !name.contains(char::is_whitespace),
            "nodeName",
            name,
            "1 to 253 bytes without white space",
        )?;
        for (field, address) in [
            ("listen.client", &self.listen.client),
            ("listen.peer", &self.listen.peer),
            ("listen.http", &self.listen.http),
        ] {
            let right = "HOST:PORT, such as 0.0.0.0:7400 or [::1]:0";
            source.require(is_address(address), field, address, right)?;
        }
        if let Some(host) = &self.advertise.host {
            let right = "a host name or an IP address, without a port";
            source.require(is_host(host), "advertise.host", host, right)?;
        }
        if let (true, Some(kind)) = (source.cli.own_machine, self.machine) {
            let right = "left out: this program has a machine of its own";
            source.require(false, "machine", kind.name(), right)?;
        }
        self.check_raft(source)?;
        self.check_limits(source)?;
        self.check_sessions(source)?;
        self.check_watch(source)?;
        let level = &self.log.level;
        source.require(
            level.parse::<tracing_subscriber::EnvFilter>().is_ok() && !level.is_empty(),
            "log.level",
            level,
            "error, warn, info, debug, trace, or directives such as info,kontiki_node=debug",
        )
    }

    fn check_raft(&self, source: &Source<'_>) -> Result<(), ConfigError> {
        let raft = &self.raft;
        source.range(
            "raft.heartbeatMilliseconds",
            raft.heartbeat_milliseconds,
            1,
            60_000,
        )?;
        source.range(
            "raft.electionTimeoutMilliseconds",
            raft.election_timeout_milliseconds,
            2,
            600_000,
        )?;
        let least = raft.election_timeout_min_milliseconds();
        source.require(
            raft.election_timeout_milliseconds >= least,
            "raft.electionTimeoutMilliseconds",
            &raft.election_timeout_milliseconds.to_string(),
            &format!(
                "{least} at least, twice raft.heartbeatMilliseconds ({}); ten times that is usual",
                raft.heartbeat_milliseconds
            ),
        )?;
        let longest = raft.election_timeout_max_milliseconds;
        let shortest = raft.election_timeout_milliseconds;
        source.range(
            "raft.electionTimeoutMaxMilliseconds",
            longest.unwrap_or(shortest),
            shortest,
            600_000,
        )?;
        let batch = raft.batch_entries_max as u64;
        source.range("raft.batchEntriesMax", batch, 1, 1 << 20)?;
        source.range("raft.minMajority", raft.min_majority as u64, 1, 9)?;
        let (priority, most) = (raft.election_priority, ELECTION_PRIORITY_MAX);
        source.range("raft.electionPriority", priority.into(), 0, most.into())
    }

    fn check_sessions(&self, source: &Source<'_>) -> Result<(), ConfigError> {
        let sessions = &self.sessions;
        for (field, value, least, most) in [
            (
                "sessions.ttlMilliseconds",
                sessions.ttl_milliseconds,
                1000,
                86_400_000,
            ),
            (
                "sessions.sessionsMax",
                sessions.sessions_max.into(),
                1,
                1 << 20,
            ),
            ("sessions.windowMax", sessions.window_max.into(), 1, 1 << 16),
            (
                "sessions.replyBytesMax",
                sessions.reply_bytes_max.into(),
                0,
                16 << 20,
            ),
            ("sessions.bytesMax", sessions.bytes_max, 1 << 16, 1 << 34),
        ] {
            source.range(field, value, least, most)?;
        }
        Ok(())
    }

    fn check_watch(&self, source: &Source<'_>) -> Result<(), ConfigError> {
        let watch = &self.watch;
        let (bytes, events) = (watch.history_bytes_max, watch.history_events_max);
        let watchers = watch.watchers_max as u64;
        for (field, value, least, most) in [
            ("watch.historyBytesMax", bytes as u64, 1 << 10, 1 << 36),
            ("watch.historyEventsMax", events as u64, 1, 1 << 28),
            ("watch.watchersMax", watchers, 0, 1 << 16),
            (
                "watch.progressMilliseconds",
                watch.progress_milliseconds,
                10,
                3_600_000,
            ),
            (
                "watch.leaderlessMillisecondsMax",
                watch.leaderless_milliseconds_max,
                10,
                3_600_000,
            ),
        ] {
            source.range(field, value, least, most)?;
        }
        Ok(())
    }

    fn check_limits(&self, source: &Source<'_>) -> Result<(), ConfigError> {
        let limits = &self.limits;
        for (field, value, least, most) in [
            (
                "limits.commandBytesMax",
                limits.command_bytes_max as u64,
                1,
                16 << 20,
            ),
            (
                "limits.requestsMax",
                limits.requests_max as u64,
                16,
                1 << 20,
            ),
            (
                "limits.requestsBytesMax",
                limits.requests_bytes_max as u64,
                limits.requests_bytes_min() as u64,
                u32::MAX.into(),
            ),
            (
                "limits.pendingWritesMax",
                limits.pending_writes_max as u64,
                1,
                1 << 24,
            ),
            (
                "limits.unappliedBytesMax",
                limits.unapplied_bytes_max as u64,
                1,
                1 << 40,
            ),
            (
                "limits.streamCommandsMax",
                limits.stream_commands_max as u64,
                1,
                1 << 16,
            ),
            (
                "limits.connectionRequestsMax",
                limits.connection_requests_max.into(),
                1,
                1 << 20,
            ),
            (
                "limits.writeTimeoutMilliseconds",
                limits.write_timeout_milliseconds,
                1,
                3_600_000,
            ),
            (
                "limits.adminTimeoutMilliseconds",
                limits.admin_timeout_milliseconds,
                1,
                3_600_000,
            ),
            (
                "limits.stopTimeoutMilliseconds",
                limits.stop_timeout_milliseconds,
                0,
                600_000,
            ),
            (
                "limits.addressBookMax",
                limits.address_book_max as u64,
                16,
                1 << 20,
            ),
            (
                "limits.peerQueueMessagesMax",
                limits.peer_queue_messages_max as u64,
                16,
                1 << 20,
            ),
            (
                "limits.peerQueueBytesMax",
                limits.peer_queue_bytes_max as u64,
                4 << 20,
                1 << 32,
            ),
            (
                "limits.checkpointCommandsMax",
                limits.checkpoint_commands_max,
                1,
                1 << 40,
            ),
            (
                "limits.checkpointMillisecondsMax",
                limits.checkpoint_milliseconds_max,
                10,
                86_400_000,
            ),
            (
                "limits.logTailBytes",
                limits.log_tail_bytes as u64,
                4 << 10,
                1 << 36,
            ),
            (
                "limits.logKeptBytesMax",
                limits.log_kept_bytes_max as u64,
                limits.log_tail_bytes as u64,
                1 << 40,
            ),
            (
                "limits.snapshotBytesPerSecond",
                limits.snapshot_bytes_per_second,
                0,
                1 << 40,
            ),
            (
                "limits.snapshotBytesMax",
                limits.snapshot_bytes_max,
                1 << 20,
                1 << 44,
            ),
        ] {
            source.range(field, value, least, most)?;
        }
        // What is a share of the state limit must leave room for a command and an append.
        for (field, value, least) in [
            ("limits.memoryBytes", limits.memory_bytes, 20 << 20),
            ("limits.stateBytesMax", limits.state_bytes_max, 8 << 20),
        ] {
            source.range(field, value.unwrap_or(least), least, 1 << 44)?;
        }
        if let (Some(state), Some(memory)) = (limits.state_bytes_max, limits.memory_bytes) {
            source.require(
                state <= memory,
                "limits.stateBytesMax",
                &state.to_string(),
                &format!("at most limits.memoryBytes ({memory}); 40 % of that is usual"),
            )?;
        }
        // Four commands may wait to enter a turn, whatever the state limit is.
        let command_max = limits.state_limit().map_or(u64::MAX, |limit| limit / 4);
        source.require(
            limits.command_bytes_max as u64 <= command_max,
            "limits.commandBytesMax",
            &limits.command_bytes_max.to_string(),
            &format!("at most {command_max}, a quarter of the state limit"),
        )
    }
}

/// Parses a file; one without any key stands for the defaults.
fn parse(file: &Path, text: &str) -> Result<Config, ConfigError> {
    match serde_yaml::from_str::<Option<Config>>(text) {
        Ok(config) => Ok(config.unwrap_or_default()),
        Err(error) => {
            let line = error.location().map(|location| location.line());
            Err(ConfigError::Malformed {
                origin: Origin::File(file.into(), line),
                message: error.to_string(),
            })
        }
    }
}

/// HOST:PORT; an IPv6 host in brackets.
pub(crate) fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let host = host.trim_start_matches('[').trim_end_matches(']');
    port.parse::<u16>().is_ok() && is_host(host) && (bracketed || !host.contains(':'))
}

fn is_host(text: &str) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !text.is_empty()
        && (text.parse::<std::net::Ipv6Addr>().is_ok()
            || (text.len() <= 253 && text.chars().all(name)))
}

impl Source<'_> {
    fn require(
        &self,
        holds: bool,
        field: &'static str,
        value: &str,
        right: &str,
    ) -> Result<(), ConfigError> {
        if holds {
            return Ok(());
        }
        Err(ConfigError::OutOfRange {
            origin: self.origin(field),
            field,
            value: value.into(),
            right: right.into(),
        })
    }

    fn range(
        &self,
        field: &'static str,
        value: u64,
        least: u64,
        most: u64,
    ) -> Result<(), ConfigError> {
        let right = format!("{least} to {most}");
        self.require(
            (least..=most).contains(&value),
            field,
            &value.to_string(),
            &right,
        )
    }

    fn origin(&self, field: &'static str) -> Origin {
        let cli = self.cli;
        let flag = match field {
            "nodeName" if cli.node_name.is_some() => ("--node-name", "KONTIKI_NODE_NAME"),
            "listen.client" if cli.listen_client.is_some() => {
                ("--listen-client", "KONTIKI_LISTEN_CLIENT")
            }
            "listen.peer" if cli.listen_peer.is_some() => ("--listen-peer", "KONTIKI_LISTEN_PEER"),
            "listen.http" if cli.listen_http.is_some() => ("--listen-http", "KONTIKI_LISTEN_HTTP"),
            "advertise.host" if cli.advertise_host.is_some() => {
                ("--advertise-host", "KONTIKI_ADVERTISE_HOST")
            }
            "machine" if cli.machine.is_some() => ("--machine", "KONTIKI_MACHINE"),
            "raft.heartbeatMilliseconds" if cli.heartbeat_ms.is_some() => {
                ("--heartbeat-ms", "KONTIKI_HEARTBEAT_MS")
            }
            "raft.electionTimeoutMilliseconds" if cli.election_timeout_ms.is_some() => {
                ("--election-timeout-ms", "KONTIKI_ELECTION_TIMEOUT_MS")
            }
            "raft.electionTimeoutMaxMilliseconds" if cli.election_timeout_max_ms.is_some() => (
                "--election-timeout-max-ms",
                "KONTIKI_ELECTION_TIMEOUT_MAX_MS",
            ),
            "raft.minMajority" if cli.min_majority.is_some() => {
                ("--min-majority", "KONTIKI_MIN_MAJORITY")
            }
            "limits.memoryBytes" if cli.memory_bytes.is_some() => {
                ("--memory-bytes", "KONTIKI_MEMORY_BYTES")
            }
            "limits.stateBytesMax" if cli.state_bytes_max.is_some() => {
                ("--state-bytes-max", "KONTIKI_STATE_BYTES_MAX")
            }
            "raft.electionPriority" if cli.election_priority.is_some() => {
                ("--election-priority", "KONTIKI_ELECTION_PRIORITY")
            }
            "log.level" if cli.log_level.is_some() => ("--log-level", "KONTIKI_LOG_LEVEL"),
            _ => {
                return match &self.file {
                    None => Origin::Default,
                    Some((file, text)) => Origin::File(file.into(), line_of(text, field)),
                };
            }
        };
        Origin::Flag(flag.0, flag.1)
    }
}

/// The line, from 1, of a key such as `raft.minMajority` in block-style YAML.
fn line_of(text: &str, path: &str) -> Option<usize> {
    let mut open: Vec<(usize, &str)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let Some((key, _)) = line.trim_start().split_once(':') else {
            continue;
        };
        open.retain(|(outer, _)| *outer < indent);
        open.push((indent, key.trim_matches(['"', '\''])));
        let keys = open.iter().map(|(_, key)| *key);
        if keys.eq(path.split('.')) {
            return Some(at + 1);
        }
    }
    None
}
