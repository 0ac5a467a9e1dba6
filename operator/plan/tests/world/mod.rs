//! A small world to plan for: pods, an identity object, and one Raft group that behaves as the
//! contract says. Every step is checked for safety before it takes effect.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kontiki_plan::{
    ClusterId, Configuration, Identity, IdentityCopy, Instance, Inventory, LogId, Node,
    Observation, OnTotalLoss, Progress, Purpose, Role, Server, ServerId, ServerView,
    SettingsWarning, Step, Versions, Wanted,
};

/// A pod and the server in it.
#[derive(Clone, Debug)]
pub struct Pod {
    pub uid: u64,
    pub going: bool,
    /// Since when it does not answer the operator (or has not started), though it may live.
    pub silent_since: Option<u64>,
    /// It does not start: its server neither answers nor takes part.
    pub stuck: bool,
    pub server: ServerId,
    pub cluster: Option<ClusterId>,
    /// What it knows of the configuration; the group's, unless it is out of it.
    pub configuration: Configuration,
    pub introduced: BTreeSet<(ServerId, String)>,
    /// The leader that it still believes in.
    pub follows: Option<ServerId>,
    pub image: Image,
    /// Why it has stopped, if it has.
    pub quarantine: Option<String>,
    /// What it says does not fit of the settings.
    pub settings_warnings: Vec<SettingsWarning>,
    /// Why it does not start, if it does not.
    pub trouble: Option<String>,
}

/// What pods are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub machine: String,
    pub versions: Versions,
}

/// The truth about one cluster.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub configuration: Configuration,
    pub leader: Option<ServerId>,
    pub term: u64,
    pub index: u64,
    pub activated: bool,
    /// Version of the machine in force; 0: none yet.
    pub version: u32,
}

#[derive(Clone, Debug)]
pub struct World {
    pub wanted: Wanted,
    pub identity: Identity,
    pub copy: Option<IdentityCopy>,
    pub desired: Option<u32>,
    pub objects: bool,
    pub pods: BTreeMap<u32, Pod>,
    pub groups: BTreeMap<ClusterId, Group>,
    /// Where every server ever was.
    pub homes: BTreeMap<ServerId, u32>,
    /// The StatefulSet controller is at work.
    pub controller: bool,
    /// Learners catch up.
    pub catching_up: bool,
    /// What new pods are made from.
    pub image: Image,
    pub now: u64,
    leaderless_since: Option<u64>,
    servers_wanted_since: u64,
    version: u64,
    drawn: u64,
    next: u64,
}

impl World {
    pub fn new() -> Self {
        Self {
            wanted: Wanted {
                replicas: 3,
                min_majority: 1,
                election_timeout: Duration::from_secs(60),
                paused: false,
                machine: Some("kv".to_owned()),
                on_total_loss: OnTotalLoss::Halt,
            },
            identity: Identity::Absent,
            copy: None,
            desired: None,
            objects: false,
            pods: BTreeMap::new(),
            groups: BTreeMap::new(),
            homes: BTreeMap::new(),
            controller: true,
            catching_up: true,
            image: Image {
                machine: "kv".to_owned(),
                versions: Versions { min: 1, max: 1 },
            },
            now: 0,
            leaderless_since: None,
            servers_wanted_since: 0,
            version: 0,
            drawn: 0xc0,
            next: 0xa0,
        }
    }

    fn name(ordinal: u32) -> String {
        format!("demo-{ordinal}")
    }

    /// Where a pod is reached: each has an address of its own.
    fn address(ordinal: u32, pod: &Pod) -> String {
        format!("demo-{ordinal}.{}:7401", pod.uid)
    }

    fn live(&self, id: ServerId) -> Option<(u32, &Pod)> {
        let pods = self.pods.iter().map(|(ordinal, pod)| (*ordinal, pod));
        let mut pods = pods.filter(|(_, pod)| !pod.stuck);
        pods.find(|(_, pod)| pod.server == id)
    }

    /// Whether its state is still somewhere, though it may hang.
    pub fn exists(&self, id: ServerId) -> bool {
        self.pods.values().any(|pod| pod.server == id)
    }

