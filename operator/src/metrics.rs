//! The operator's own metrics.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kontiki_api::RaftClusterStatus;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

/// Buckets of a reconcile, in seconds: reading takes milliseconds, waiting for a call up to five.
const BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Counters and gauges, and what the gauges are counted from.
pub struct Metrics {
    registry: Registry,
    reconciles: IntCounter,
    reconcile_errors: IntCounter,
    reconcile_duration: Histogram,
    steps: IntCounterVec,
    status_writes: IntCounter,
    known: IntGauge,
    by_condition: IntGaugeVec,
    has_leader: IntGaugeVec,
    clusters: Mutex<HashMap<Key, Seen>>,
}

/// Namespace and name.
type Key = (String, String);

struct Seen {
    conditions: Vec<(String, String)>,
    has_leader: bool,
}

impl Metrics {
    /// All of them, at zero.
    ///
    /// # Errors
    /// Two metrics of one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let metrics = Self {
            registry: Registry::new(),
            reconciles: IntCounter::new(
                "kontiki_operator_reconciles_total",
                "Reconciles that have ended.",
            )?,
            reconcile_errors: IntCounter::new(
                "kontiki_operator_reconcile_errors_total",
                "Reconciles that could not look at the world or report.",
            )?,
            reconcile_duration: Histogram::with_opts(
                HistogramOpts::new(
                    "kontiki_operator_reconcile_duration_seconds",
                    "Time from the start of a reconcile to its end.",
                )
                .buckets(BUCKETS.to_vec()),
            )?,
            steps: IntCounterVec::new(
                Opts::new(
                    "kontiki_operator_steps_total",
                    "Steps of plans, by how they ended.",
                ),
                &["step", "outcome"],
            )?,
            status_writes: IntCounter::new(
                "kontiki_operator_status_writes_total",
                "Writes of the status of a RaftCluster.",
            )?,
            known: IntGauge::new(
                "kontiki_operator_known_clusters",
                "RaftClusters looked after.",
            )?,
            by_condition: IntGaugeVec::new(
                Opts::new(
                    "kontiki_operator_clusters",
                    "RaftClusters by condition and its value.",
                ),
                &["condition", "status"],
            )?,
            has_leader: IntGaugeVec::new(
                Opts::new(
                    "kontiki_operator_cluster_has_leader",
                    "Whether the operator knows a leader of this RaftCluster.",
                ),
                &["namespace", "name"],
            )?,
            clusters: Mutex::default(),
        };
        metrics.register()?;
        Ok(metrics)
    }

    fn register(&self) -> Result<(), prometheus::Error> {
        let registry = &self.registry;
        registry.register(Box::new(self.reconciles.clone()))?;
        registry.register(Box::new(self.reconcile_errors.clone()))?;
        registry.register(Box::new(self.reconcile_duration.clone()))?;
        registry.register(Box::new(self.steps.clone()))?;
        registry.register(Box::new(self.status_writes.clone()))?;
        registry.register(Box::new(self.known.clone()))?;
        registry.register(Box::new(self.by_condition.clone()))?;
        registry.register(Box::new(self.has_leader.clone()))?;
        let process = prometheus::process_collector::ProcessCollector::for_self();
        registry.register(Box::new(process))
    }

    /// A reconcile has ended.
    pub fn reconciled(&self, took: Duration, failed: bool) {
        self.reconciles.inc();
        self.reconcile_duration.observe(took.as_secs_f64());
        if failed {
            self.reconcile_errors.inc();
        }
    }

    /// A step has ended: `done`, `failed` or `skipped`.
    pub fn stepped(&self, step: &str, outcome: &str) {
        self.steps.with_label_values(&[step, outcome]).inc();
    }

    /// The status of a cluster was written.
    pub fn status_written(&self) {
        self.status_writes.inc();
    }

    /// What a cluster is like now.
    pub fn saw(&self, namespace: &str, name: &str, status: &RaftClusterStatus) {
        let conditions = status.conditions.iter();
        let seen = Seen {
            conditions: conditions
                .map(|c| (c.type_.clone(), c.status.clone()))
                .collect(),
            has_leader: status.leader.is_some(),
        };
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.insert((namespace.to_owned(), name.to_owned()), seen);
    }

    /// A cluster is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// A metric that the format cannot say.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        self.count_clusters();
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }

    fn count_clusters(&self) {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        self.by_condition.reset();
        self.has_leader.reset();
        self.known
            .set(i64::try_from(clusters.len()).unwrap_or(i64::MAX));
        for ((namespace, name), seen) in clusters.iter() {
            for (condition, status) in &seen.conditions {
                self.by_condition
                    .with_label_values(&[condition, status])
                    .inc();
            }
            let gauge = self.has_leader.with_label_values(&[namespace, name]);
            gauge.set(i64::from(seen.has_leader));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_is_gone_is_not_counted() {
        let metrics = Metrics::new().unwrap();
        let status = RaftClusterStatus::default();
        metrics.saw("default", "demo", &status);
        metrics.stepped("Add", "done");
        metrics.reconciled(Duration::from_millis(3), true);
        let text = metrics.text().unwrap();
        assert!(text.contains("kontiki_operator_known_clusters 1"), "{text}");
        assert!(text.contains("kontiki_operator_steps_total{outcome=\"done\",step=\"Add\"} 1"));
        assert!(text.contains("has_leader{name=\"demo\",namespace=\"default\"} 0"));
        metrics.forget("default", "demo");
        let text = metrics.text().unwrap();
        assert!(text.contains("kontiki_operator_known_clusters 0"), "{text}");
        assert!(!text.contains("has_leader{"), "{text}");
    }
}
