//! Who may become a member: a fresh server that runs the cluster's machine, supports its version in
//! force, and is not quarantined. The rest is left where it is, and reported.
//!
//! What a server does not say is nothing against it: its leader refuses what must not be.

use crate::ids::{NodeName, ServerId};
use crate::refusal::Refusal;
use crate::survey::{Seen, Survey};

impl<'a> Survey<'a> {
    /// Those of [`Survey::fresh`] that there is no objection to.
    pub fn admissible(&self) -> Vec<Seen<'a>> {
        let fresh = self.fresh().into_iter();
        fresh
            .filter(|seen| self.objection(*seen).is_none())
            .collect()
    }

    /// Those of [`Survey::fresh`] that may not take part, each with the reason.
    pub fn inadmissible(&self) -> Vec<(Seen<'a>, Refusal)> {
        let fresh = self.fresh().into_iter();
        fresh
            .filter_map(|seen| Some((seen, self.objection(seen)?)))
            .collect()
    }

    /// Why a server must not become a member, if there is a reason.
    pub fn objection(&self, seen: Seen<'_>) -> Option<Refusal> {
        let (server, node) = (seen.id(), seen.node.name.clone());
        if let Some(reason) = seen.view.quarantine.clone() {
            return Some(Refusal::ServerQuarantined {
                server,
                node,
                reason,
            });
        }
        let expected = self.machine().unwrap_or_default();
        if is_another_machine(&seen.view.machine, expected) {
            return Some(Refusal::WrongMachine {
                server,
                node,
                found: seen.view.machine.clone(),
                expected: expected.to_owned(),
            });
        }
        let (versions, in_force) = (seen.view.machine_versions?, self.machine_version()?);
        (!versions.contains(in_force)).then_some(Refusal::UnsupportedMachineVersion {
            server,
            node,
            min: versions.min,
            max: versions.max,
            in_force,
        })
    }

    /// Why what runs on `node` is of no use there, if it answers and is of none.
    pub fn obstacle(&self, node: &NodeName) -> Option<Refusal> {
        let mut seen = self.seen.values().filter(|seen| seen.node.name == *node);
        seen.find_map(|seen| self.objection(*seen))
    }

    /// Name of the machine that servers have to run: what is wanted, or what the members run, or
    /// before there are any what the first fresh server runs.
    pub fn machine(&self) -> Option<&str> {
        let of = |seen: Seen<'a>| Some(seen.view.machine.as_str()).filter(|name| !name.is_empty());
        let wanted = self.wanted.machine.as_deref();
        wanted
            .or_else(|| self.leader.and_then(of))
            .or_else(|| self.members().find_map(of))
            .or_else(|| self.fresh().into_iter().find_map(of))
    }

    /// Version of the machine that is in force: the leader's word, or the newest that a member
    /// knows, because it is never lowered.
    pub fn machine_version(&self) -> Option<u32> {
        match self.leader {
            Some(leader) => leader.view.machine_version,
            None => self.members().filter_map(|m| m.view.machine_version).max(),
        }
    }

    /// Whether a learner answers, but is of no use: it is not waited for. (A version may come into
    /// force that only voters were asked about.)
    pub fn is_hopeless(&self, server: ServerId) -> bool {
        let seen = self.seen.get(&server);
        seen.is_some_and(|seen| self.objection(*seen).is_some())
    }

    /// Why servers cannot begin a cluster together, if they cannot.
    pub fn discord(&self, fresh: &[Seen<'_>]) -> Option<Refusal> {
        let ranges = || {
            let said = fresh.iter();
            said.filter_map(|seen| Some((&seen.node.name, seen.view.machine_versions?)))
        };
        let (older, oldest) = ranges().min_by_key(|(_, versions)| versions.max)?;
        let (newer, newest) = ranges().max_by_key(|(_, versions)| versions.min)?;
        (newest.min > oldest.max).then(|| Refusal::NoCommonMachineVersion {
            older: older.clone(),
            max: oldest.max,
            newer: newer.clone(),
            min: newest.min,
        })
    }

    /// Everything that is wrong with the machines of members and of fresh servers.
    pub fn misfits(&self) -> Vec<Refusal> {
        let members = self.members().filter(|seen| self.is_configured(seen.id()));
        let members = members.filter_map(|seen| self.objection(seen));
        let refused = self.inadmissible().into_iter().map(|(_, refusal)| refusal);
        let discord = match self.record {
            None => self.discord(&self.admissible()),
            Some(_) => None,
        };
        refused.chain(members).chain(discord).collect()
    }
}

/// What is not known is no other.
fn is_another_machine(found: &str, expected: &str) -> bool {
    !found.is_empty() && !expected.is_empty() && found != expected
}
