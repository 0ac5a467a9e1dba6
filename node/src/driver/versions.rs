//! Which version of the machine is in force, and who can run it.
//!
//! Every message says which versions its sender runs; an incarnation never changes them. The leader
//! appends the first version entry before the Activate entry, and so before every command: the
//! highest that all servers of the configuration run, or, if it has not heard from all of them yet,
//! the lowest that all it has heard from do, a quorum at least, because they elected it. Later it
//! raises the version as soon as all servers run a higher one. A server that does not run what is in
//! the log is not added; a learner that turns out not to is not sent the log, and never promoted.
//! In any one log these two exclude each other: each looks at all that the log holds before it, and
//! what is cut off counts for neither.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use kontiki_raft::{ChangeRequest, Message, Role, ServerId};

use super::Driver;
use super::interface::Refusal;
use crate::host::Control;
use crate::machine::Version;

/// Servers whose versions are remembered.
const KNOWN_MAX: usize = 256;

/// What other servers said of their hosts.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Versions that they run.
    versions: BTreeMap<ServerId, RangeInclusive<Version>>,
    /// Those of the configuration that are quarantined.
    quarantined: BTreeSet<ServerId>,
}

impl<R> Driver<R> {
    /// A server runs these versions.
    pub(super) fn learn_versions(&mut self, server: ServerId, versions: &RangeInclusive<Version>) {
        let known = &mut self.known.versions;
        if known.contains_key(&server) {
            return;
        }
        if known.len() >= KNOWN_MAX {
            let configuration = self.raft.configuration().1;
            known.retain(|server, _| configuration.contains(*server));
        }
        if known.len() < KNOWN_MAX {
            known.insert(server, versions.clone());
        }
    }

    fn versions_of(&self, server: ServerId) -> Option<RangeInclusive<Version>> {
        match server == self.raft.id() {
            true => Some(self.applier.versions()),
            false => self.known.versions.get(&server).cloned(),
        }
    }

    /// The highest version that is in force, or is about to be; 0 before the first.
    fn newest_version(&self) -> Version {
        let in_log = self.controls.newest_version();
        in_log.unwrap_or(0).max(self.applier.status().version)
    }

    /// What a server must run that is given this log: from the version that it begins under to the
    /// newest. `None` before the first.
    fn needed_versions(&self) -> Option<RangeInclusive<Version>> {
        let newest = self.newest_version();
        let oldest = self.controls.oldest_version(self.raft.first());
        (newest > 0).then(|| oldest.unwrap_or(newest)..=newest)
    }

    /// Refuses to add a server that is known not to run what is in force.
    pub(super) fn check_versions(&self, change: &ChangeRequest) -> Result<(), Refusal> {
        let Some(needed) = self.needed_versions() else {
            return Ok(());
        };
        let configuration = self.raft.configuration().1;
        let joining = change.add.iter().map(|(server, _)| *server);
        for server in joining.filter(|server| !configuration.contains(*server)) {
            if let Some(runs) = self.versions_of(server)
                && !covers(&runs, &needed)
            {
                let name = self.applier.name();
                return Err(Refusal::UnsupportedVersion(format!(
                    "server {server} runs {} of the machine {name}, and the log needs {}: start it \
                     from a program that runs {}",
                    shown(&runs),
                    shown(&needed),
                    shown(&needed),
                )));
            }
        }
        Ok(())
    }

    /// A server is quarantined, or is not; of members only, which bounds what is remembered.
    pub(super) fn learn_quarantine(&mut self, server: ServerId, is_quarantined: bool) {
        let configuration = self.raft.configuration().1;
        let quarantined = &mut self.known.quarantined;
        if !is_quarantined {
            quarantined.remove(&server);
        } else if configuration.contains(server) && quarantined.insert(server) {
            quarantined.retain(|server| configuration.contains(*server));
        }
    }

