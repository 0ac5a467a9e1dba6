//! Saying what is: the status of a `RaftCluster` from the planner's verdict.
//!
//! The same status comes out of the same facts: times change only with what they date, so that an
//! unchanged cluster costs no write.

pub mod steps;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kontiki_api::{
    LeaderStatus, MachineStatus, MachineVersions, MemberRole, MemberState, MemberStatus, Names,
    OperationKind, OperationStatus, QuorumStatus, RaftClusterStatus, conditions,
};
use kontiki_plan::{ConditionFact, ConditionKind, Member, Operation, Role, Verdict, verdict};

use crate::inventory::{Location, Scene};

/// Servers named in a status; the field's bound is that of the resource, this is beyond it.
const MEMBERS_MAX: usize = 32;

/// What a status is made of beside the verdict.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Names of the cluster's objects.
    pub names: &'a Names,
    /// Generation of the spec that was looked at.
    pub generation: Option<i64>,
    /// Where nodes are.
    pub scene: &'a Scene,
    /// How many steps failed in this pass.
    pub failed: usize,
    /// Now.
    pub now: Timestamp,
}

/// The status that says `verdict`, keeping from `before` what has not changed since.
pub fn status(
    verdict: &Verdict,
    facts: Facts<'_>,
    before: Option<&RaftClusterStatus>,
) -> RaftClusterStatus {
    let operation_before = before.and_then(|before| before.operation.as_ref());
    let conditions_before = before.map_or(&[][..], |before| &before.conditions);
    let members = verdict.members.iter().take(MEMBERS_MAX);
    RaftClusterStatus {
        observed_generation: facts.generation,
        cluster_id: verdict.cluster.map(|cluster| cluster.to_string()),
        replicas: Some(count(verdict.servers)),
        ready_replicas: Some(count(verdict.ready_servers)),
        selector: Some(facts.names.selector_string()),
        leader: verdict.leader.as_ref().map(|leader| LeaderStatus {
            pod: leader.node.clone(),
            server_id: leader.server.to_string(),
            term: i64::try_from(leader.term).unwrap_or(i64::MAX),
        }),
        machine: verdict.machine.as_ref().map(|machine| MachineStatus {
            name: machine.name.clone(),
            version: machine.version.map(i64::from),
        }),
        quorum: Some(QuorumStatus {
            voters: count(verdict.quorum.voters),
            healthy_voters: count(verdict.quorum.healthy_voters),
            margin: verdict.quorum.margin,
        }),
        members: members
            .map(|member| member_status(member, facts.scene))
            .collect(),
        operation: verdict
            .operation
            .as_ref()
            .map(|operation| operation_status(operation, facts, operation_before)),
        conditions: verdict
            .conditions
            .iter()
            .map(|fact| condition(fact, facts, conditions_before))
            .collect(),
    }
}

fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn member_status(member: &Member, scene: &Scene) -> MemberStatus {
    let place = scene
        .nodes
        .iter()
        .find(|place| Some(&place.name) == member.node.as_ref());
    let Location {
        kubernetes_node,
        zone,
    } = place
        .map(|place| place.location.clone())
        .unwrap_or_default();
    MemberStatus {
        server_id: member.server.to_string(),
        pod: member.node.clone(),
        kubernetes_node,
        zone,
        role: member.role.map(|role| match role {
            Role::Joiner => MemberRole::Joiner,
            Role::Learner => MemberRole::Learner,
            Role::Follower => MemberRole::Follower,
            Role::PreCandidate | Role::Candidate => MemberRole::Candidate,
            Role::Leader => MemberRole::Leader,
        }),
        voter: member.voter,
        state: match member.state {
            verdict::MemberState::Active => MemberState::Active,
            verdict::MemberState::Lost => MemberState::Lost,
            verdict::MemberState::Joining => MemberState::Joining,
            verdict::MemberState::Unknown => MemberState::Unknown,
            verdict::MemberState::Quarantined => MemberState::Quarantined,
        },
        version: member.version.clone(),
        // Of a member that does not answer the pod may be another's by now.
        image: member
            .role
            .and(place)
            .and_then(|place| place.tenant.as_ref()?.image.clone()),
        machine_versions: member.machine_versions.map(|versions| MachineVersions {
            min: i64::from(versions.min),
            max: i64::from(versions.max),
        }),
        quarantine: member.quarantine.clone(),
    }
}

