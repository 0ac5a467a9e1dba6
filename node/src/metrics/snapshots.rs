//! Compaction and snapshots.

use prometheus::{IntCounter, IntGauge};

use super::Registrar;
use crate::driver::{Counters, Status};

#[derive(Debug)]
pub(super) struct SnapshotMetrics {
    compactions: IntCounter,
    entries_compacted: IntCounter,
    started: IntCounter,
    delivered: IntCounter,
    given_up: IntCounter,
    refused_by_peers: IntCounter,
    resumed: IntCounter,
    bytes_sent: IntCounter,
    restored: IntCounter,
    refused: IntCounter,
    bytes_received: IntCounter,
    sending: IntGauge,
    receiving_bytes: IntGauge,
    log_bytes: IntGauge,
}

impl SnapshotMetrics {
    pub(super) fn new(add: &Registrar<'_>) -> Self {
        Self {
            compactions: add.counter("kontiki_log_compactions_total", "Compactions of the log."),
            entries_compacted: add.counter(
                "kontiki_log_entries_compacted_total",
                "Entries dropped by compaction.",
            ),
            started: add.counter(
                "kontiki_snapshots_started_total",
                "Snapshots that this leader began to send.",
            ),
            delivered: add.counter(
                "kontiki_snapshots_delivered_total",
                "Snapshots sent and installed there.",
            ),
            given_up: add.counter(
                "kontiki_snapshots_given_up_total",
                "Snapshots sent in vain: leadership or the server was lost, or the log outran it.",
            ),
            refused_by_peers: add.counter(
                "kontiki_snapshots_refused_by_peers_total",
                "Snapshots sent that the server could not restore.",
            ),
            resumed: add.counter(
                "kontiki_snapshots_resumed_total",
                "Times that a snapshot went on over a new connection.",
            ),
            bytes_sent: add.counter(
                "kontiki_snapshot_sent_bytes_total",
                "Bytes of snapshots sent, repetitions included.",
            ),
            restored: add.counter(
                "kontiki_snapshots_restored_total",
                "Snapshots that took the place of this server's state.",
            ),
            refused: add.counter(
                "kontiki_snapshots_refused_total",
                "Snapshots received that are damaged, or that the machine could not restore.",
            ),
            bytes_received: add.counter(
                "kontiki_snapshot_received_bytes_total",
                "Bytes of snapshots received, each once.",
            ),
            sending: add.gauge(
                "kontiki_snapshots_sending",
                "Snapshots that this leader is sending.",
            ),
            receiving_bytes: add.gauge(
                "kontiki_snapshot_receiving_bytes",
                "Bytes held of a snapshot that is being received or restored.",
            ),
            log_bytes: add.gauge("kontiki_log_bytes", "Bytes of the entries held."),
        }
    }

    /// Takes over what the driver counted since `before`.
    pub(super) fn add_counters(&self, before: &Counters, after: &Counters) {
        for (counter, before, after) in [
            (&self.compactions, before.compactions, after.compactions),
            (
                &self.entries_compacted,
                before.entries_compacted,
                after.entries_compacted,
            ),
            (
                &self.started,
                before.snapshots_started,
                after.snapshots_started,
            ),
            (
                &self.delivered,
                before.snapshots_delivered,
                after.snapshots_delivered,
            ),
            (
                &self.given_up,
                before.snapshots_given_up,
                after.snapshots_given_up,
            ),
            (
                &self.refused_by_peers,
                before.snapshots_refused_by_peers,
                after.snapshots_refused_by_peers,
            ),
            (
                &self.resumed,
                before.snapshots_resumed,
                after.snapshots_resumed,
            ),
            (
                &self.bytes_sent,
                before.snapshot_bytes_sent,
                after.snapshot_bytes_sent,
            ),
            (
                &self.restored,
                before.snapshots_restored,
                after.snapshots_restored,
            ),
            (
                &self.refused,
                before.snapshots_refused,
                after.snapshots_refused,
            ),
            (
                &self.bytes_received,
                before.snapshot_bytes_received,
                after.snapshot_bytes_received,
            ),
        ] {
            counter.inc_by(after - before);
        }
    }

    pub(super) fn observe(&self, status: &Status) {
        let sending = |peer: &&crate::driver::PeerStatus| {
            peer.refill.is_some_and(|refill| refill.sending.is_some())
        };
        let sending = status.progress.iter().filter(sending).count();
        self.sending.set(sending as i64);
        self.receiving_bytes
            .set(status.receiving.unwrap_or(0) as i64);
        self.log_bytes.set(status.log_bytes as i64);
    }
}