    /// Whether a member has said that it is quarantined.
    pub(super) fn is_known_quarantined(&self, server: ServerId) -> bool {
        self.known.quarantined.contains(&server)
    }

    /// Whether a message is the acknowledgement of a learner that does not run what is in the log, or
    /// is quarantined: it does not count, so that the learner stalls, and is never promoted.
    pub(super) fn is_held_back(&self, from: ServerId, message: &Message) -> bool {
        let is_ack = matches!(message, Message::AppendAck(_) | Message::HeartbeatAck(_));
        let is_of_no_use =
            self.may_run_log(from) == Some(false) || self.known.quarantined.contains(&from);
        is_ack && self.is_learner(from) && is_of_no_use
    }

    /// Whether the log is not for this server: for a learner that does not run it, or has not said yet
    /// (it does so when it answers a heartbeat).
    pub(super) fn is_withheld(&self, to: ServerId) -> bool {
        self.is_learner(to) && self.may_run_log(to) != Some(true)
    }

    fn is_learner(&self, server: ServerId) -> bool {
        self.raft.configuration().1.learners.contains_key(&server)
    }

    /// `None`: it has not said.
    fn may_run_log(&self, server: ServerId) -> Option<bool> {
        let Some(needed) = self.needed_versions() else {
            return Some(true);
        };
        let runs = self.versions_of(server)?;
        Some(covers(&runs, &needed))
    }

    /// Servers of the configuration in force, and this one, which applies the log for as long as it leads
    /// though it may be leaving; and what is known of their versions.
    fn surveyed(&self) -> (BTreeSet<ServerId>, Vec<RangeInclusive<Version>>) {
        let mut servers = self.raft.configuration().1.servers();
        servers.insert(self.raft.id());
        let known = servers
            .iter()
            .filter_map(|server| self.versions_of(*server));
        let known = known.collect();
        (servers, known)
    }

    /// Sees to it that the log names a version before it accepts commands.
    pub(super) fn propose_first_version(&mut self) -> Result<(), Refusal> {
        if self.newest_version() > 0 {
            return Ok(());
        }
        let (servers, known) = self.surveyed();
        let Some(common) = common(&known) else {
            let ranges: Vec<String> = known.iter().map(shown).collect();
            return Err(Refusal::UnsupportedVersion(format!(
                "the servers run no version of the machine {} in common: {}",
                self.applier.name(),
                ranges.join("; "),
            )));
        };
        let first = match known.len() == servers.len() {
            true => *common.end(),
            false => *common.start(),
        };
        self.propose_control(Control::Version(first)).map(drop)
    }

    /// Raises the version once every server runs a higher one.
    pub(super) fn raise_version(&mut self) {
        let newest = self.newest_version();
        // The first test is all that this costs as long as there is nothing to raise.
        if *self.applier.versions().end() <= newest
            || newest == 0
            || self.raft.role() != Role::Leader
            || !self.raft.is_term_committed()
        {
            return;
        }
        let (servers, known) = self.surveyed();
        if known.len() == servers.len()
            && let Some(common) = common(&known)
            && *common.end() > newest
        {
            // Refused while leadership is handed over, say: tried again in the next turn.
            drop(self.propose_control(Control::Version(*common.end())));
        }
    }
}

/// Versions that are in all of these ranges; `None` if there is none.
fn common(ranges: &[RangeInclusive<Version>]) -> Option<RangeInclusive<Version>> {
    let low = ranges.iter().map(RangeInclusive::start).max()?;
    let high = ranges.iter().map(RangeInclusive::end).min()?;
    (low <= high).then_some(*low..=*high)
}

fn covers(runs: &RangeInclusive<Version>, needed: &RangeInclusive<Version>) -> bool {
    runs.contains(needed.start()) && runs.contains(needed.end())
}

fn shown(versions: &RangeInclusive<Version>) -> String {
    match versions.start() == versions.end() {
        true => format!("version {}", versions.start()),
        false => format!("versions {} to {}", versions.start(), versions.end()),
    }
}
