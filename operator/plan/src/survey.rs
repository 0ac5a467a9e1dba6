//! The inventory, understood: who is where, who leads, who is lost. Computed once per plan.

use std::collections::{BTreeMap, BTreeSet};

use crate::identity::{Identity, IdentityRecord};
use crate::ids::{NodeName, ServerId};
use crate::inventory::{
    Configuration, Instance, Inventory, Node, Observation, Role, Server, ServerView,
};
use crate::wanted::Wanted;

/// A server that answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub node: &'a Node,
    pub instance: &'a Instance,
    pub view: &'a ServerView,
}

impl Seen<'_> {
    pub fn id(&self) -> ServerId {
        self.view.server
    }

    /// Whether it has stopped, though it answers.
    pub fn is_quarantined(&self) -> bool {
        self.view.quarantine.is_some()
    }

    /// Itself and where it can be reached.
    pub fn server(&self) -> Server {
        Server {
            id: self.view.server,
            node: self.node.name.clone(),
            peer_address: self.instance.peer_address.clone(),
            client_address: self.instance.client_address.clone(),
        }
    }
}

/// What is known of one incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It answered.
    Live,
    /// Its state is gone: no node answers with it, and its node answers with another or is not
    /// there.
    Lost,
    /// It did not answer, and may live.
    Unknown,
}

/// One half of a configuration, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Half {
    pub voters: u32,
    pub live: u32,
    /// Those of the live that are not quarantined.
    pub healthy: u32,
    pub lost: u32,
    pub quorum: u32,
}

/// The inventory, understood.
pub(crate) struct Survey<'a> {
    pub wanted: &'a Wanted,
    pub inventory: &'a Inventory,
    /// The identity in force.
    pub record: Option<&'a IdentityRecord>,
    /// Everyone who answered, by id.
    pub seen: BTreeMap<ServerId, Seen<'a>>,
    /// The leader of the highest term, if one answered that is not quarantined.
    pub leader: Option<Seen<'a>>,
    /// The configuration in force at the leader, or else where the log is furthest; before any
    /// server is bootstrapped that of the record, with index 0.
    pub configuration: Option<Configuration>,
    homes: BTreeMap<ServerId, NodeName>,
}

impl<'a> Survey<'a> {
    pub fn of(wanted: &'a Wanted, inventory: &'a Inventory) -> Self {
        let seen: BTreeMap<ServerId, Seen<'a>> = inventory
            .nodes
            .iter()
            .filter_map(seen)
            .map(|seen| (seen.id(), seen))
            .collect();
        let record = match &inventory.identity {
            Identity::Recorded { record, .. } => Some(record),
            _ => None,
        };
        let members: Vec<Seen<'a>> = seen
            .values()
            .filter(|seen| record.is_some_and(|record| seen.view.cluster == Some(record.cluster)))
            .copied()
            .collect();
        let leader = members
            .iter()
            .filter(|seen| seen.view.role == Role::Leader && !seen.is_quarantined())
            .max_by_key(|seen| seen.view.term)
            .copied();
        let furthest = members
            .iter()
            .filter(|seen| !seen.view.configuration.voters.is_empty())
            .max_by_key(|seen| (seen.view.last, seen.view.configuration.index));
        let configuration = leader
            .or(furthest.copied())
            .map(|seen| seen.view.configuration.clone())
            .or_else(|| record.and_then(initial_configuration));
        let mut homes = BTreeMap::new();
        for server in members.iter().flat_map(|seen| &seen.view.servers) {
            homes.insert(server.id, server.node.clone());
        }
        for (node, server) in record.iter().flat_map(|record| &record.voters) {
            homes.insert(*server, node.clone());
        }
        for server in leader.iter().flat_map(|leader| &leader.view.servers) {
            homes.insert(server.id, server.node.clone());
        }
        for seen in seen.values() {
            homes.insert(seen.id(), seen.node.name.clone());
        }
        Self {
            wanted,
            inventory,
            record,
            seen,
            leader,
            configuration,
            homes,
        }
    }

