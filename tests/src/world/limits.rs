//! Limits of what a server may hold: of its state, with a machine that fills most of it, and of what is
//! committed and not applied. All others follow from these as in a node's configuration.

use kontiki_node::driver::{DriverConfig, SessionBounds, SnapshotSettings};
use kontiki_raft::Config;

use crate::rng::Rng;

/// What of a state limit the machine's state takes, in hundredths.
const FILLED: (u64, u64) = (70, 77);

/// Of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct StateLimits {
    /// Bytes that a server may hold, and what its machine takes of them from the beginning.
    state: Option<(u64, usize)>,
    unapplied_bytes_max: Option<usize>,
}

impl StateLimits {
    /// Small ones in some runs, or in every one.
    pub(super) fn new(are_small: bool, rng: &mut Rng) -> Self {
        let state = (rng.chance(200) || are_small).then(|| {
            let max = rng.within(32_000, 64_000);
            let ballast = max / 100 * rng.within(FILLED.0, FILLED.1);
            (max, ballast as usize)
        });
        let unapplied_bytes_max = rng.chance(250).then(|| rng.within(400, 3000) as usize);
        Self {
            state,
            unapplied_bytes_max,
        }
    }

    /// Bytes of the machine's state beside its registers.
    pub(super) fn ballast(&self) -> usize {
        self.state.map_or(0, |(_, ballast)| ballast)
    }

    /// Pieces of snapshots are large enough for the state.
    pub(super) fn widen(&self, snapshots: &mut SnapshotSettings, rng: &mut Rng) {
        if self.state.is_some() {
            snapshots.piece_bytes = rng.within(1000, 4000) as usize;
            snapshots.bytes_per_second *= 20;
        }
    }

    /// Lowers the bounds that a state limit lowers.
    pub(super) fn lower(&self, raft: &mut Config, sessions: &mut SessionBounds) {
        let Some((max, _)) = self.state else {
            return;
        };
        let mut node = kontiki_node::Config::default();
        node.limits.state_bytes_max = Some(max);
        let to = node.driver(false);
        let lower = |bound: &mut usize, to: usize| *bound = (*bound).min(to);
        // Half of what a node would keep: so that all of it always leaves room for a write.
        lower(&mut raft.log_tail_bytes, to.raft.log_tail_bytes / 2);
        lower(&mut raft.log_kept_bytes_max, to.raft.log_kept_bytes_max);
        lower(
            &mut raft.uncommitted_bytes_max,
            to.raft.uncommitted_bytes_max,
        );
        lower(&mut raft.inflight_bytes_max, to.raft.inflight_bytes_max);
        sessions.bytes_max = sessions.bytes_max.min(to.sessions.bytes_max / 2);
    }

    /// Bounds a server.
    pub(super) fn bound(&self, config: &mut DriverConfig) {
        let state = self.state.map(|(max, _)| max);
        config.state_bytes_max = state;
        let eighth = state.map_or(usize::MAX, |max| max as usize / 8);
        let most = self
            .unapplied_bytes_max
            .unwrap_or(config.unapplied_bytes_max);
        config.unapplied_bytes_max = most.min(eighth);
    }
}
