//! Reads: by the leader's word, under its lease, by age, or as they come.

use std::time::Duration;

use bytes::Bytes;
use kontiki_raft::{Index, Role};

use super::Driver;
use super::interface::{Output, Refusal};
use super::requests::Asked;
use crate::host::Control;

/// How fresh the answer to a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// It reflects every write acknowledged before the read was asked (Raft thesis section 6.4).
    Linearizable,
    /// The same as long as clocks keep to [`kontiki_raft::CLOCK_DRIFT_PPM_MAX`]: without a round if
    /// the leader holds a lease (thesis section 6.4.1), and otherwise as `Linearizable`.
    Leased,
    /// It reflects every write acknowledged so long before the read was asked.
    Bounded(Duration),
    /// It is what is applied here, whoever leads.
    Stale,
}

impl<R> Driver<R> {
    pub(super) fn take_read(
        &mut self,
        query: Bytes,
        mode: ReadMode,
        forward: bool,
        reply: R,
        outputs: &mut Vec<Output<R>>,
    ) {
        match mode {
            ReadMode::Linearizable | ReadMode::Leased => {
                let leased = mode == ReadMode::Leased;
                self.read_by_leader(query, leased, forward, reply, outputs);
            }
            ReadMode::Bounded(limit) => self.read_bounded(query, limit, forward, reply, outputs),
            ReadMode::Stale => self.read_stale(query, reply, outputs),
        }
    }

    fn read_by_leader(
        &mut self,
        query: Bytes,
        leased: bool,
        forward: bool,
        reply: R,
        outputs: &mut Vec<Output<R>>,
    ) {
        let id = self.requests.next_read();
        let (now, raft) = (self.now, &mut self.raft);
        let leads = raft.role() == Role::Leader;
        let at_once = leased && raft.is_term_committed() && raft.holds_lease(now);
        let asked = match (leads, forward, leased) {
            (true, _, true) => raft.read_leased(now, id),
            (false, true, _) => raft.read_through_leader(now, id),
            (true, _, false) | (false, false, _) => raft.read(now, id),
        };
        self.counters.leased_reads += u64::from(at_once && asked.is_ok());
        let asked = asked.map_err(|refused| self.refusal(refused));
        self.wait_for_confirmation(id, Asked::Query { query, reply }, asked, outputs);
    }

    fn read_bounded(
        &mut self,
        query: Bytes,
        limit: Duration,
        forward: bool,
        reply: R,
        outputs: &mut Vec<Output<R>>,
    ) {
        let known = self.raft.age(self.now);
        match known {
            Some((age, index)) if age <= limit => self.read(index, query, reply, outputs),
            _ if forward => self.read_by_leader(query, false, true, reply, outputs),
            _ => {
                let age = known.map(|(age, _)| age);
                let refusal = match self.raft.role() {
                    Role::Joiner => Refusal::NotAMember,
                    _ => Refusal::TooStale { age, limit },
                };
                self.answer(reply, Err(refusal), outputs);
            }
        }
    }

    fn read_stale(&mut self, query: Bytes, reply: R, outputs: &mut Vec<Output<R>>) {
        if !self.dirty_read {
            return self.answer(reply, Err(Refusal::DirtyReadDisabled), outputs);
        }
        if self.raft.role() == Role::Joiner {
            return self.answer(reply, Err(Refusal::NotAMember), outputs);
        }
        self.read(Index(0), query, reply, outputs);
    }

    /// Has the machine answer once everything through `index` is applied.
    pub(super) fn read(
        &mut self,
        index: Index,
        query: Bytes,
        reply: R,
        outputs: &mut Vec<Output<R>>,
    ) {
        match self.applier.read(index, query, reply) {
            Ok(Some(job)) => self.give(job, outputs),
            Ok(None) => {}
            Err((reply, refusal)) => self.answer(reply, Err(refusal), outputs),
        }
    }

    /// Sees to it that the log says of leases what this server, as the leader, is set to.
    pub(super) fn agree_on_leases(&mut self) {
        // The first test is all that this costs as long as there is nothing to say.
        if self.controls.are_lease_reads_on() != self.lease_reads
            && self.raft.role() == Role::Leader
            && self.raft.is_term_committed()
            && self.controls.is_activated()
        {
            // Refused while leadership is handed over, say: tried again in the next turn.
            drop(self.propose_control(Control::LeaseReads(self.lease_reads)));
        }
    }
}
