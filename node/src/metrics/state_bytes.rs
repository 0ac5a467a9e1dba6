//! What a server holds of the cluster's data, and the limit of it.

use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts};

use super::Registrar;
use crate::driver::{Counters, StateBytes, Status};

#[derive(Debug)]
pub(super) struct StateMetrics {
    parts: Vec<IntGauge>,
    limit: IntGauge,
    refused: IntCounter,
}

impl StateMetrics {
    pub(super) fn new(add: &Registrar<'_>) -> Self {
        let parts = Opts::new(
            "kontiki_state_bytes",
            "Bytes held in memory, by part; writes are refused once their sum reaches the limit.",
        );
        let parts: IntGaugeVec = add.add(IntGaugeVec::new(parts, &["part"]));
        let names = StateBytes::default().parts().map(|(name, _)| name);
        Self {
            parts: names.map(|name| parts.with_label_values(&[name])).into(),
            limit: add.gauge(
                "kontiki_state_limit_bytes",
                "State limit of this server; 0: none.",
            ),
            refused: add.counter(
                "kontiki_state_limit_refusals_total",
                "Commands refused because the state limit was reached.",
            ),
        }
    }

    /// Takes over what the driver counted since `before`.
    pub(super) fn add_counters(&self, before: &Counters, after: &Counters) {
        let refused = after.refused_by_state_limit - before.refused_by_state_limit;
        self.refused.inc_by(refused);
    }

    pub(super) fn observe(&self, status: &Status) {
        for (gauge, (_, bytes)) in self.parts.iter().zip(status.state_bytes.parts()) {
            gauge.set(bytes as i64);
        }
        self.limit.set(status.state_bytes_max.unwrap_or(0) as i64);
    }
}