    /// Whether data may be there to be lost.
    pub fn is_initialized(&self) -> bool {
        self.record.is_some_and(|record| record.initialized)
    }

    /// Servers of the cluster that answered, by id, whether they belong to the configuration or not.
    pub fn members(&self) -> impl Iterator<Item = Seen<'a>> {
        let cluster = self.record.map(|record| record.cluster);
        self.seen
            .values()
            .copied()
            .filter(move |seen| cluster.is_some() && seen.view.cluster == cluster)
    }

    /// The node of a server, as far as anyone knows.
    pub fn home(&self, server: ServerId) -> Option<&NodeName> {
        self.homes.get(&server)
    }

    /// The ordinal of a server's node; `None` if it is not known, or no node has that name.
    pub fn ordinal(&self, server: ServerId) -> Option<u32> {
        let home = self.home(server)?;
        let node = self.inventory.nodes.iter().find(|node| node.name == *home);
        node.map(|node| node.ordinal)
            .or_else(|| home.rsplit_once('-')?.1.parse().ok())
    }

    /// Whether nothing that exists failed to answer.
    pub fn all_answered(&self) -> bool {
        self.inventory.nodes.iter().all(|node| {
            !matches!(
                node.instance.as_ref().map(|instance| &instance.observation),
                Some(Observation::Unknown { .. })
            )
        })
    }

    /// What is known of a server. Never [`Fate::Lost`] on a mere timeout.
    pub fn fate(&self, server: ServerId) -> Fate {
        if self.seen.contains_key(&server) {
            return Fate::Live;
        }
        let is_gone = match self.home(server) {
            // Nobody knows where it was: it may be any that does not answer.
            None => self.all_answered(),
            Some(home) => {
                let node = self.inventory.nodes.iter().find(|node| node.name == *home);
                match node.and_then(|node| node.instance.as_ref()) {
                    None => true,
                    Some(instance) => matches!(instance.observation, Observation::Seen(_)),
                }
            }
        };
        if is_gone { Fate::Lost } else { Fate::Unknown }
    }

    /// Quorum of this many voters: a majority, or `min_majority` if that is more.
    pub fn quorum(&self, voters: usize) -> u32 {
        let majority = u32::try_from(voters / 2 + 1).unwrap_or(u32::MAX);
        majority.max(self.wanted.min_majority)
    }

    /// Counts a set of voters.
    pub fn count(&self, voters: &BTreeSet<ServerId>) -> Half {
        let of = |fate: Fate| {
            let count = voters.iter().filter(|voter| self.fate(**voter) == fate);
            u32::try_from(count.count()).unwrap_or(u32::MAX)
        };
        let seen = voters.iter().filter_map(|voter| self.seen.get(voter));
        let healthy = seen.filter(|seen| !seen.is_quarantined()).count();
        Half {
            voters: u32::try_from(voters.len()).unwrap_or(u32::MAX),
            live: of(Fate::Live),
            healthy: u32::try_from(healthy).unwrap_or(u32::MAX),
            lost: of(Fate::Lost),
            quorum: self.quorum(voters.len()),
        }
    }

    /// The halves of the configuration in force, counted.
    pub fn halves(&self) -> Vec<Half> {
        self.configuration
            .iter()
            .flat_map(|configuration| configuration.halves())
            .map(|voters| self.count(voters))
            .collect()
    }

    /// A half in which too few voters answer, if there is one.
    pub fn half_without_quorum(&self) -> Option<Half> {
        self.halves()
            .into_iter()
            .find(|half| half.live < half.quorum)
    }

    /// A half in which too few voters answer and are not quarantined, if there is one.
    pub fn half_without_healthy_quorum(&self) -> Option<Half> {
        self.halves()
            .into_iter()
            .find(|half| half.healthy < half.quorum)
    }

    /// A half that can have no quorum any more, if there is one: too many of its voters are lost.
    pub fn half_out_of_reach(&self) -> Option<Half> {
        let halves = self.halves().into_iter();
        halves
            .filter(|half| half.voters - half.lost < half.quorum)
            .max_by_key(|half| half.lost)
    }

    /// The leader, if it can change the configuration now.
    pub fn ready_leader(&self) -> Option<Seen<'a>> {
        self.leader.filter(|leader| {
            let view = leader.view;
            view.serving && view.term_committed && !view.transferring
        })
    }

    /// Whether the configuration in force is neither joint nor uncommitted.
    pub fn is_settled(&self) -> bool {
        self.configuration
            .as_ref()
            .is_some_and(|configuration| configuration.committed && !configuration.is_joint())
    }

    /// Whether a server belongs to the configuration in force.
    pub fn is_configured(&self, server: ServerId) -> bool {
        self.configuration
            .as_ref()
            .is_some_and(|configuration| configuration.contains(server))
    }

    /// Whether a server answered that it has stopped.
    pub fn is_quarantined(&self, server: ServerId) -> bool {
        self.seen.get(&server).is_some_and(Seen::is_quarantined)
    }

    /// Fresh servers that are wanted and stay, by ordinal: they wait to be bootstrapped or added.
    /// Not all of them may be: see [`Survey::admissible`].
    pub fn fresh(&self) -> Vec<Seen<'a>> {
        let nodes = self.inventory.nodes.iter();
        nodes
            .filter(|node| node.ordinal < self.wanted.replicas)
            .filter_map(seen)
            .filter(|seen| seen.view.cluster.is_none() && !seen.instance.going)
            .filter(|seen| !self.is_configured(seen.id()))
            .collect()
    }

    /// The live voter, not going, that would make the best leader in place of `leader`.
    pub fn successor(&self, leader: Seen<'a>, among: &BTreeSet<ServerId>) -> Option<Seen<'a>> {
        let matched = |id| {
            let progress = leader.view.progress.get(&id);
            progress.map_or((false, 0), |progress| {
                (progress.reachable, progress.matched)
            })
        };
        among
            .iter()
            .filter(|id| **id != leader.id())
            .filter_map(|id| self.seen.get(id).copied())
            .filter(|seen| !seen.instance.going && !seen.is_quarantined())
            .filter(|seen| seen.view.role == Role::Follower)
            .max_by_key(|seen| (matched(seen.id()), std::cmp::Reverse(seen.node.ordinal)))
    }
}

