//! What becomes of the machine: its version, and whether its state is what the others' is.

use prometheus::IntGauge;

use super::Registrar;
use crate::driver::Status;

#[derive(Debug)]
pub(super) struct MachineMetrics {
    quarantined: IntGauge,
    diverged: IntGauge,
    version: IntGauge,
    version_min: IntGauge,
    version_max: IntGauge,
    digest_index: IntGauge,
}

impl MachineMetrics {
    pub(super) fn new(add: &Registrar<'_>) -> Self {
        Self {
            quarantined: add.gauge(
                "kontiki_quarantined",
                "Whether this server has stopped applying, campaigning and serving; status says why.",
            ),
            diverged: add.gauge(
                "kontiki_diverged",
                "Whether this leader refuses writes: the states differ, and no majority agrees.",
            ),
            version: add.gauge(
                "kontiki_machine_version",
                "Version of the machine in force; 0 before the first.",
            ),
            version_min: add.gauge(
                "kontiki_machine_version_min",
                "Oldest version of the machine that this program runs.",
            ),
            version_max: add.gauge(
                "kontiki_machine_version_max",
                "Newest version of the machine that this program runs.",
            ),
            digest_index: add.gauge(
                "kontiki_digest_index",
                "Entry of the last checkpoint whose state was hashed here; 0 before the first.",
            ),
        }
    }

    pub(super) fn observe(&self, status: &Status) {
        for (gauge, value) in [
            (&self.quarantined, u64::from(status.quarantine.is_some())),
            (&self.diverged, u64::from(status.diverged.is_some())),
            (&self.version, status.version.into()),
            (&self.version_min, (*status.versions.start()).into()),
            (&self.version_max, (*status.versions.end()).into()),
            (
                &self.digest_index,
                status.digest.map_or(0, |digest| digest.index.0),
            ),
        ] {
            gauge.set(value as i64);
        }
    }
}
