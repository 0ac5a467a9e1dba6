//! Who waits for what. Everything here is bounded, and everyone is answered once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use kontiki_raft::{ChangeRequest, Configuration, Index, LogId, ReadId, Role, ServerId, Time};

use super::interface::{Answer, ConfigurationStatus, Refusal, Standing, Until};

/// Membership changes that may wait for their outcome.
pub(super) const CHANGES_MAX: usize = 64;
/// Transfers that may wait for theirs. They have a bound of their own, so that changes cannot keep a
/// leader from handing over.
pub(super) const TRANSFERS_MAX: usize = 64;

/// Those who wait.
pub(super) struct Requests<R> {
    /// In the order of places in the log, then of terms: nearly always a write is the last. One place can
    /// have several: a server that led twice may have proposed there twice, and which of them it is
    /// shows when the place is applied. `None`: nobody asked.
    writes: VecDeque<(LogId, Option<R>)>,
    writes_max: usize,
    reads: BTreeMap<ReadId, Asked<R>>,
    last_read: ReadId,
    changes: Vec<PendingChange<R>>,
    change_wait_max: Duration,
    transfers: Vec<PendingTransfer<R>>,
    /// Whether nobody waits for a reply any more, as far as this program can tell.
    is_abandoned: fn(&R) -> bool,
}

/// What leadership is to be confirmed for.
pub(super) enum Asked<R> {
    Query {
        query: Bytes,
        reply: R,
    },
    Change {
        change: ChangeRequest,
        until: Until,
        reply: R,
    },
}

impl<R> Asked<R> {
    pub(super) fn into_reply(self) -> R {
        match self {
            Self::Query { reply, .. } | Self::Change { reply, .. } => reply,
        }
    }
}

struct PendingChange<R> {
    change: ChangeRequest,
    until: Until,
    deadline: Time,
    reply: R,
}

struct PendingTransfer<R> {
    target: Option<ServerId>,
    deadline: Time,
    reply: R,
}

type Answered<R> = Vec<(R, Result<Answer, Refusal>)>;

impl<R> Requests<R> {
    pub(super) fn new(writes_max: usize, change_wait_max: Duration) -> Self {
        Self {
            writes: VecDeque::new(),
            writes_max,
            reads: BTreeMap::new(),
            last_read: ReadId(0),
            changes: Vec::new(),
            change_wait_max,
            transfers: Vec::new(),
            is_abandoned: |_| false,
        }
    }

    pub(super) fn notice_abandoned(&mut self, is_abandoned: fn(&R) -> bool) {
        self.is_abandoned = is_abandoned;
    }

    pub(super) fn check_room_for_write(&self) -> Result<(), Refusal> {
        if self.writes.len() < self.writes_max {
            return Ok(());
        }
        Err(Refusal::QueueFull {
            what: "queue of pending writes",
            max: self.writes_max,
        })
    }

    pub(super) fn check_room_for_change(&self) -> Result<(), Refusal> {
        if self.changes.len() < CHANGES_MAX {
            return Ok(());
        }
        Err(Refusal::QueueFull {
            what: "queue of pending changes",
            max: CHANGES_MAX,
        })
    }

    pub(super) fn check_room_for_transfer(&self) -> Result<(), Refusal> {
        if self.transfers.len() < TRANSFERS_MAX {
            return Ok(());
        }
        Err(Refusal::QueueFull {
            what: "queue of pending transfers",
            max: TRANSFERS_MAX,
        })
    }

    /// `reply` is `None` if nobody asked for the entry.
    pub(super) fn wait_for_write(&mut self, id: LogId, reply: Option<R>) {
        let place = |id: LogId| (id.index, id.term);
        let at = match self.writes.back() {
            Some((last, _)) if place(*last) >= place(id) => self
                .writes
                .partition_point(|(before, _)| place(*before) < place(id)),
            _ => self.writes.len(),
        };
        self.writes.insert(at, (id, reply));
    }

    /// Takes one proposal at or before `index`, which is applied; `None` if there is no more.
    pub(super) fn take_write(&mut self, index: Index) -> Option<(LogId, Option<R>)> {
        self.writes.pop_front_if(|(id, _)| id.index <= index)
    }

    /// Takes all of them.
    pub(super) fn take_writes(&mut self) -> VecDeque<(LogId, Option<R>)> {
        std::mem::take(&mut self.writes)
    }

    pub(super) fn next_read(&mut self) -> ReadId {
        self.last_read = ReadId(self.last_read.0 + 1);
        self.last_read
    }

    pub(super) fn wait_for_read(&mut self, id: ReadId, asked: Asked<R>) {
        self.reads.insert(id, asked);
    }

    pub(super) fn take_read(&mut self, id: ReadId) -> Asked<R> {
        self.reads
            .remove(&id)
            .expect("the engine answers each read once")
    }

    pub(super) fn wait_for_change(
        &mut self,
        now: Time,
        change: ChangeRequest,
        until: Until,
        reply: R,
    ) {
        let deadline = now + self.change_wait_max;
        self.changes.push(PendingChange {
            change,
            until,
            deadline,
            reply,
        });
    }

    pub(super) fn wait_for_transfer(&mut self, target: Option<ServerId>, deadline: Time, reply: R) {
        self.transfers.push(PendingTransfer {
            target,
            deadline,
            reply,
        });
    }

