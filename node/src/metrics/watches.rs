//! Watches, and the history that they read.

use prometheus::{IntCounter, IntGauge};

use super::Registrar;
use crate::watching::Watching;

#[derive(Debug)]
pub(super) struct WatchMetrics {
    watchers: IntGauge,
    history_bytes: IntGauge,
    events: IntCounter,
}

impl WatchMetrics {
    pub(super) fn new(add: &Registrar<'_>) -> Self {
        Self {
            watchers: add.gauge("kontiki_watchers", "Open watches."),
            history_bytes: add.gauge(
                "kontiki_watch_history_bytes",
                "Bytes of recent changes kept for watchers.",
            ),
            events: add.counter(
                "kontiki_watch_events_total",
                "Changes sent, to each watcher.",
            ),
        }
    }

    pub(super) fn observe(&self, watching: &Watching) {
        self.watchers.set(watching.count() as i64);
        self.history_bytes.set(watching.history().bytes() as i64);
    }

    pub(super) fn count_events(&self, count: usize) {
        self.events.inc_by(count as u64);
    }
}
