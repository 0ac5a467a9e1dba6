//! How full the driver's queues are.

use super::incoming::PIECES_WITH_HOST_MAX;
use super::outgoing::WINDOW_MAX;
use super::requests::{CHANGES_MAX, TRANSFERS_MAX};
use super::{Driver, digests, piece};
use crate::host::JOBS_MAX;

/// A queue, and what may be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Which.
    pub what: &'static str,
    /// In it, as of the last turn.
    pub held: u64,
    /// Its bound. Bytes may exceed it by the one entry, or piece, that reaches it.
    pub max: u64,
}

impl<R> Driver<R> {
    /// Everything in which something may wait, and its bound.
    pub fn queues(&self) -> [Queue; 12] {
        let config = self.raft.config();
        let log = self.log_kept();
        let (snapshots, sending, window) = self.snapshots.outgoing();
        let settings = self.snapshots.settings();
        let piece = (settings.piece_bytes + 2 * piece::CHECKSUM_BYTES) as u64;
        let queue = |what, held: usize, max: usize| Queue {
            what,
            held: held as u64,
            max: max as u64,
        };
        [
            queue(
                "pending writes",
                self.requests.writes(),
                self.requests.writes_max(),
            ),
            queue("pending changes", self.requests.changes(), CHANGES_MAX),
            queue(
                "pending transfers",
                self.requests.transfers(),
                TRANSFERS_MAX,
            ),
            queue(
                "reads to be confirmed",
                self.requests.reads(),
                config.reads_max,
            ),
            queue(
                "jobs and reads for the machine",
                self.applier.jobs(),
                JOBS_MAX,
            ),
            queue(
                "uncommitted bytes",
                self.raft.uncommitted_bytes(),
                config.uncommitted_bytes_max,
            ),
            log,
            queue("snapshots sent", sending, config.snapshots_max),
            Queue {
                what: "bytes of snapshots sent and not acknowledged",
                held: window,
                max: snapshots as u64 * WINDOW_MAX as u64 * piece,
            },
            Queue {
                what: "bytes of a snapshot received",
                held: self.snapshots.receiving.received().unwrap_or(0),
                max: settings.bytes_max,
            },
            queue(
                "pieces of snapshots that are not taken in",
                self.snapshots.receiving.with_host(),
                PIECES_WITH_HOST_MAX,
            ),
            queue(
                "checkpoints compared",
                self.reports.checkpoints(),
                digests::CHECKPOINTS_MAX,
            ),
        ]
    }

    /// The log in bytes: a tail, what others still need, what is not applied, and what a turn brings.
    fn log_kept(&self) -> Queue {
        let config = self.raft.config();
        let delivered = self.raft.progress().map(|peer| peer.delivered).max();
        let delivered = delivered.unwrap_or(0);
        let tail = config.log_tail_bytes + config.log_tail_bytes / 8 + self.log.chunk_bytes();
        let unapplied = self
            .log
            .bytes(self.applier.applied(), self.raft.last().index);
        let turn = config.uncommitted_bytes_max + config.append_bytes_max * config.inflight_max;
        Queue {
            what: "bytes of the log",
            held: self.log.total_bytes() as u64,
            max: (tail + unapplied + turn) as u64 + delivered.max(config.log_kept_bytes_max as u64),
        }
    }
}
