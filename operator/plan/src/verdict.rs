//! What to say: facts and conditions for the status of a `RaftCluster`, the same in both worlds.

use crate::conditions::conditions;
use crate::identity::Identity;
use crate::ids::{ClusterId, NodeName, ServerId};
use crate::inventory::{Inventory, Role, Versions};
use crate::plan::Plan;
use crate::rules::quorum_lost::lost_half;
use crate::survey::{Fate, Half, Survey};
use crate::wanted::Wanted;

/// Everything `report` writes but times and attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The cluster, once recorded.
    pub cluster: Option<ClusterId>,
    /// Number of nodes that exist.
    pub servers: u32,
    /// Number of ready servers.
    pub ready_servers: u32,
    /// Who leads.
    pub leader: Option<LeaderFact>,
    /// What is replicated, if any server says.
    pub machine: Option<MachineFact>,
    /// The quorum.
    pub quorum: QuorumFact,
    /// Members of the configuration, and fresh servers, by server id.
    pub members: Vec<Member>,
    /// What is being done.
    pub operation: Option<Operation>,
    /// All conditions, in the order of [`ConditionKind`].
    pub conditions: Vec<ConditionFact>,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderFact {
    /// Its node.
    pub node: NodeName,
    /// Which.
    pub server: ServerId,
    /// In which term.
    pub term: u64,
}

/// What is replicated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineFact {
    /// Name of the machine.
    pub name: String,
    /// Version in force, if known.
    pub version: Option<u32>,
}

/// Voters in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuorumFact {
    /// Voters of the configuration in force.
    pub voters: u32,
    /// Those that answer and are not quarantined.
    pub healthy_voters: u32,
    /// How many more may be lost; negative without a quorum.
    pub margin: i32,
}

/// A member, or a server that waits to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub server: ServerId,
    /// Its node, if known.
    pub node: Option<NodeName>,
    /// Its role, if it answers.
    pub role: Option<Role>,
    /// Whether it votes.
    pub voter: bool,
    /// How it is.
    pub state: MemberState,
    /// Version of Kontiki that its program was built with, if it answers.
    pub version: Option<String>,
    /// Versions that its machine supports, if it says so.
    pub machine_versions: Option<Versions>,
    /// Why it is quarantined, if it is.
    pub quarantine: Option<String>,
}

/// How a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It answers.
    Active,
    /// Its state is gone.
    Lost,
    /// Waits to be a voter.
    Joining,
    /// It does not answer, and may live.
    Unknown,
    /// It answers, but has stopped.
    Quarantined,
}

/// What is being done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What.
    pub kind: OperationKind,
    /// Towards what, for people.
    pub target: String,
    /// Why it does not go on, for people.
    pub blocked: Option<String>,
}

/// Kinds of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// The first start.
    Bootstrap,
    /// A lost server is replaced, or a leader is found.
    Repair,
    /// Servers are added.
    ScaleUp,
    /// Servers are removed.
    ScaleDown,
    /// A cluster without data takes the place of one that was lost.
    StartEmpty,
}

/// The conditions of a `RaftCluster`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionKind {
    /// All is as wanted.
    Ready,
    /// A leader serves.
    Available,
    /// The operator is at work.
    Progressing,
    /// Something is lost or does not answer.
    Degraded,
    /// Data may be there.
    Initialized,
    /// All places name one cluster.
    ClusterIdConsistent,
    /// One more loss would stop writes.
    QuorumAtRisk,
    /// The settings of the servers fit together, and fit the network.
    SettingsFit,
    /// `spec.paused`.
    Paused,
}

/// A condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionFact {
    /// Which.
    pub kind: ConditionKind,
    /// `True`, `False` or unknown.
    pub status: Option<bool>,
    /// One word, CamelCase.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// Judges what was seen.
