//! The command line.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::shown::Output;

const STATUSES: &str = "\
Exit status:
  0  ok
  1  failed: it was not applied, and will not be
  2  the command line is wrong; nothing was sent
  3  not found (get)
  4  outcome unknown: it may or may not be applied
  5  the key is not at the revision that was named; nothing was changed (put, delete)

Bytes in tables are escaped (\\\\, \\n, \\xNN). In json and yaml a field NAME holds them if they are
UTF-8; if they are not, NAME_hex takes its place and holds hexadecimal digits.";

/// Speaks to a Kontiki cluster: keys and values, status, membership, leadership.
#[derive(Debug, Parser)]
#[command(name = "kontiki", version, after_help = STATUSES, max_term_width = 100)]
pub struct Arguments {
    /// Client ports of one or more servers, HOST:PORT separated by commas; any of them leads to the
    /// leader
    #[arg(
        long,
        global = true,
        env = "KONTIKI_ENDPOINTS",
        value_delimiter = ',',
        default_value = "127.0.0.1:7400"
    )]
    pub endpoints: Vec<String>,
    /// Peer ports of one or more servers, for status, membership and leadership
    #[arg(
        long,
        global = true,
        env = "KONTIKI_ADMIN_ENDPOINTS",
        value_delimiter = ',',
        default_value = "127.0.0.1:7401"
    )]
    pub admin_endpoints: Vec<String>,
    /// Give up after this long, retries included: a number with ms, s or m
    #[arg(long, global = true, env = "KONTIKI_TIMEOUT", value_parser = duration, default_value = "10s")]
    pub timeout: Duration,
    /// How to print the answer
    #[arg(
        long,
        short,
        global = true,
        env = "KONTIKI_OUTPUT",
        default_value = "table"
    )]
    pub output: Output,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Store a value under a key
    Put(Put),
    /// Print the value of a key
    Get(Get),
    /// Remove a key
    Delete(Delete),
    /// List keys and values in byte order
    Range(Range),
    /// Print what changes in keys, as it changes, until interrupted
    Watch(Watch),
    /// Replicate an opaque command, whatever the state machine
    Write(Write),
    /// Ask the state machine an opaque query
    Read(Read),
    /// Show what every one of --admin-endpoints says of itself
    Status,
    /// Show who is in the cluster
    Members,
    /// Add a server and wait until it votes
    AddServer(AddServer),
    /// Take a server out
    RemoveServer(RemoveServer),
    /// Put a new server in the place of a lost one
    ReplaceServer(ReplaceServer),
    /// Hand leadership over
    TransferLeadership(TransferLeadership),
    /// Make one server campaign at once
    TriggerElection(TriggerElection),
    /// Show what one server knows, and its log
    Inspect(Inspect),
    /// Ask every one of --admin-endpoints whether it is there
    Ping,
    /// End the process of one server (on Kubernetes its container starts again, without its state)
    StopServer(StopServer),
    /// Wait until a leader is known, for --timeout at most
    AwaitLeader,
    /// Write unique keys as fast as asked, and measure
    #[command(visible_alias = "bench")]
    Load(Load),
    /// Print a completion script for a shell
    Completions {
        /// Which
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub struct Put {
    /// 1 to 4096 bytes
    pub key: OsString,
    /// `-` reads it from stdin
    pub value: OsString,
    /// Only if the key was last written at this revision, its `mod_revision`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub if_revision: Option<u64>,
    /// Only if there is no such key
    #[arg(long, conflicts_with = "if_revision")]
    pub if_absent: bool,
    /// Write in a session: sent again until the outcome is known, applied once. Costs two writes more
    #[arg(long)]
    pub once: bool,
}

/// How fresh an answer must be; without any of these the leader answers, linearizably.
#[derive(Debug, Args)]
pub struct Fresh {
    /// What any one server has applied, however old
    #[arg(long, conflicts_with_all = ["lease", "max_staleness", "any_server"])]
    pub stale: bool,
    /// From the leader, under its lease if it has one: as fresh as long as clocks run fast or slow by at
    /// most 2 %
    #[arg(long, conflicts_with = "max_staleness")]
    pub lease: bool,
    /// From any server that lacks no write older than this many milliseconds
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_staleness: Option<u32>,
    /// From any server: one that cannot tell by itself asks the leader how far it must be
    #[arg(long)]
    pub any_server: bool,
}

#[derive(Debug, Args)]
pub struct Get {
    pub key: OsString,
    #[command(flatten)]
    pub fresh: Fresh,
    /// Print the value's bytes as they are and nothing else, whatever --output
    #[arg(long)]
    pub raw: bool,
}

#[derive(Debug, Args)]
pub struct Delete {
    pub key: OsString,
    /// Only if the key was last written at this revision, its `mod_revision`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub if_revision: Option<u64>,
    /// Write in a session: sent again until the outcome is known, applied once. Costs two writes more
    #[arg(long)]
    pub once: bool,
}

#[derive(Debug, Args)]
pub struct Range {
    /// First key; from the beginning without it
    pub start: Option<OsString>,
    /// First key after the range; to the end without it
    pub end: Option<OsString>,
    /// Keys that begin so, in place of START and END
    #[arg(long, conflicts_with_all = ["start", "end"])]
    pub prefix: Option<OsString>,
    /// At most this many keys; 0: all. If there are more, a token for --continue is printed
    #[arg(long, default_value_t = 0)]
    pub limit: u64,
    /// Go on where an earlier listing ended, to the end of its range
    #[arg(long = "continue", value_name = "TOKEN",
          conflicts_with_all = ["start", "end", "prefix"])]
    pub continuation: Option<String>,
    #[command(flatten)]
    pub fresh: Fresh,
}

