//! Nothing that waits grows beyond its bound.

use super::{Invariant, Ledger, Turn};

/// Bytes of one entry, or one piece of a snapshot, by which a bound in bytes may be exceeded: the
/// largest of a run.
const ENTRY_BYTES_MAX: u64 = 4096;

/// See the module.
#[derive(Debug, Default)]
pub struct BoundedQueues;

impl Invariant for BoundedQueues {
    fn name(&self) -> &'static str {
        "bounded queues"
    }

    fn check(&mut self, turn: &Turn<'_>, _ledger: &Ledger) -> Result<(), String> {
        for queue in turn.driver.queues() {
            let slack = match queue.what.contains("bytes") {
                true => ENTRY_BYTES_MAX,
                false => 0,
            };
            if queue.held > queue.max + slack {
                let (what, held, max) = (queue.what, queue.held, queue.max);
                return Err(format!("{what}: {held} of at most {max}"));
            }
        }
        Ok(())
    }
}
