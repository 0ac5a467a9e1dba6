//! Requests: checked, proposed or refused, and answered.

use bytes::Bytes;
use kontiki_raft::{ClusterId, Configuration, EntryKind, Index, LogId, ReadId, Role, ServerId};

use super::interface::{Answer, Output, Refusal};
use super::requests::Asked;
use super::{Driver, INITIAL_VOTERS_MAX};
use crate::entry;
use crate::host::{Control, Quarantine};

impl<R> Driver<R> {
    /// Lets the driver ask whether anybody still waits for a reply. A waiter that is gone then takes no
    /// place among those whose number is bounded, and is never answered.
    pub fn notice_abandoned(&mut self, is_abandoned: fn(&R) -> bool) {
        self.requests.notice_abandoned(is_abandoned);
    }

    pub(super) fn bootstrap(
        &mut self,
        cluster: ClusterId,
        mut voters: Vec<ServerId>,
    ) -> Result<(), Refusal> {
        voters.sort_unstable();
        voters.dedup();
        if voters.is_empty() || voters.len() > INITIAL_VOTERS_MAX {
            return Err(Refusal::Invalid(format!(
                "voters: {} given, 1 to {INITIAL_VOTERS_MAX} must be",
                voters.len()
            )));
        }
        if cluster == ClusterId(0) {
            return Err(Refusal::Invalid("cluster_id: must not be 0".to_owned()));
        }
        let me = self.raft.id();
        if !voters.contains(&me) {
            return Err(Refusal::WrongServer(me));
        }
        if let Some(mine) = self.cluster
            && mine != cluster
        {
            return Err(Refusal::AlreadyBootstrapped(mine));
        }
        if !self.origin.is_told(&voters) {
            return Err(Refusal::AlreadyBootstrapped(cluster));
        }
        self.cluster = Some(cluster);
        let configuration = Configuration::of(voters);
        // A log that is not empty came from a leader of this very cluster: all is done.
        self.raft.bootstrap(self.now, configuration);
        self.follow_log(&Bytes::new());
        Ok(())
    }

    pub(super) fn write(&mut self, command: &[u8], reply: R, outputs: &mut Vec<Output<R>>) {
        let result = self
            .check_write(command)
            .and_then(|()| self.propose(EntryKind::Command, command));
        match result {
            Ok(id) => {
                self.counters.proposed += 1;
                self.requests.wait_for_write(id, Some(reply));
            }
            Err(refusal) => self.answer(reply, Err(refusal), outputs),
        }
    }

    pub(super) fn check_write(&mut self, command: &[u8]) -> Result<(), Refusal> {
        self.check_activated()?;
        self.check_command_bytes(command.len())?;
        self.applier.validate(command)?;
        self.check_state_limit(command)
    }

    /// Whether clients may have entries proposed here.
    pub(super) fn check_activated(&self) -> Result<(), Refusal> {
        if self.raft.role() == Role::Leader {
            if !self.controls.is_activated() {
                return Err(Refusal::NotActivated);
            }
            self.check_agreement()?;
            self.requests.check_room_for_write()?;
            self.applier.check_backlog()
        } else {
            Err(self.not_leader())
        }
    }

    pub(super) fn propose(&mut self, kind: EntryKind, command: &[u8]) -> Result<LogId, Refusal> {
        let size = (entry::HEADER_BYTES + command.len()) as u32;
        let id = self.raft.propose(self.now, [(kind.clone(), size)])?;
        self.log.push(id, &kind, command);
        self.samples.on_appended(id.index, self.now);
        Ok(id)
    }

    pub(super) fn activate(&mut self, reply: R, outputs: &mut Vec<Output<R>>) {
        if self.raft.role() != Role::Leader {
            let refusal = self.not_leader();
            return self.answer(reply, Err(refusal), outputs);
        }
        if let Some(index) = self.applier.status().activated {
            return self.answer(reply, Ok(Answer::Activated(index)), outputs);
        }
        let room = self.requests.check_room_for_write();
        match room.and_then(|()| self.propose_activation()) {
            Ok(id) => self.requests.wait_for_write(id, Some(reply)),
            Err(refusal) => self.answer(reply, Err(refusal), outputs),
        }
    }

    /// Commands come after it, and so after the first version.
    fn propose_activation(&mut self) -> Result<LogId, Refusal> {
        self.propose_first_version()?;
        self.propose_control(Control::Activate)
    }

    pub(super) fn propose_control(&mut self, control: Control<'_>) -> Result<LogId, Refusal> {
        let id = self.propose(EntryKind::Control, &control.encode())?;
        self.controls.push(id.index, control);
        Ok(id)
    }

    /// Without an operator the leader activates as soon as it may.
    pub(super) fn activate_if_alone(&mut self) {
        if self.activate
            && !self.controls.is_activated()
            && self.raft.is_term_committed()
            && let Ok(id) = self.propose_activation()
        {
            self.requests.wait_for_write(id, None);
        }
    }

    /// Asks for something that leadership must be confirmed for first.
    pub(super) fn ask(&mut self, asked: Asked<R>, outputs: &mut Vec<Output<R>>) {
        let id = self.requests.next_read();
        let result = self.raft.read(self.now, id);
        let result = result.map_err(|refused| self.refusal(refused));
        self.wait_for_confirmation(id, asked, result, outputs);
    }