impl Configuration {
    /// Whether a change of voters is in flight.
    pub fn is_joint(&self) -> bool {
        self.outgoing.is_some()
    }

    /// Whether `server` votes, in either half.
    pub fn is_voter(&self, server: ServerId) -> bool {
        self.halves().any(|half| half.contains(&server))
    }

    /// Whether `server` receives the log.
    pub fn contains(&self, server: ServerId) -> bool {
        self.is_voter(server) || self.learners.contains_key(&server)
    }

    /// Everyone who receives the log, each once, in order.
    pub fn servers(&self) -> BTreeSet<ServerId> {
        let voters = self.halves().flatten().copied();
        voters.chain(self.learners.keys().copied()).collect()
    }

    /// The voters of each half: one half, or two while joint.
    pub fn halves(&self) -> impl Iterator<Item = &BTreeSet<ServerId>> {
        std::iter::once(&self.voters).chain(self.outgoing.as_ref())
    }
}

fn seen(node: &Node) -> Option<Seen<'_>> {
    let instance = node.instance.as_ref()?;
    match &instance.observation {
        Observation::Seen(view) => Some(Seen {
            node,
            instance,
            view,
        }),
        Observation::Unknown { .. } => None,
    }
}

/// What the initial voters begin with, as long as none of them says more. Once initialized the
/// record is history.
fn initial_configuration(record: &IdentityRecord) -> Option<Configuration> {
    (!record.initialized).then(|| Configuration {
        voters: record.voters.values().copied().collect(),
        ..Configuration::default()
    })
}
