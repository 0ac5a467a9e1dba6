//! The clock of a node: the only place that reads it.

use kontiki_raft::Time;
use rustix::time::{ClockId, clock_gettime};

/// CLOCK_BOOTTIME: monotonic, and it counts suspension, so that a server that slept does not take
/// an old lease or heartbeat for a fresh one.
pub fn now() -> Time {
    let time = clock_gettime(ClockId::Boottime);
    Time(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