/// In a table a change is a line: revision, `put` or `delete`, key, value, with tabs between. In json it
/// is a line as well, one object; in yaml a document.
#[derive(Debug, Args)]
pub struct Watch {
    /// Keys that begin so; all without it
    pub prefix: Option<OsString>,
    /// From this revision on, if servers still keep it; from now on without it
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..u64::MAX))]
    pub from: Option<u64>,
    /// End after this many changes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

#[derive(Debug, Args)]
pub struct Write {
    /// The command's bytes; `-` reads them from stdin
    pub command: OsString,
    /// COMMAND is hexadecimal digits, and so is the reply
    #[arg(long)]
    pub hex: bool,
    /// Write in a session: sent again until the outcome is known, applied once. Costs two writes more
    #[arg(long)]
    pub once: bool,
}

#[derive(Debug, Args)]
pub struct Read {
    /// The query's bytes; `-` reads them from stdin
    pub query: OsString,
    /// QUERY is hexadecimal digits, and so is the reply
    #[arg(long)]
    pub hex: bool,
    #[command(flatten)]
    pub fresh: Fresh,
}

#[derive(Debug, Args)]
pub struct NewServer {
    /// Its id, 16 hexadecimal digits: `kontiki status --admin-endpoints ITS-PEER-ADDRESS` shows it
    #[arg(long, value_parser = server_id)]
    pub server_id: String,
    /// HOST:PORT where other servers reach it
    #[arg(long)]
    pub peer_address: String,
    /// HOST:PORT where clients reach it
    #[arg(long)]
    pub client_address: String,
    /// Name of its node, a label
    #[arg(long, default_value = "")]
    pub node: String,
}

#[derive(Debug, Args)]
pub struct AddServer {
    #[command(flatten)]
    pub server: NewServer,
    /// Keep it a learner: it receives the log and never votes
    #[arg(long)]
    pub as_learner: bool,
}