pub fn verdict(wanted: &Wanted, inventory: &Inventory, plan: &Plan) -> Verdict {
    let survey = Survey::of(wanted, inventory);
    let instances = || inventory.nodes.iter().flat_map(|node| &node.instance);
    let quorum = quorum_fact(&survey);
    let operation = operation(&survey, plan);
    Verdict {
        cluster: survey.record.map(|record| record.cluster),
        servers: number(instances().count()),
        ready_servers: number(instances().filter(|instance| instance.ready).count()),
        leader: survey.leader.map(|leader| LeaderFact {
            node: leader.node.name.clone(),
            server: leader.id(),
            term: leader.view.term,
        }),
        machine: machine_fact(&survey),
        quorum,
        members: members(&survey),
        conditions: conditions(&survey, plan, quorum, operation.as_ref()),
        operation,
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn quorum_fact(survey: &Survey<'_>) -> QuorumFact {
    let mut halves = survey.halves();
    if halves.is_empty() {
        halves.extend(lost_half(survey));
    }
    let margin = |half: &Half| {
        let healthy = i32::try_from(half.healthy).unwrap_or(i32::MAX);
        healthy - i32::try_from(half.quorum).unwrap_or(i32::MAX)
    };
    QuorumFact {
        voters: halves.first().map_or(0, |half| half.voters),
        healthy_voters: halves.first().map_or(0, |half| half.healthy),
        margin: halves.iter().map(margin).min().unwrap_or(0),
    }
}

/// What the servers run, which is not what is wanted if it is another.
fn machine_fact(survey: &Survey<'_>) -> Option<MachineFact> {
    let said = survey.members().map(|seen| &seen.view.machine);
    let name = survey.leader.map(|leader| &leader.view.machine);
    let name = name.or(said.max())?;
    (!name.is_empty()).then(|| MachineFact {
        name: name.clone(),
        version: survey.machine_version(),
    })
}

fn members(survey: &Survey<'_>) -> Vec<Member> {
    let configuration = survey.configuration.clone().unwrap_or_default();
    let mut ids = configuration.servers();
    ids.extend(survey.fresh().iter().map(|seen| seen.id()));
    ids.into_iter()
        .map(|server| {
            let view = survey.seen.get(&server).map(|seen| seen.view);
            let voter = configuration.is_voter(server);
            Member {
                server,
                node: survey.home(server).cloned(),
                role: view.map(|view| view.role),
                voter,
                state: match survey.fate(server) {
                    Fate::Lost => MemberState::Lost,
                    Fate::Unknown => MemberState::Unknown,
                    Fate::Live if survey.is_quarantined(server) => MemberState::Quarantined,
                    Fate::Live if voter => MemberState::Active,
                    Fate::Live => MemberState::Joining,
                },
                version: view.map(|view| view.version.clone()),
                machine_versions: view.and_then(|view| view.machine_versions),
                quarantine: view.and_then(|view| view.quarantine.clone()),
            }
        })
        .collect()
}

/// What is being done, judged by what is seen and not by what is planned: so it lasts until it is
/// done.
fn operation(survey: &Survey<'_>, plan: &Plan) -> Option<Operation> {
    let replicas = survey.wanted.replicas;
    let desired = survey.inventory.servers_desired.unwrap_or(0);
    let voters = format!("{replicas} voters");
    let starts = match &survey.inventory.identity {
        Identity::Absent => Some(OperationKind::Bootstrap),
        Identity::Discarded { discarded, .. } => Some(start(discarded.lost)),
        Identity::Recorded { record, .. } if !record.initialized => Some(start(record.lost)),
        _ => None,
    };
    let (kind, target) = if let Some(kind) = starts {
        (kind, voters)
    } else if let Some(target) = repair_target(survey) {
        (OperationKind::Repair, target)
    } else {
        let configuration = survey.configuration.as_ref()?;
        let homes = || configuration.servers().into_iter();
        let above = homes()
            .filter_map(|server| survey.ordinal(server))
            .any(|ordinal| ordinal >= replicas);
        let joins = !configuration.learners.is_empty() || configuration.is_joint();
        if above || desired > replicas {
            (OperationKind::ScaleDown, voters)
        } else if joins || number(configuration.voters.len()) < replicas || desired < replicas {
            (OperationKind::ScaleUp, voters)
        } else {
            return None;
        }
    };
    let blocked = plan.blocked.first();
    Some(Operation {
        kind,
        target,
        blocked: blocked.map(|blocked| blocked.refusal.to_string()),
    })
}

fn start(lost: Option<ClusterId>) -> OperationKind {
    match lost {
        Some(_) => OperationKind::StartEmpty,
        None => OperationKind::Bootstrap,
    }
}

/// What has to be repaired, for people.
fn repair_target(survey: &Survey<'_>) -> Option<String> {
    if lost_half(survey).is_some() {
        return Some("a quorum".to_owned());
    }
    let replicas = survey.wanted.replicas;
    let lost = survey.configuration.iter().flat_map(|configuration| {
        let voters = configuration.voters.iter().copied();
        voters.filter(|voter| survey.fate(*voter) == Fate::Lost)
    });
    let mut lost = lost.filter(|voter| survey.ordinal(*voter).is_none_or(|at| at < replicas));
    if let Some(voter) = lost.next() {
        let home = survey.home(voter).cloned().unwrap_or_default();
        return Some(format!("voter {voter} of {home}"));
    }
    let is_led = survey.leader.is_some();
    (survey.is_initialized() && !is_led).then(|| "a leader".to_owned())
}

impl OperationKind {
    /// One word, for a condition's reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Bootstrap => "Bootstrap",
            Self::Repair => "Repair",
            Self::ScaleUp => "ScaleUp",
            Self::ScaleDown => "ScaleDown",
            Self::StartEmpty => "StartEmpty",
        }
    }
}
