//! What the loop looks after ten times a second: metrics, readiness, connections, and what people should
//! know.

use std::sync::atomic::Ordering::Relaxed;

use kontiki_raft::{Role, Time};

use super::Loop;
use crate::driver::Status;
use crate::introduce::introduce;

impl Loop {
    pub(super) fn tick(&mut self, now: Time) {
        let status: Status = self.driver.status();
        if let Some(cluster) = status.cluster
            && self.handle.cluster.swap(cluster.0, Relaxed) != cluster.0
        {
            tracing::info!(%cluster, "belongs to a cluster");
        }
        self.handle.set_ready(status.ready);
        self.handle
            .watching
            .set_quarantine(status.quarantine.as_ref());
        self.links
            .keep(&status.configuration.configuration.servers(), now);
        self.introduce(&status);
        self.warn(&status);
        let metrics = &self.handle.metrics;
        metrics.observe(&status, now, self.silent);
        metrics.observe_watches(&self.handle.watching);
        let counted = *self.driver.counters();
        metrics.add_counters(&self.counted, &counted);
        self.counted = counted;
        self.driver
            .drain_samples(|stage, gap| metrics.observe_stage(stage, gap));
    }

    /// A leader introduces the servers of every new configuration to each other.
    fn introduce(&mut self, status: &Status) {
        let configuration = &status.configuration;
        let now = (status.standing.term, configuration.index);
        if status.standing.role != Role::Leader || self.introduced == now {
            return;
        }
        self.introduced = now;
        let book = &self.handle.book;
        let servers = configuration.configuration.servers();
        let servers: Vec<_> = servers.into_iter().map(|id| book.find(id)).collect();
        let handle = self.handle.clone();
        tokio::spawn(async move { introduce(&handle, &servers).await });
    }

    /// Logs each warning about the settings when it comes up, and again when it changes.
    fn warn(&mut self, status: &Status) {
        if self.warned == status.warnings {
            return;
        }
        for warning in &status.warnings {
            if !self.warned.contains(warning) {
                let book = &self.handle.book;
                let what = warning.describe(|server| book.find(server).to_string());
                tracing::warn!(reason = warning.reason.name(), what, "settings do not fit");
            }
        }
        self.warned.clone_from(&status.warnings);
    }
}