#[derive(Debug, Args)]
pub struct RemoveServer {
    /// 16 hexadecimal digits
    #[arg(required = true, value_parser = server_id)]
    pub ids: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ReplaceServer {
    /// Id of the server that is lost
    #[arg(value_parser = server_id)]
    pub lost: String,
    #[command(flatten)]
    pub server: NewServer,
}

#[derive(Debug, Args)]
pub struct TransferLeadership {
    /// Id of the voter that is to lead; the one that is furthest without it
    #[arg(value_parser = server_id)]
    pub target: Option<String>,
}

#[derive(Debug, Args)]
pub struct TriggerElection {
    /// Id of the server, one behind --admin-endpoints; without it the only endpoint's
    #[arg(value_parser = server_id)]
    pub server: Option<String>,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// Id of the server, one behind --admin-endpoints; without it the only endpoint's
    #[arg(value_parser = server_id)]
    pub server: Option<String>,
    /// First entry to show
    #[arg(long, default_value_t = 1)]
    pub from: u64,
    /// At most this many entries; 0: all
    #[arg(long, default_value_t = 256)]
    pub limit: usize,
    /// Bytes of each command to show
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub bytes: u32,
}

#[derive(Debug, Args)]
pub struct StopServer {
    /// Id of the server, one behind --admin-endpoints; without it the only endpoint's
    #[arg(value_parser = server_id)]
    pub server: Option<String>,
    /// What its machine, its log and waiting calls are told
    #[arg(long, default_value = "told to by `kontiki stop-server`")]
    pub reason: String,
    /// Hand leadership over and answer what is pending first
    #[arg(long)]
    pub graceful: bool,
}

#[derive(Debug, Args)]
pub struct Load {
    /// Concurrent writers, each with a connection of its own
    #[arg(long, default_value_t = 64)]
    pub writers: usize,
    /// Writes per second of all together; as fast as they are answered without it
    #[arg(long)]
    pub rate: Option<f64>,
    /// End after this long: a number with ms, s or m
    #[arg(long, value_parser = duration, default_value = "10s")]
    pub duration: Duration,
    /// End after this many writes, if that is earlier
    #[arg(long)]
    pub count: Option<u64>,
    /// Bytes of a value
    #[arg(long, default_value_t = 256)]
    pub value_bytes: usize,
    /// What keys begin with; random without it, because every run needs keys of its own
    #[arg(long)]
    pub key_prefix: Option<String>,
    /// Read every acknowledged key back afterwards, linearizably and on every one of --endpoints
    #[arg(long)]
    pub verify: bool,
    /// Write in sessions, one for each writer
    #[arg(long)]
    pub sessions: bool,
    /// Show no progress on stderr
    #[arg(long, short)]
    pub quiet: bool,
}

/// A number with `ms`, `s` or `m`; above zero, at most a day.
fn duration(text: &str) -> Result<Duration, String> {
    const WANTED: &str = "give a number with ms, s or m, for example 500ms, 10s or 1.5m, \
                          above zero and at most 1440m";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(WANTED.to_owned()),
    };
    let seconds = digits.parse::<f64>().map_err(|_| WANTED.to_owned())? * unit;
    if !(seconds > 0.0 && seconds <= 86_400.0) {
        return Err(WANTED.to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// 16 lower-case hexadecimal digits.
fn server_id(text: &str) -> Result<String, String> {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() == 16 && text.bytes().all(digit) {
        return Ok(text.to_owned());
    }
    Err("a server id is 16 lower-case hexadecimal digits; `kontiki members` shows them".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_flags_go_anywhere_and_lists_split() {
        let line = [
            "kontiki",
            "get",
            "k",
            "--endpoints",
            "a:1,b:2",
            "--timeout",
            "1.5s",
            "-ojson",
        ];
        let arguments = Arguments::try_parse_from(line).unwrap();
        assert_eq!(arguments.endpoints, ["a:1", "b:2"]);
        assert_eq!(arguments.timeout, Duration::from_millis(1500));
        assert_eq!(arguments.output, Output::Json);
    }

    #[test]
    fn bad_values_are_refused_with_what_is_right() {
        let table: [(&[&str], &str); 8] = [
            (
                &["kontiki", "put", "k", "v", "--if-revision", "0"],
                "not in 1..",
            ),
            (
                &[
                    "kontiki",
                    "put",
                    "k",
                    "v",
                    "--if-revision",
                    "1",
                    "--if-absent",
                ],
                "cannot be used with",
            ),
            (
                &["kontiki", "range", "a", "--continue", "00"],
                "cannot be used with",
            ),
            (
                &["kontiki", "get", "k", "--timeout", "10"],
                "500ms, 10s or 1.5m",
            ),
            (&["kontiki", "get", "k", "--timeout", "0s"], "above zero"),
            (
                &["kontiki", "remove-server", "XYZ"],
                "16 lower-case hexadecimal digits",
            ),
            (
                &["kontiki", "range", "a", "--prefix", "b"],
                "cannot be used with",
            ),
            (&["kontiki", "get", "k", "-o", "xml"], "json"),
        ];
        for (line, wanted) in table {
            let error = Arguments::try_parse_from(line).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }

    #[test]
    fn help_documents_the_exit_statuses() {
        let help = Arguments::command().render_long_help().to_string();
        for status in [
            "1  failed",
            "2  the command line",
            "3  not found",
            "4  outcome unknown",
            "5  the key is not at the revision",
        ] {
            assert!(help.contains(status), "{help}");
        }
    }
}
