//! What this server holds of the cluster's data, in memory, and the limit of it.
//!
//! Replicas hold the same bytes under the same memory limit, so they would be killed together, for one
//! write too many. Past the limit the leader refuses what may make the state larger; what makes it
//! smaller, reads, sessions and membership go on. Only the leader judges, before the log: whatever is in
//! the log is applied by everyone, so servers whose limits differ still agree, and the limit need not be
//! replicated.
//!
//! A snapshot is taken in beside the state that it replaces. Both together may take twice the limit:
//! 80 % of the memory, if the limit is its default of 40 %.

use super::Driver;
use super::interface::Refusal;

/// Bytes that an entry takes beside its encoding: where it begins, here, and where it ends, in the engine.
const ENTRY_OVERHEAD: u64 = 4 + 8;

/// Bytes held, by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateBytes {
    /// The machine's state, as the machine says.
    pub machine: u64,
    /// Open sessions, with the replies that they remember.
    pub sessions: u64,
    /// The log: what is not applied, and the tail that is kept for servers that lag.
    pub log: u64,
    /// Appends on their way to other servers.
    pub appends: u64,
    /// Pieces of snapshots on their way to other servers.
    pub sending: u64,
    /// The state that is being built from a snapshot, and what came of it and is not taken in yet.
    pub receiving: u64,
}

impl StateBytes {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.parts().iter().map(|(_, bytes)| bytes).sum()
    }

    /// Each part, by its name.
    pub fn parts(&self) -> [(&'static str, u64); 6] {
        let Self {
            machine,
            sessions,
            log,
            appends,
            sending,
            receiving,
        } = *self;
        [
            ("machine", machine),
            ("sessions", sessions),
            ("log", log),
            ("appends", appends),
            ("sending", sending),
            ("receiving", receiving),
        ]
    }
}

impl<R> Driver<R> {
    /// What is held now.
    pub(super) fn state_bytes(&self) -> StateBytes {
        let host = self.applier.status();
        let appends = self.raft.progress().map(|peer| peer.inflight_bytes as u64);
        StateBytes {
            machine: host.machine_bytes as u64,
            sessions: host.sessions.bytes as u64,
            log: self.log_bytes(),
            appends: appends.sum(),
            sending: self.snapshots.sending_bytes() as u64,
            receiving: self.snapshots.receiving.held_bytes() as u64,
        }
    }

    fn log_bytes(&self) -> u64 {
        let entries = self.raft.last().index.0 + 1 - self.raft.first().0;
        self.log.total_bytes() as u64 + entries * ENTRY_OVERHEAD
    }

    /// At the beginning of a turn: takes stock. Within a turn only the log grows.
    pub(super) fn take_stock(&mut self) {
        if self.state_bytes_max.is_some() {
            self.held = self.state_bytes();
        }
    }

    /// Refuses a command that may make the state larger once there is no room for it: in the log, and in
    /// the state as well, where it will be together with what is not applied yet. Before that the log gives
    /// up what it keeps for servers that lag: one that is heard and stores nothing would stop all writes.
    pub(super) fn check_state_limit(&mut self, command: &[u8]) -> Result<(), Refusal> {
        let Some(max) = self.state_bytes_max else {
            return Ok(());
        };
        let coming = 2 * command.len() as u64;
        if self.held_and_unapplied() + coming <= max || !self.applier.grows(command) {
            return Ok(());
        }
        self.compact_under_pressure();
        if self.held_and_unapplied() + coming <= max {
            return Ok(());
        }
        self.counters.refused_by_state_limit += 1;
        let held = self.held_now();
        Err(Refusal::StateLimit { held, max })
    }

    fn held_now(&self) -> u64 {
        let log = self.log_bytes();
        StateBytes { log, ..self.held }.total()
    }

    fn held_and_unapplied(&self) -> u64 {
        let (applied, last) = (self.applier.applied(), self.raft.last().index);
        self.held_now() + self.log.bytes(applied, last) as u64
    }

    /// Why a snapshot is not taken in further with so many bytes more, if it is not.
    pub(super) fn check_room_for_snapshot(&self, more: usize) -> Result<(), String> {
        let Some(max) = self.state_bytes_max.map(|max| max.saturating_mul(2)) else {
            return Ok(());
        };
        let bytes = self.state_bytes();
        let wanted = bytes.total() + more as u64;
        if wanted <= max {
            return Ok(());
        }
        let (own, receiving) = (
            bytes.total() - bytes.receiving,
            bytes.receiving + more as u64,
        );
        Err(format!(
            "{receiving} bytes of it and {own} held besides are more than {max}, twice this server's \
             state limit"
        ))
    }
}