fn operation_status(
    operation: &Operation,
    facts: Facts<'_>,
    before: Option<&OperationStatus>,
) -> OperationStatus {
    let kind = match operation.kind {
        verdict::OperationKind::Bootstrap => OperationKind::Bootstrap,
        verdict::OperationKind::Repair => OperationKind::Repair,
        verdict::OperationKind::ScaleUp => OperationKind::ScaleUp,
        verdict::OperationKind::ScaleDown => OperationKind::ScaleDown,
        verdict::OperationKind::StartEmpty => OperationKind::StartEmpty,
    };
    let same = before.filter(|before| before.kind == kind && before.target == operation.target);
    let failed = i32::try_from(facts.failed).unwrap_or(i32::MAX);
    OperationStatus {
        kind,
        target: operation.target.clone(),
        start_time: same.map_or_else(|| whole_seconds(facts.now), |same| same.start_time.clone()),
        attempts: same.map_or(0, |same| same.attempts).saturating_add(failed),
        blocked: operation.blocked.clone(),
    }
}

fn condition(fact: &ConditionFact, facts: Facts<'_>, before: &[Condition]) -> Condition {
    let type_ = condition_type(fact.kind);
    let status = condition_value(fact.status);
    let same = before
        .iter()
        .find(|before| before.type_ == type_ && before.status == status);
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: fact.reason.to_owned(),
        message: fact.message.clone(),
        observed_generation: facts.generation,
        last_transition_time: same.map_or_else(
            || whole_seconds(facts.now),
            |same| same.last_transition_time.clone(),
        ),
    }
}

fn condition_value(status: Option<bool>) -> &'static str {
    match status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    }
}

fn condition_type(kind: ConditionKind) -> &'static str {
    match kind {
        ConditionKind::Ready => conditions::READY,
        ConditionKind::Available => conditions::AVAILABLE,
        ConditionKind::Progressing => conditions::PROGRESSING,
        ConditionKind::Degraded => conditions::DEGRADED,
        ConditionKind::Initialized => conditions::INITIALIZED,
        ConditionKind::ClusterIdConsistent => conditions::CLUSTER_ID_CONSISTENT,
        ConditionKind::QuorumAtRisk => conditions::QUORUM_AT_RISK,
        ConditionKind::SettingsFit => conditions::SETTINGS_FIT,
        ConditionKind::Paused => conditions::PAUSED,
    }
}