    /// The configuration of the cluster on record.
    pub fn configuration(&self) -> Option<&Configuration> {
        let Identity::Recorded { record, .. } = &self.identity else {
            return None;
        };
        let group = self.groups.get(&record.cluster)?;
        Some(&group.configuration)
    }

    /// Makes a voter lead, if that can be.
    pub fn lead(&mut self, ordinal: u32) {
        let Some(configuration) = self.configuration().cloned() else {
            return;
        };
        let may = |pod: &&Pod| !pod.stuck && pod.quarantine.is_none();
        let Some(pod) = self.pods.get(&ordinal).filter(may) else {
            return;
        };
        let (id, cluster) = (pod.server, pod.cluster);
        let can = halves(&configuration).all(|half| self.quorum_lives(half));
        if let Some(cluster) = cluster
            && can
            && configuration.voters.contains(&id)
        {
            let group = self.groups.get_mut(&cluster).expect("its group");
            group.leader = Some(id);
            group.term += 1;
            self.spread(cluster);
        }
    }

    fn quorum_lives(&self, voters: &BTreeSet<ServerId>) -> bool {
        let live = voters.iter().filter(|id| self.live(**id).is_some()).count();
        live >= self.quorum(voters.len())
    }

    pub fn quorum(&self, voters: usize) -> usize {
        (voters / 2 + 1).max(usize::try_from(self.wanted.min_majority).unwrap())
    }

    /// Starts a pod with a fresh server; also what a restarted container is.
    pub fn start(&mut self, ordinal: u32) {
        self.next += 1;
        let server = ServerId(self.next);
        self.homes.insert(server, ordinal);
        let pod = Pod {
            uid: self.next,
            going: false,
            silent_since: None,
            stuck: false,
            server,
            cluster: None,
            configuration: Configuration::default(),
            introduced: BTreeSet::new(),
            follows: None,
            image: self.image.clone(),
            quarantine: None,
            settings_warnings: Vec::new(),
            trouble: None,
        };
        self.pods.insert(ordinal, pod);
    }

    /// One second: pods come and go, the group does what it does by itself.
    pub fn tick(&mut self) {
        self.now += 1000;
        if self.controller {
            self.control();
        }
        let clusters: Vec<ClusterId> = self.groups.keys().copied().collect();
        clusters.into_iter().for_each(|cluster| self.run(cluster));
    }

    fn control(&mut self) {
        let desired = self.desired.unwrap_or(0);
        self.pods
            .retain(|ordinal, pod| *ordinal < desired && !pod.going);
        for ordinal in 0..desired {
            if !self.pods.contains_key(&ordinal) {
                self.start(ordinal);
            }
        }
    }

    /// A leader that died is forgotten; changes are finished by the leader.
    fn run(&mut self, cluster: ClusterId) {
        let mut group = self.groups[&cluster].clone();
        if group.leader.is_some_and(|leader| !self.is_healthy(leader)) {
            group.leader = None;
        }
        let halves: Vec<_> = halves(&group.configuration).cloned().collect();
        let works = group.leader.is_some() && halves.iter().all(|half| self.quorum_lives(half));
        if works && group.configuration.outgoing.is_some() {
            group.index += 1;
            group.configuration.index = group.index;
            group.configuration.outgoing = None;
        } else if works && self.catching_up {
            self.promote(&mut group);
        }
        if works {
            self.raise_version(&mut group);
            let is_voter = |id: &ServerId| group.configuration.voters.contains(id);
            group.leader = group.leader.filter(is_voter);
        }
        self.groups.insert(cluster, group);
        self.spread(cluster);
    }

    /// It answers, and has not stopped.
    fn is_healthy(&self, id: ServerId) -> bool {
        self.live(id)
            .is_some_and(|(_, pod)| pod.quarantine.is_none())
    }

    /// The newest version that every voter supports comes into force.
    fn raise_version(&self, group: &mut Group) {
        let mut voters = halves(&group.configuration).flatten();
        let mut versions = Vec::new();
        let all = voters.all(|id| match self.live(*id) {
            Some((_, pod)) => {
                versions.push(pod.image.versions);
                true
            }
            None => false,
        });
        let newest = versions.iter().map(|versions| versions.max).min();
        if let Some(newest) = newest.filter(|newest| all && *newest > group.version)
            && versions.iter().all(|versions| versions.contains(newest))
        {
            group.version = newest;
        }
    }

