//! Who may become a member: a fresh server that runs the cluster's machine, supports its version in
//! force, and is not quarantined. The rest is left where it is, and reported.

use crate::ids::NodeName;
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

    /// Why a server must not become a member, if there is a reason. What it does not say is nothing
    /// against it.
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

    /// Members that run another machine than they should, and fresh servers that may not take part.
    pub fn misfits(&self) -> Vec<Refusal> {
        let members = self.members().filter(|seen| self.is_configured(seen.id()));
        let refused = self.inadmissible().into_iter().map(|(_, refusal)| refusal);
        let wrong = members.filter_map(|seen| self.objection(seen));
        refused
            .chain(wrong.filter(|refusal| matches!(refusal, Refusal::WrongMachine { .. })))
            .collect()
    }
}

/// What is not known is no other.
fn is_another_machine(found: &str, expected: &str) -> bool {
    !found.is_empty() && !expected.is_empty() && found != expected
}
