//! What can be wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file, and the line in it.
    File(PathBuf, Option<usize>),
    /// A flag, or the environment variable that stands for it.
    Flag(&'static str, &'static str),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file, Some(line)) => write!(f, "{}:{line}", file.display()),
            Self::File(file, None) => write!(f, "{}", file.display()),
            Self::Flag(flag, env) => write!(f, "{flag} (or {env})"),
            Self::Default => write!(f, "the defaults"),
        }
    }
}

/// The configuration is wrong. The message names file, line, field and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no YAML, or has a key or type that is not known.
    #[error("{origin}: {message}")]
    Malformed {
        /// Where.
        origin: Origin,
        /// What, with the keys that would be right.
        message: String,
    },
    /// A value is out of its range.
    #[error("{origin}: {field} is {value:?}, must be {right}")]
    OutOfRange {
        /// Where.
        origin: Origin,
        /// Path of the key in the file.
        field: &'static str,
        /// What was said.
        value: String,
        /// What would be right.
        right: String,
    },
}