    fn promote(&self, group: &mut Group) {
        let before = group.configuration.voters.clone();
        let learners = group.configuration.learners.clone();
        let lives = |id: &ServerId| {
            let versions = self.live(*id).map(|(_, pod)| pod.image.versions);
            let supports = versions.is_some_and(|versions| versions.contains(group.version));
            self.is_healthy(*id) && (supports || group.version == 0)
        };
        let replacement = learners.iter().find_map(|(id, purpose)| match purpose {
            Purpose::Replace(lost) if lives(id) => Some((*id, *lost)),
            _ => None,
        });
        let joining: Vec<ServerId> = learners
            .iter()
            .filter(|(id, purpose)| **purpose == Purpose::Join && lives(id))
            .map(|(id, _)| *id)
            .collect();
        if let Some((new, lost)) = replacement {
            group.configuration.voters.remove(&lost);
            group.configuration.voters.insert(new);
            group.configuration.learners.remove(&new);
        } else {
            for id in joining {
                group.configuration.voters.insert(id);
                group.configuration.learners.remove(&id);
            }
        }
        if group.configuration.voters != before {
            group.configuration.outgoing = Some(before);
            group.index += 1;
            group.configuration.index = group.index;
        }
    }

    /// Whoever belongs to the group learns what the group knows.
    fn spread(&mut self, cluster: ClusterId) {
        let group = self.groups[&cluster].clone();
        if group.leader.is_none() {
            return;
        }
        for pod in self.pods.values_mut().filter(|pod| !pod.stuck) {
            if contains(&group.configuration, pod.server) {
                pod.cluster = Some(cluster);
                pod.configuration = group.configuration.clone();
                pod.follows = group.leader;
            }
        }
    }

    pub fn inventory(&mut self) -> Inventory {
        let leads = |pod: &Pod| {
            let group = pod.cluster.and_then(|cluster| self.groups.get(&cluster));
            group.is_some_and(|group| group.leader == Some(pod.server))
        };
        let mut pods = self.pods.values();
        let answers = |pod: &Pod| !pod.stuck && pod.silent_since.is_none();
        let is_led = pods.any(|pod| answers(pod) && pod.quarantine.is_none() && leads(pod));
        let since = match (is_led, self.leaderless_since) {
            (true, _) => None,
            (false, since) => Some(since.unwrap_or(self.now)),
        };
        self.leaderless_since = since;
        let above = self.pods.keys().max().map_or(0, |highest| highest + 1);
        let count = self.desired.unwrap_or(0).max(above);
        Inventory {
            identity: self.identity.clone(),
            identity_copies: self.copy.iter().cloned().collect(),
            servers_desired: self.desired,
            drift: if self.objects {
                Vec::new()
            } else {
                vec!["Service demo-peers: missing".to_owned()]
            },
            nodes: (0..count).map(|ordinal| self.node(ordinal)).collect(),
            drawn_cluster: ClusterId(self.drawn + 1),
            revision: Some(Self::revision(&self.image)),
            waited_for_servers: Duration::from_millis(self.now - self.servers_wanted_since),
            leaderless_for: Duration::from_millis(since.map_or(0, |since| self.now - since)),
        }
    }

    fn revision(image: &Image) -> String {
        let Versions { min, max } = image.versions;
        format!("{} {min} to {max}", image.machine)
    }

    fn node(&self, ordinal: u32) -> Node {
        let instance = self.pods.get(&ordinal).map(|pod| {
            let observation = match pod.silent_since {
                Some(since) => Observation::Unknown {
                    reason: "timeout".to_owned(),
                    lasting: Duration::from_millis(self.now - since),
                },
                None => Observation::Seen(Box::new(self.view(pod))),
            };
            Instance {
                uid: pod.uid.to_string(),
                going: pod.going,
                revision: Self::revision(&pod.image),
                peer_address: Self::address(ordinal, pod),
                client_address: String::new(),
                trouble: pod.trouble.clone(),
                ready: self.is_ready(pod),
                observation,
            }
        });
        Node {
            ordinal,
            name: Self::name(ordinal),
            instance,
        }
    }

