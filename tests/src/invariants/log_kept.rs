//! A leader keeps no more log for servers that lag than `log_kept_bytes_max`, but for those that are being
//! refilled, or were and go on storing: once they do not, what the refill took counts for nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use kontiki_raft::ServerId;

use super::{Invariant, Ledger, Turn};

/// It compacts at the beginning of its turns, and has some in every second.
const WITHIN: Duration = Duration::from_secs(1);
/// What is not committed, and one entry: these are bounded by themselves.
const SLACK: usize = 4 << 10;

/// See the module.
#[derive(Debug, Default)]
pub struct LogKept {
    /// Since when each leader has kept more.
    since: BTreeMap<ServerId, u64>,
}

impl Invariant for LogKept {
    fn name(&self) -> &'static str {
        "no log is kept past its bound"
    }

    fn check(&mut self, turn: &Turn<'_>, _ledger: &Ledger) -> Result<(), String> {
        let (status, config) = (turn.status, turn.driver.raft().config());
        let most = config.log_kept_bytes_max.max(config.log_tail_bytes);
        // An eighth more gathers before it compacts, and it drops whole chunks of as much.
        let most = most + config.log_tail_bytes / 4 + SLACK;
        let is_refilling = status.progress.iter().any(|peer| peer.refill.is_some());
        let is_idle = status.commit == status.applied;
        if !turn.leads() || !is_idle || is_refilling || status.log_bytes <= most {
            self.since.remove(&turn.server);
            return Ok(());
        }
        let since = *self.since.entry(turn.server).or_insert(turn.now);
        // Also in a turn after it stood still.
        let is_new = turn
            .before
            .status
            .as_ref()
            .is_none_or(|was| was.log_bytes <= most);
        // Its clock drifts.
        let within = config.snapshot_stall_max * 11 / 10 + WITHIN;
        if u128::from(turn.now - since) < within.as_nanos() || is_new {
            return Ok(());
        }
        let (log, kept) = (status.log_bytes, config.log_kept_bytes_max);
        Err(format!(
            "keeps {log} bytes of log, all of it applied, where {kept} are kept for servers that lag"
        ))
    }
}
