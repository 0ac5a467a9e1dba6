//! What a run did, section by section.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

/// A run so far, or as it ended.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The whole run.
    pub total: Section,
    /// Its sections, in order; the first is `start`.
    pub sections: Vec<Section>,
}

/// A stretch of a run, from one mark to the next. Durations are seconds when serialized.
#[derive(Debug, Clone, Serialize)]
pub struct Section {
    /// What the mark said.
    pub label: String,
    /// When it began, since the run's start.
    #[serde(rename = "began_seconds", serialize_with = "seconds")]
    pub began: Duration,
    /// How long it lasted.
    #[serde(rename = "lasted_seconds", serialize_with = "seconds")]
    pub lasted: Duration,
    /// Writes acknowledged in it.
    pub acknowledged: u64,
    /// Writes that failed in it: they were not applied.
    pub failed: u64,
    /// Writes whose outcome is unknown.
    pub unknown: u64,
    /// Acknowledged writes per second.
    pub rate: f64,
    /// The longest time without an acknowledgement to any writer. A gap that began before the
    /// section counts in full; one that lasts beyond its end counts up to there.
    #[serde(rename = "longest_gap_seconds", serialize_with = "seconds")]
    pub longest_gap: Duration,
    /// The longest time that one writer had to wait between two acknowledgements of its own that
    /// ended in this section.
    #[serde(rename = "longest_writer_gap_seconds", serialize_with = "seconds")]
    pub longest_writer_gap: Duration,
    /// Of acknowledged writes.
    pub latency: Latency,
    /// The last error of the section, if there was one.
    pub last_error: Option<String>,
}

/// Latencies in microseconds, from when a write was due (at a rate) or sent (in a closed loop).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs)] // the names say it
pub struct Latency {
    pub mean_us: f64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
}

impl Latency {
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Latency::default();
        }
        Latency {
            mean_us: histogram.mean(),
            p50_us: histogram.value_at_quantile(0.5),
            p90_us: histogram.value_at_quantile(0.9),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        }
    }
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