    fn is_ready(&self, pod: &Pod) -> bool {
        let group = pod.cluster.and_then(|cluster| self.groups.get(&cluster));
        let voter = is_voter(&pod.configuration, pod.server);
        let runs = !pod.stuck && pod.quarantine.is_none();
        voter && runs && group.is_some_and(|group| group.activated)
    }

    fn view(&self, pod: &Pod) -> ServerView {
        let group = pod.cluster.and_then(|cluster| self.groups.get(&cluster));
        let group = group.cloned().unwrap_or_default();
        let leads = group.leader == Some(pod.server);
        let halves: Vec<_> = halves(&group.configuration).cloned().collect();
        let serving = leads && halves.iter().all(|half| self.quorum_lives(half));
        let known = pod.introduced.iter();
        let servers = known.map(|(id, peer_address)| Server {
            id: *id,
            node: Self::name(self.homes[id]),
            peer_address: peer_address.clone(),
            client_address: String::new(),
        });
        let progress = group.configuration.voters.iter().map(|id| {
            let progress = Progress {
                matched: group.index,
                heard_ago: Some(Duration::ZERO),
                reachable: self.live(*id).is_some(),
                stalled: false,
            };
            (*id, progress)
        });
        ServerView {
            server: pod.server,
            cluster: pod.cluster,
            role: match pod.cluster {
                None => Role::Joiner,
                Some(_) if leads => Role::Leader,
                Some(_) if is_voter(&pod.configuration, pod.server) => Role::Follower,
                Some(_) => Role::Learner,
            },
            term: group.term,
            leader: pod.follows,
            last: LogId {
                term: group.term,
                index: pod.configuration.index,
            },
            commit: group.index,
            applied: group.index,
            configuration: pod.configuration.clone(),
            activated: group.activated,
            ready: self.is_ready(pod),
            serving,
            term_committed: serving,
            transferring: false,
            progress: if leads {
                progress.collect()
            } else {
                BTreeMap::new()
            },
            servers: servers.collect(),
            version: "1".to_owned(),
            machine: pod.image.machine.clone(),
            machine_version: Some(group.version).filter(|version| *version > 0),
            machine_versions: Some(pod.image.versions),
            quarantine: pod.quarantine.clone(),
            settings_warnings: pod.settings_warnings.clone(),
        }
    }

