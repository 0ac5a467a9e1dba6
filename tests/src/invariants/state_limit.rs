//! A leader that refuses a command because there is no room has made what room it can: the log that its
//! state covers is not held on to for others meanwhile. Else a server that is heard and stores nothing
//! would have all writes refused for as long as it lives.

use std::collections::BTreeMap;
use std::time::Duration;

use kontiki_node::driver::{Answer, Refusal};
use kontiki_raft::ServerId;

use super::{Invariant, Ledger, Turn};

/// It compacts at the beginning of its turns, and what is applied only since then is not compacted yet.
const WITHIN: u64 = Duration::from_secs(3).as_nanos() as u64;

/// Of the largest entry of a run.
const ENTRY_BYTES_MAX: usize = 2048;

/// See the module.
#[derive(Debug, Default)]
pub struct StateLimit {
    /// Since when each leader refuses commands though it could make room.
    since: BTreeMap<ServerId, u64>,
}

impl Invariant for StateLimit {
    fn name(&self) -> &'static str {
        "room is made before a write is refused"
    }

    fn check(&mut self, turn: &Turn<'_>, _ledger: &Ledger) -> Result<(), String> {
        let status = turn.status;
        let refused = turn.replies().find_map(|(_, result)| match result {
            Err(Refusal::StateLimit { held, max }) => Some((*held, *max)),
            _ => None,
        });
        let config = turn.driver.raft().config();
        // An eighth more gathers before it compacts, and it drops whole chunks of as much.
        let tail = config.log_tail_bytes + config.log_tail_bytes / 4;
        let kept = status.applied.0 + 1 - status.first.0.min(status.applied.0 + 1);
        let could = status.commit == status.applied
            && kept > 2 * config.log_tail_entries_min as u64 + 2
            && status.log_bytes > tail + 2 * ENTRY_BYTES_MAX;
        let mut replies = turn.replies();
        let has_written = replies.any(|(_, result)| matches!(result, Ok(Answer::Written { .. })));
        if !turn.leads() || !could || has_written {
            self.since.remove(&turn.server);
            return Ok(());
        }
        let Some((held, max)) = refused else {
            return Ok(());
        };
        let since = *self.since.entry(turn.server).or_insert(turn.now);
        if turn.now - since < WITHIN {
            return Ok(());
        }
        let (log, tail) = (status.log_bytes, config.log_tail_bytes);
        Err(format!(
            "{held} of {max} bytes are held, and writes refused; {log} of them are a log of which {tail} \
             would do"
        ))
    }
}