    pub(super) fn wait_for_confirmation(
        &mut self,
        id: ReadId,
        asked: Asked<R>,
        result: Result<(), Refusal>,
        outputs: &mut Vec<Output<R>>,
    ) {
        match result {
            Ok(()) => self.requests.wait_for_read(id, asked),
            Err(refusal) => self.answer(asked.into_reply(), Err(refusal), outputs),
        }
    }

    pub(super) fn on_read_ready(
        &mut self,
        id: ReadId,
        index: Index,
        outputs: &mut Vec<Output<R>>,
    ) -> bool {
        match self.requests.take_read(id) {
            Asked::Query { query, reply } => {
                self.read(index, query, reply, outputs);
                false
            }
            Asked::Change {
                change,
                until,
                reply,
            } => {
                let checked = self.requests.check_room_for_change();
                if let Err(refusal) = checked.and_then(|()| self.check_versions(&change)) {
                    self.answer(reply, Err(refusal), outputs);
                    return false;
                }
                match self.raft.change(self.now, &change) {
                    Ok(()) => self
                        .requests
                        .wait_for_change(self.now, change, until, reply),
                    Err(refused) => {
                        let refusal = self.refusal(refused);
                        self.answer(reply, Err(refusal), outputs);
                    }
                }
                self.follow_log(&Bytes::new());
                true
            }
        }
    }

    pub(super) fn transfer(
        &mut self,
        target: Option<ServerId>,
        reply: R,
        outputs: &mut Vec<Output<R>>,
    ) {
        let result = self.requests.check_room_for_transfer();
        let now = self.now;
        let result = result.and_then(|()| {
            self.raft
                .transfer(now, target)
                .map_err(|refused| self.refusal(refused))
        });
        match result {
            Ok(()) => {
                let patience = 2 * self.raft.config().election_timeout_max;
                self.requests
                    .wait_for_transfer(target, now + patience, reply);
            }
            Err(refusal) => self.answer(reply, Err(refusal), outputs),
        }
    }

    /// Stops for good, memory kept, because the cluster has lost its quorum. Whoever knows a leader knows
    /// better.
    pub(super) fn quarantine_survivor(
        &mut self,
        why: Quarantine,
        reply: R,
        outputs: &mut Vec<Output<R>>,
    ) {
        let is_done = self.applier.quarantine().is_some();
        let result = match (self.cluster, self.raft.leader()) {
            (None, _) => Err(Refusal::NotAMember),
            (Some(_), Some(leader)) if !is_done => Err(Refusal::HasLeader(leader)),
            (Some(_), _) => {
                self.quarantine(why, outputs);
                Ok(Answer::Done)
            }
        };
        self.answer(reply, result, outputs);
    }

    pub(super) fn answer(
        &mut self,
        reply: R,
        result: Result<Answer, Refusal>,
        outputs: &mut Vec<Output<R>>,
    ) {
        self.counters.refused += u64::from(result.is_err());
        outputs.push(Output::Reply(reply, result));
    }

    pub(super) fn not_leader(&self) -> Refusal {
        match self.raft.leader() {
            Some(leader) if leader != self.raft.id() => Refusal::NotLeader(leader),
            _ if self.raft.role() == Role::Joiner => Refusal::NotAMember,
            _ => Refusal::NoLeader,
        }
    }

    pub(super) fn refusal(&self, refused: kontiki_raft::Refused) -> Refusal {
        match refused {
            kontiki_raft::Refused::NotLeader(_) => self.not_leader(),
            kontiki_raft::Refused::Retired => {
                Refusal::Quarantined(self.applier.quarantine().cloned().unwrap_or_default())
            }
            other => Refusal::from(other),
        }
    }
}

impl From<kontiki_raft::Refused> for Refusal {
    fn from(refused: kontiki_raft::Refused) -> Self {
        use kontiki_raft::Refused;
        match refused {
            Refused::NotLeader(Some(leader)) => Self::NotLeader(leader),
            Refused::NotLeader(None) => Self::NoLeader,
            Refused::QuorumLost => Self::QuorumLost,
            Refused::Transferring => Self::Transferring,
            Refused::Full { what, max } => Self::QueueFull { what, max },
            Refused::NoCommit => Self::NoCommit,
            Refused::UnstableConfig => Self::UnstableConfig,
            Refused::StaleConfig { in_force, seen } => Self::StaleConfig { in_force, seen },
            Refused::LastServer => Self::LastServer,
            Refused::BelowMinMajority { left, min_majority } => {
                Self::BelowMinMajority { left, min_majority }
            }
            Refused::NoQuorumAfterwards {
                voters,
                needed,
                missing,
            } => Self::NoQuorumAfterwards {
                voters,
                needed,
                missing,
            },
            Refused::WrongRole {
                server,
                role,
                named_as,
            } => Self::WrongRole {
                server,
                role,
                named_as,
            },
            Refused::NotAVoter(server) => Self::NotAVoter(server),
            Refused::Promised(wait) => Self::Promised(wait),
            Refused::Retired => Self::Quarantined("it never serves again".into()),
        }
    }
}