    /// Performs a step, as far as the world lets it.
    ///
    /// # Panics
    /// If the step is unsafe.
    pub fn apply(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::EnsureObjects { .. } => {
                self.objects = true;
                self.refresh_copy();
            }
            Step::EnsureServers { count } => {
                self.desired = Some(self.desired.unwrap_or(0).max(*count));
            }
            Step::ShrinkServers { count } => self.shrink(*count),
            Step::RecordIdentity { record, expects } => {
                self.expect_version(expects.as_deref())?;
                assert!(
                    !self.groups.contains_key(&record.cluster) || record.initialized,
                    "{:?} is bootstrapped twice",
                    record.cluster
                );
                for group in self.groups.values().filter(|group| group.activated) {
                    let voters = &group.configuration.voters;
                    let left = voters.iter().filter(|id| self.exists(**id)).count();
                    let survives = left > voters.len() / 2;
                    assert!(
                        record.initialized || !survives,
                        "a second cluster is drawn: {group:?}\n{}",
                        self.describe()
                    );
                }
                self.drawn = self.drawn.max(record.cluster.0);
                self.version += 1;
                self.identity = Identity::Recorded {
                    record: record.clone(),
                    version: self.version.to_string(),
                };
                self.refresh_copy();
            }
            Step::RecordInitialized { cluster, expects } => {
                self.expect_version(Some(expects))?;
                self.version += 1;
                let Identity::Recorded { record, version } = &mut self.identity else {
                    return Err("no identity".to_owned());
                };
                assert_eq!(record.cluster, *cluster);
                record.initialized = true;
                *version = self.version.to_string();
                self.refresh_copy();
            }
            Step::DrawIdentityAnew { discarded, expects } => {
                self.expect_version(Some(expects))?;
                self.version += 1;
                self.servers_wanted_since = self.now;
                self.identity = Identity::Discarded {
                    discarded: discarded.clone(),
                    version: self.version.to_string(),
                };
            }
            Step::Bootstrap {
                to,
                cluster,
                voters,
            } => self.bootstrap(to, *cluster, voters)?,
            Step::Quarantine { on, cluster, why } => {
                let voters = halves(&self.groups[cluster].configuration);
                let lives = |half: &BTreeSet<ServerId>| {
                    half.iter().filter(|id| self.exists(**id)).count() > half.len() / 2
                };
                assert!(
                    !voters.into_iter().any(lives),
                    "{on} is to stop, and its cluster is not lost\n{}",
                    self.describe()
                );
                self.reached(on)?.quarantine = Some(why.clone());
            }
            Step::Introduce { to, servers, .. } => {
                let pod = self.reached(to)?;
                for server in servers {
                    pod.introduced.retain(|(id, _)| *id != server.id);
                    pod.introduced
                        .insert((server.id, server.peer_address.clone()));
                }
            }
            Step::Restart { uid, server, .. } => self.restart(uid, *server)?,
            _ => self.through_raft(step)?,
        }
        Ok(())
    }

    fn shrink(&mut self, count: u32) {
        let Identity::Recorded { record, .. } = &self.identity else {
            self.desired = Some(count);
            return;
        };
        if let Some(group) = self.groups.get(&record.cluster) {
            for id in servers(&group.configuration) {
                assert!(
                    self.homes[&id] < count,
                    "{id} is shrunk before it is removed"
                );
            }
        }
        self.desired = Some(count);
    }

    fn restart(&mut self, uid: &str, server: ServerId) -> Result<(), String> {
        let mut pods = self.pods.values_mut();
        let pod = pods
            .find(|pod| pod.uid.to_string() == *uid && pod.server == server)
            .ok_or("another pod or server")?;
        if let Identity::Recorded { record, .. } = &self.identity
            && let Some(group) = self.groups.get(&record.cluster)
        {
            assert!(
                !contains(&group.configuration, server),
                "{server} is restarted although it is a member"
            );
            assert!(
                pod.quarantine.is_none() || pod.cluster != Some(record.cluster),
                "{server} is restarted although its memory may be wanted"
            );
        }
        pod.going = true;
        Ok(())
    }

    fn expect_version(&self, expects: Option<&str>) -> Result<(), String> {
        let version = match &self.identity {
            Identity::Recorded { version, .. } | Identity::Discarded { version, .. } => {
                Some(version.as_str())
            }
            _ => None,
        };
        if version == expects {
            Ok(())
        } else {
            Err("conflict".to_owned())
        }
    }

    fn refresh_copy(&mut self) {
        if let Identity::Recorded { record, .. } = &self.identity {
            self.copy = Some(IdentityCopy {
                place: "StatefulSet demo".to_owned(),
                cluster: record.cluster,
                initialized: record.initialized,
            });
        }
    }

    fn reached(&mut self, to: &Server) -> Result<&mut Pod, String> {
        let mut pods = self.pods.values_mut();
        pods.find(|pod| pod.server == to.id && !pod.stuck && pod.silent_since.is_none())
            .ok_or_else(|| format!("{to} is not there"))
    }

    fn bootstrap(
        &mut self,
        to: &Server,
        cluster: ClusterId,
        voters: &[Server],
    ) -> Result<(), String> {
        let Identity::Recorded { record, .. } = &self.identity else {
            panic!("bootstrap before the identity is recorded");
        };
        assert_eq!(record.cluster, cluster, "bootstrap of another cluster");
        let ids: BTreeSet<ServerId> = voters.iter().map(|voter| voter.id).collect();
        assert_eq!(
            ids,
            record.voters.values().copied().collect(),
            "other voters"
        );
        let configuration = Configuration {
            index: 1,
            committed: true,
            voters: ids,
            ..Configuration::default()
        };
        let pod = self.reached(to)?;
        if pod.cluster.is_some() {
            return if pod.cluster == Some(cluster) {
                Ok(())
            } else {
                Err("bootstrapped before".to_owned())
            };
        }
        pod.cluster = Some(cluster);
        pod.configuration = configuration.clone();
        for voter in voters.iter().filter(|voter| !voter.peer_address.is_empty()) {
            pod.introduced
                .insert((voter.id, voter.peer_address.clone()));
        }
        self.groups.entry(cluster).or_insert(Group {
            configuration,
            index: 1,
            ..Group::default()
        });
        Ok(())
    }

    /// Steps that the leader carries out, and those about leadership.
    fn through_raft(&mut self, step: &Step) -> Result<(), String> {
        let (via, cluster) = match step {
            Step::Activate { via, cluster }
            | Step::Add { via, cluster, .. }
            | Step::Replace { via, cluster, .. }
            | Step::Remove { via, cluster, .. }
            | Step::Transfer { via, cluster, .. }
            | Step::TriggerElection { on: via, cluster } => (via.clone(), *cluster),
            other => panic!("{other} is not for Raft"),
        };
        self.reached(&via)?;
        let mut group = self.groups[&cluster].clone();
        let settled = halves(&group.configuration).cloned().collect::<Vec<_>>();
        if !settled.iter().all(|half| self.quorum_lives(half)) {
            return Err("no quorum".to_owned());
        }
        if let Step::TriggerElection { on, .. } = step {
            assert!(self.is_healthy(on.id), "{on} is to lead, but has stopped");
            group.leader = Some(on.id);
            group.term += 1;
        } else {
            if group.leader != Some(via.id) {
                return Err("not leader".to_owned());
            }
            self.on_leader(step, &mut group)?;
        }
        let new: &[Server] = match step {
            Step::Add { servers, .. } => servers,
            Step::Replace { new, .. } => std::slice::from_ref(new),
            _ => &[],
        };
        let leader = self.reached(&via)?;
        for server in new {
            let address = server.peer_address.clone();
            leader.introduced.insert((server.id, address));
        }
        self.groups.insert(cluster, group);
        self.spread(cluster);
        Ok(())
    }

    fn on_leader(&mut self, step: &Step, group: &mut Group) -> Result<(), String> {
        let expect = |index: u64| {
            if group.configuration.outgoing.is_some() {
                Err("unstable configuration".to_owned())
            } else if index != group.configuration.index {
                Err("stale configuration".to_owned())
            } else {
                Ok(())
            }
        };
        let before = group.configuration.voters.clone();
        match step {
            Step::Activate { cluster, .. } => {
                let Identity::Recorded { record, .. } = &self.identity else {
                    panic!("activated without an identity");
                };
                assert!(record.initialized && record.cluster == *cluster);
                group.activated = true;
                return Ok(());
            }
            Step::Transfer { target, .. } => {
                assert!(before.contains(&target.id), "a target that does not vote");
                let stopped = self
                    .pods
                    .values()
                    .any(|pod| pod.server == target.id && pod.quarantine.is_some());
                assert!(!stopped, "{target} is to lead, but has stopped");
                if self.live(target.id).is_none() {
                    return Err("target is not there".to_owned());
                }
                group.leader = Some(target.id);
                group.term += 1;
                return Ok(());
            }
            Step::Add {
                servers,
                supersedes,
                configuration_index,
                ..
            } => {
                expect(*configuration_index)?;
                for id in supersedes {
                    assert!(!self.exists(*id), "{id} may live");
                    group.configuration.learners.remove(id);
                }
                for server in servers {
                    self.assert_admissible(server.id, group);
                    group
                        .configuration
                        .learners
                        .insert(server.id, Purpose::Join);
                }
            }
            Step::Replace {
                lost,
                new,
                supersedes,
                configuration_index,
                ..
            } => {
                expect(*configuration_index)?;
                assert!(!self.exists(*lost), "{lost} is replaced but may live");
                for id in supersedes {
                    assert!(!self.exists(*id), "{id} may live");
                    group.configuration.learners.remove(id);
                }
                self.assert_admissible(new.id, group);
                let purpose = Purpose::Replace(*lost);
                group.configuration.learners.insert(new.id, purpose);
            }
            Step::Remove {
                servers,
                configuration_index,
                ..
            } => {
                expect(*configuration_index)?;
                for id in servers {
                    group.configuration.voters.remove(id);
                    group.configuration.learners.remove(id);
                }
                let voters = &group.configuration.voters;
                assert!(self.quorum_lives(voters), "no quorum is left of {voters:?}");
            }
            other => panic!("{other} is not for a leader"),
        }
        group.index += 1;
        group.configuration.index = group.index;
        if group.configuration.voters != before {
            group.configuration.outgoing = Some(before);
        }
        Ok(())
    }

    /// A leader refuses a server that cannot apply what is written now: it is not to be asked.
    fn assert_admissible(&self, id: ServerId, group: &Group) {
        let Some(pod) = self.pods.values().find(|pod| pod.server == id) else {
            return;
        };
        let versions = pod.image.versions;
        assert!(
            group.version == 0 || versions.contains(group.version),
            "{id} is added, but does not support version {}",
            group.version
        );
        assert!(pod.quarantine.is_none(), "{id} is added, but has stopped");
        let machine = self.wanted.machine.as_ref();
        assert!(
            machine.is_none_or(|machine| *machine == pod.image.machine),
            "{id} is added, but runs another machine"
        );
    }

    /// A line for each pod, and one for the group.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let desired = self
            .desired
            .map_or("no".to_owned(), |count| count.to_string());
        let identity = match &self.identity {
            Identity::Absent => "absent".to_owned(),
            Identity::Unreadable { .. } => "unreadable".to_owned(),
            Identity::Discarded { discarded, .. } => {
                format!("{:?} discarded", discarded.previous)
            }
            Identity::Recorded { record, .. } if record.initialized => {
                format!("{:?} initialized", record.cluster)
            }
            Identity::Recorded { record, .. } => format!("{:?} recorded", record.cluster),
        };
        text += &format!("{desired} servers desired, identity {identity}\n");
        for (ordinal, pod) in &self.pods {
            text += &format!("demo-{ordinal}/{:?}", pod.server);
            let group = pod.cluster.map(|cluster| (cluster, &self.groups[&cluster]));
            text += &match group {
                None => " fresh".to_owned(),
                Some((_, group)) if group.leader == Some(pod.server) => {
                    format!(" leads in term {}", group.term)
                }
                Some((_, group)) if is_voter(&group.configuration, pod.server) => {
                    " votes".to_owned()
                }
                Some((_, group)) if contains(&group.configuration, pod.server) => {
                    " learns".to_owned()
                }
                Some((cluster, _)) => format!(" was of {cluster:?}"),
            };
            for (is, what) in [
                (pod.going, ", going"),
                (pod.stuck, ", stuck"),
                (pod.silent_since.is_some(), ", silent"),
                (pod.quarantine.is_some(), ", quarantined"),
            ] {
                text += if is { what } else { "" };
            }
            text += "\n";
        }
        text
    }

    /// What has to be the same however often the operator died on the way.
    pub fn outcome(&self) -> String {
        let configuration = match &self.identity {
            Identity::Recorded { record, .. } => self
                .groups
                .get(&record.cluster)
                .map(|group| group.configuration.clone()),
            _ => None,
        };
        let configuration = configuration.unwrap_or_default();
        let ordinals = configuration.voters.iter().map(|id| self.homes[id]);
        let ordinals: BTreeSet<u32> = ordinals.collect();
        let initialized = match &self.identity {
            Identity::Recorded { record, .. } => record.initialized,
            _ => false,
        };
        format!(
            "desired {:?}, voters on {ordinals:?}, {} learners, joint {}, initialized {initialized}",
            self.desired,
            configuration.learners.len(),
            configuration.outgoing.is_some(),
        )
    }
}

fn halves(configuration: &Configuration) -> impl Iterator<Item = &BTreeSet<ServerId>> {
    std::iter::once(&configuration.voters).chain(configuration.outgoing.as_ref())
}

fn is_voter(configuration: &Configuration, id: ServerId) -> bool {
    halves(configuration).any(|half| half.contains(&id))
}

fn contains(configuration: &Configuration, id: ServerId) -> bool {
    is_voter(configuration, id) || configuration.learners.contains_key(&id)
}

fn servers(configuration: &Configuration) -> BTreeSet<ServerId> {
    let voters = halves(configuration).flatten().copied();
    voters
        .chain(configuration.learners.keys().copied())
        .collect()
}