    /// How many writes wait.
    pub(super) fn writes(&self) -> usize {
        self.writes.len()
    }

    pub(super) fn writes_max(&self) -> usize {
        self.writes_max
    }

    /// How many wait for a confirmation of leadership.
    pub(super) fn reads(&self) -> usize {
        self.reads.len()
    }

    /// How many changes wait.
    pub(super) fn changes(&self) -> usize {
        self.changes.len()
    }

    /// How many transfers wait.
    pub(super) fn transfers(&self) -> usize {
        self.transfers.len()
    }

    pub(super) fn nobody_waits(&self) -> bool {
        self.changes.is_empty() && self.transfers.is_empty()
    }

    /// When to look at those who wait, though nothing happens.
    pub(super) fn due(&self) -> Time {
        let transfers = self.transfers.iter().map(|transfer| transfer.deadline);
        let changes = self.changes.iter().map(|change| change.deadline);
        transfers.chain(changes).min().unwrap_or(Time::NEVER)
    }

    pub(super) fn take_answered_changes(
        &mut self,
        now: Time,
        committed: &ConfigurationStatus,
        in_force: &Configuration,
        leads: bool,
        holds_configuration: impl Fn(ServerId) -> bool,
    ) -> Answered<R> {
        let mut answered = Vec::new();
        for waiting in std::mem::take(&mut self.changes) {
            let change = &waiting.change;
            let holds = match waiting.until {
                Until::Committed => change.is_begun(&committed.configuration),
                // A server that votes knows it: it may be asked to campaign right after the answer.
                Until::Effective => {
                    change.is_effective(&committed.configuration)
                        && change
                            .add
                            .iter()
                            .all(|(server, _)| holds_configuration(*server))
                }
            };
            if holds {
                answered.push((waiting.reply, Ok(Answer::Changed(committed.clone()))));
            } else if !leads || !change.is_begun(in_force) {
                // Another leader may finish it; a later change may have undone it.
                answered.push((waiting.reply, Err(Refusal::OutcomeUnknown)));
            } else if now >= waiting.deadline {
                let waited = self.change_wait_max;
                answered.push((waiting.reply, Err(Refusal::ChangeUnfinished(waited))));
            } else if !(self.is_abandoned)(&waiting.reply) {
                self.changes.push(waiting);
            }
        }
        answered
    }

    pub(super) fn take_answered_transfers(
        &mut self,
        now: Time,
        me: ServerId,
        standing: Standing,
        transferring: bool,
    ) -> Answered<R> {
        let mut answered = Vec::new();
        for transfer in std::mem::take(&mut self.transfers) {
            let leads = standing.role == Role::Leader;
            let is_over = leads && !transferring;
            if standing.leader.is_some_and(|leader| leader != me) {
                answered.push((transfer.reply, Ok(Answer::Transferred(standing))));
            } else if is_over && transfer.target == Some(me) {
                // It leads, also if it lost the connections of its quorum in this very turn.
                let standing = Standing {
                    leader: Some(me),
                    ..standing
                };
                answered.push((transfer.reply, Ok(Answer::Transferred(standing))));
            } else if is_over || now >= transfer.deadline {
                answered.push((transfer.reply, Err(Refusal::TransferFailed)));
            } else {
                self.transfers.push(transfer);
            }
        }
        answered
    }
}

#[cfg(test)]
mod tests {
    use kontiki_raft::Term;

    use super::*;

    /// The connections of its quorum may be lost in the turn in which it was asked.
    #[test]
    fn a_transfer_to_the_leader_itself_names_it_whether_or_not_it_serves() {
        let me = ServerId(1);
        let mut requests = Requests::<u8>::new(16, Duration::from_secs(1));
        requests.wait_for_transfer(Some(me), Time(100), 7);
        let standing = Standing {
            role: Role::Leader,
            term: Term(3),
            leader: None,
        };
        let answered = requests.take_answered_transfers(Time(1), me, standing, false);
        let named = Standing {
            leader: Some(me),
            ..standing
        };
        assert_eq!(answered, [(7, Ok(Answer::Transferred(named)))]);
    }

    #[test]
    fn writes_are_taken_by_place_whatever_the_order_in_which_they_came() {
        let id = |index, term| LogId {
            term: Term(term),
            index: Index(index),
        };
        let mut requests = Requests::<u8>::new(16, Duration::from_secs(1));
        // It led in term 1, lost that, and led again over a shorter log.
        let came = [id(5, 1), id(6, 1), id(7, 1), id(5, 3), id(6, 3), id(8, 3)];
        for (reply, id) in came.into_iter().enumerate() {
            requests.wait_for_write(id, Some(reply as u8));
        }
        assert_eq!(requests.writes(), 6);
        assert_eq!(requests.take_write(Index(4)), None);
        let taken = std::iter::from_fn(|| requests.take_write(Index(7)));
        let taken: Vec<_> = taken
            .map(|(id, reply)| (id, reply.expect("asked")))
            .collect();
        let expected = [
            (id(5, 1), 0),
            (id(5, 3), 3),
            (id(6, 1), 1),
            (id(6, 3), 4),
            (id(7, 1), 2),
        ];
        assert_eq!(taken, expected);
        assert_eq!(requests.take_writes(), [(id(8, 3), Some(5))]);
    }
}
