//! Whether the settings of the members fit together, and fit the network.

use prometheus::{Gauge, IntGauge, IntGaugeVec, Opts};

use super::Registrar;
use crate::driver::{Status, WarningReason};

#[derive(Debug)]
pub(super) struct SettingsMetrics {
    /// By [`WarningReason`].
    warnings: Vec<IntGauge>,
    round_trip: Gauge,
}

impl SettingsMetrics {
    pub(super) fn new(add: &Registrar<'_>) -> Self {
        let warnings = Opts::new(
            "kontiki_settings_warnings",
            "1 if settings do not fit for this reason: of all members at the leader, elsewhere of this \
             server alone; status says which.",
        );
        let warnings: IntGaugeVec = add.add(IntGaugeVec::new(warnings, &["reason"]));
        let of = |reason: &WarningReason| {
            let label = reason.name().to_ascii_lowercase();
            warnings.with_label_values(&[label.as_str()])
        };
        let round_trip = "Longest that the answer to a heartbeat takes: of each other member the \
                          shortest of the last eight counts. NaN unless this server leads.";
        Self {
            warnings: WarningReason::ALL.iter().map(of).collect(),
            round_trip: add.add(Gauge::new("kontiki_round_trip_seconds", round_trip)),
        }
    }

    pub(super) fn observe(&self, status: &Status) {
        for (gauge, reason) in self.warnings.iter().zip(WarningReason::ALL) {
            let is_warned = status
                .warnings
                .iter()
                .any(|warning| warning.reason == *reason);
            gauge.set(i64::from(is_warned));
        }
        let seconds = status.round_trip.map(|took| took.as_secs_f64());
        self.round_trip.set(seconds.unwrap_or(f64::NAN));
    }
}
