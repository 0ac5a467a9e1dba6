//! Bounds of watches.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::machine::history::HistoryBounds;

/// Bounds of watches on this server. What is kept for watchers is its own, in memory, and begins anew
/// with each process and each snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WatchSettings {
    /// Bytes of recent changes that are kept for watchers: keys, values, and 32 for each; a single
    /// larger one is kept all the same. Who lags behind by more is told that it is compacted. At most a
    /// sixteenth of the state limit, beside what that counts. Default 4 MiB.
    pub history_bytes_max: usize,
    /// Changes that are kept. Default 65536.
    pub history_events_max: usize,
    /// Watches at a time; past it they are refused. Each looks at the key of every change. Default 256.
    pub watchers_max: usize,
    /// A watcher whose keys do not change is told how far it has come at most this often. Default 1000.
    pub progress_milliseconds: u64,
    /// A watch ends once its server has known no leader for this long: it may be cut off, or removed,
    /// and not notice otherwise. Default 5000.
    pub leaderless_milliseconds_max: u64,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            history_bytes_max: 4 << 20,
            history_events_max: 65536,
            watchers_max: 256,
            progress_milliseconds: 1000,
            leaderless_milliseconds_max: 5000,
        }
    }
}

impl WatchSettings {
    /// The history's part.
    pub fn bounds(&self) -> HistoryBounds {
        HistoryBounds {
            events_max: self.history_events_max,
            bytes_max: self.history_bytes_max,
        }
    }

    /// These, with a history of a sixteenth of the state limit at most, if there is one.
    pub fn within(self, state_limit: Option<u64>) -> Self {
        let share = state_limit.map_or(usize::MAX, |limit| limit as usize / 16);
        Self {
            history_bytes_max: self.history_bytes_max.min(share),
            ..self
        }
    }

    /// See `progress_milliseconds`.
    pub fn progress(&self) -> Duration {
        Duration::from_millis(self.progress_milliseconds)
    }

    /// See `leaderless_milliseconds_max`.
    pub fn leaderless_max(&self) -> Duration {
        Duration::from_millis(self.leaderless_milliseconds_max)
    }
}
