//! Whoever asks for a change of the membership or for a transfer is answered within a bound, whatever
//! becomes of it: so waiters cannot gather until there is no room for others.

use std::time::Duration;

use super::{Asked, Invariant, Ledger, Turn};

/// How long a change is waited for in a simulated cluster.
pub const CHANGE_WAIT_MAX: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub struct Waiters;

impl Invariant for Waiters {
    fn name(&self) -> &'static str {
        "waiters are answered in time"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        if ledger.odd_clocks.contains(&turn.server) {
            return Ok(());
        }
        // Before it is begun, leadership is confirmed, or lost.
        let timeout = 3 * turn.driver.raft().config().election_timeout_max;
        let answered = |id: u64| turn.replies().any(|(replied, _)| replied == id);
        for (id, (server, asked, since)) in &ledger.open {
            let wait = match asked {
                Asked::Change { .. } => CHANGE_WAIT_MAX,
                Asked::Transfer { .. } => Duration::ZERO,
                _ => continue,
            };
            // Its clock drifts.
            let bound = (wait + timeout) * 11 / 10;
            let waits = Duration::from_nanos(turn.now - since);
            if *server == turn.server && waits > bound && !answered(*id) {
                return Err(format!("request {id}, {asked:?}, has waited for {waits:?}"));
            }
        }
        Ok(())
    }
}
