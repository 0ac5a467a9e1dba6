//! Logs on standard error, as text or JSON.

use std::fmt;
use std::io::{self, IsTerminal};

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object to a line.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        })
    }
}

/// Options about logs.
#[derive(Debug, Args)]
pub struct LogOptions {
    /// How log lines look.
    #[arg(
        long,
        global = true,
        env = "KONTIKI_LOG_FORMAT",
        value_enum,
        default_value = "text"
    )]
    pub log_format: LogFormat,
    /// Least severe level that is logged, or a filter such as `info,kontiki_operator=debug`.
    #[arg(long, global = true, env = "KONTIKI_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

/// Starts logging, for the life of the process.
///
/// # Errors
/// A level that cannot be read.
pub fn init(options: &LogOptions) -> Result<(), ParseError> {
    let mut filter = EnvFilter::builder().parse(&options.log_level)?;
    if !options.log_level.contains("kube_runtime") {
        // It puts every line of a reconcile into a span that says what the line says.
        filter = filter.add_directive("kube_runtime=warn".parse()?);
    }
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match options.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    Ok(())
}