/// Times in a status have no fraction of a second: the API server drops it, and a status that comes
/// back different would be written for ever.
fn whole_seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// The conditions of `after` whose value or reason is another than in `before`.
pub fn changed_conditions<'a>(
    before: Option<&RaftClusterStatus>,
    after: &'a RaftClusterStatus,
) -> Vec<&'a Condition> {
    let before = before.map_or(&[][..], |before| &before.conditions);
    let is_new = |condition: &&Condition| {
        !before.iter().any(|old| {
            old.type_ == condition.type_
                && old.status == condition.status
                && old.reason == condition.reason
        })
    };
    after.conditions.iter().filter(is_new).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kontiki_plan::{
        ClusterId, Identity, LeaderFact, MachineFact, QuorumFact, ServerId, Versions,
    };

    use serde_json::json;

    use super::*;
    use crate::inventory::{Place, Tenant};

    fn scene() -> Scene {
        Scene {
            identity: Identity::Absent,
            identity_copies: Vec::new(),
            servers_desired: Some(1),
            drift: Vec::new(),
            nodes: vec![Place {
                ordinal: 0,
                name: "demo-0".to_owned(),
                tenant: Some(Tenant {
                    uid: "7".to_owned(),
                    going: false,
                    revision: "r".to_owned(),
                    image: Some("bank:1".to_owned()),
                    trouble: None,
                    peer_address: String::new(),
                    client_address: String::new(),
                    ready: Some(true),
                }),
                location: Location {
                    kubernetes_node: Some("machine-1".to_owned()),
                    zone: Some("north".to_owned()),
                },
            }],
            waited_for_servers: Duration::ZERO,
            revision: None,
        }
    }

    fn judged(ready: bool) -> Verdict {
        Verdict {
            cluster: Some(ClusterId(0xcc)),
            servers: 1,
            ready_servers: u32::from(ready),
            leader: Some(LeaderFact {
                node: "demo-0".to_owned(),
                server: ServerId(0xa1),
                term: 2,
            }),
            machine: Some(MachineFact {
                name: "bank".to_owned(),
                version: Some(1),
            }),
            quorum: QuorumFact {
                voters: 1,
                healthy_voters: 1,
                margin: 0,
            },
            members: vec![Member {
                server: ServerId(0xa1),
                node: Some("demo-0".to_owned()),
                role: Some(Role::Leader),
                voter: true,
                state: verdict::MemberState::Active,
                version: Some("0.1.0".to_owned()),
                machine_versions: Some(Versions { min: 1, max: 2 }),
                quarantine: None,
            }],
            operation: (!ready).then(|| Operation {
                kind: verdict::OperationKind::ScaleUp,
                target: "3 servers".to_owned(),
                blocked: None,
            }),
            conditions: vec![ConditionFact {
                kind: ConditionKind::Ready,
                status: Some(ready),
                reason: if ready { "AsWanted" } else { "Scaling" },
                message: String::new(),
            }],
        }
    }

    fn at(
        second: i64,
        failed: usize,
        ready: bool,
        before: Option<&RaftClusterStatus>,
    ) -> RaftClusterStatus {
        let (names, scene) = (Names::new("demo"), scene());
        let now = Timestamp::new(second, 500_000_000).unwrap();
        let facts = Facts {
            names: &names,
            generation: Some(4),
            scene: &scene,
            failed,
            now,
        };
        status(&judged(ready), facts, before)
    }

    #[test]
    fn the_same_facts_make_the_same_status_however_late() {
        let first = at(1000, 0, false, None);
        assert_eq!(at(2000, 0, false, Some(&first)), first);
        let text = serde_json::to_string(&first).unwrap();
        assert_eq!(
            serde_json::from_str::<RaftClusterStatus>(&text).unwrap(),
            first
        );
    }

    #[test]
    fn a_transition_is_dated_and_told_once() {
        let first = at(1000, 0, false, None);
        assert_eq!(changed_conditions(None, &first).len(), 1);
        let second = at(2000, 0, true, Some(&first));
        assert_eq!(
            second.conditions[0].last_transition_time.0.as_second(),
            2000
        );
        assert_eq!(
            changed_conditions(Some(&first), &second)[0].reason,
            "AsWanted"
        );
        let third = at(3000, 0, true, Some(&second));
        assert_eq!(third.conditions[0].last_transition_time.0.as_second(), 2000);
        assert!(changed_conditions(Some(&second), &third).is_empty());
    }

    #[test]
    fn failures_of_one_operation_are_counted() {
        let first = at(1000, 1, false, None);
        let second = at(1001, 2, false, Some(&first));
        let operation = second.operation.unwrap();
        assert_eq!(
            (operation.attempts, operation.start_time.0.as_second()),
            (3, 1000)
        );
    }

    #[test]
    fn a_member_says_where_it_runs() {
        let status = at(1000, 0, true, None);
        assert_eq!(
            status.members[0].kubernetes_node.as_deref(),
            Some("machine-1")
        );
        assert_eq!(status.members[0].zone.as_deref(), Some("north"));
    }

    #[test]
    fn a_member_says_what_it_runs_and_why_it_stopped_as_long_as_it_answers() {
        let mut verdict = judged(false);
        verdict.members[0].state = verdict::MemberState::Quarantined;
        verdict.members[0].quarantine = Some("apply panicked".to_owned());
        let (names, scene) = (Names::new("demo"), scene());
        let facts = Facts {
            names: &names,
            generation: None,
            scene: &scene,
            failed: 0,
            now: Timestamp::from_second(1000).unwrap(),
        };
        let said = serde_json::to_value(status(&verdict, facts, None)).unwrap();
        assert_eq!(said["machine"], json!({"name": "bank", "version": 1}));
        let member = &said["members"][0];
        assert_eq!(member["image"], "bank:1");
        assert_eq!(member["machineVersions"], json!({"min": 1, "max": 2}));
        assert_eq!(
            (&member["state"], &member["quarantine"]),
            (&json!("Quarantined"), &json!("apply panicked"))
        );
        // The pod that has its name now is not its own.
        verdict.members[0].role = None;
        assert_eq!(status(&verdict, facts, None).members[0].image, None);
    }
}
