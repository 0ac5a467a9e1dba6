//! The conditions: what each says, and why.

use crate::ids::ServerId;
use crate::inventory::Observation;
use crate::plan::{Plan, PlannedStep};
use crate::refusal::Refusal;
use crate::rules::identity::check;
use crate::rules::quorum_lost::lost_half;
use crate::step::Step;
use crate::survey::{Fate, Survey};
use crate::verdict::{ConditionFact, ConditionKind, Operation, QuorumFact};

/// Status, reason and message of a condition.
type Finding = (Option<bool>, &'static str, String);

/// All conditions, in the order in which they are reported.
pub(crate) fn conditions(
    survey: &Survey<'_>,
    plan: &Plan,
    quorum: QuorumFact,
    operation: Option<&Operation>,
) -> Vec<ConditionFact> {
    let available = available(survey);
    let degraded = degraded(survey);
    let progressing = progressing(survey, plan, operation);
    let consistent = consistent(survey);
    let ready = ready(survey, &available, &degraded, &consistent, operation);
    [
        (ConditionKind::Ready, ready),
        (ConditionKind::Available, available),
        (ConditionKind::Progressing, progressing),
        (ConditionKind::Degraded, degraded),
        (ConditionKind::Initialized, initialized(survey)),
        (ConditionKind::ClusterIdConsistent, consistent),
        (ConditionKind::QuorumAtRisk, at_risk(survey, quorum)),
        (ConditionKind::SettingsFit, settings_fit(survey)),
        (ConditionKind::Paused, paused(survey)),
    ]
    .into_iter()
    .map(|(kind, (status, reason, message))| ConditionFact {
        kind,
        status,
        reason,
        message,
    })
    .collect()
}

fn ready(
    survey: &Survey<'_>,
    available: &Finding,
    degraded: &Finding,
    consistent: &Finding,
    operation: Option<&Operation>,
) -> Finding {
    if available.0 != Some(true) {
        return (Some(false), available.1, available.2.clone());
    }
    if consistent.0 != Some(true) {
        return (Some(false), consistent.1, consistent.2.clone());
    }
    if degraded.0 == Some(true) {
        return (Some(false), degraded.1, degraded.2.clone());
    }
    if let Some(operation) = operation {
        let message = operation
            .blocked
            .clone()
            .unwrap_or_else(|| format!("on the way to {}", operation.target));
        return (Some(false), operation.kind.reason(), message);
    }
    let configuration = survey.configuration.clone().unwrap_or_default();
    let is_ready = |id: &&ServerId| {
        let seen = survey.seen.get(id);
        seen.is_some_and(|seen| seen.view.ready && seen.instance.ready)
    };
    let ready = configuration.voters.iter().filter(is_ready).count();
    let voters = configuration.voters.len();
    if ready < voters {
        let message = format!("{ready} of {voters} voters are ready");
        return (Some(false), "ServersNotReady", message);
    }
    let mut message = format!("{voters} voters are ready");
    match outdated(survey) {
        0 => {}
        1 => message += ", 1 pod is of an older template and keeps it until it is deleted",
        n => message += &format!(", {n} pods are of an older template and keep it until deleted"),
    }
    (Some(true), "AsDesired", message)
}

/// Instances that were made from another template than one that is made now.
fn outdated(survey: &Survey<'_>) -> usize {
    let current = survey.inventory.revision.as_deref();
    let nodes = survey.inventory.nodes.iter();
    let revisions = nodes.filter_map(|node| Some(node.instance.as_ref()?.revision.as_str()));
    revisions
        .filter(|revision| current.is_some_and(|current| current != *revision))
        .count()
}

fn available(survey: &Survey<'_>) -> Finding {
    if let Some(half) = lost_half(survey) {
        let refusal = Refusal::QuorumLost {
            live: half.voters - half.lost,
            voters: half.voters,
            quorum: half.quorum,
        };
        return (Some(false), "QuorumLost", refusal.to_string());
    }
    if let Some(leader) = survey.leader {
        let (node, term) = (&leader.node.name, leader.view.term);
        return if !leader.view.serving {
            let message = format!("{node} leads in term {term}, but does not hear a quorum");
            (Some(false), "LeaderWithoutQuorum", message)
        } else if !leader.view.activated {
            let message = format!("{node} leads in term {term}, not activated yet");
            (Some(false), "NotActivated", message)
        } else {
            (
                Some(true),
                "LeaderServes",
                format!("{node} leads in term {term}"),
            )
        };
    }
    if !survey.is_initialized() {
        let message = "the cluster is not bootstrapped yet".to_owned();
        return (Some(false), "NotInitialized", message);
    }
    let mut followed = survey.members().filter_map(|seen| seen.view.leader);
    if let Some(leader) = followed.find(|leader| survey.fate(*leader) == Fate::Unknown) {
        let message = format!("leader {leader} is followed, but does not answer the operator");
        return (None, "LeaderUnknown", message);
    }
    match survey.half_without_quorum() {
        Some(half) => {
            let refusal = Refusal::NoQuorumAnswers {
                answering: half.live,
                voters: half.voters,
                quorum: half.quorum,
            };
            (None, "NoQuorumAnswers", refusal.to_string())
        }
        None => (Some(false), "NoLeader", "nobody leads".to_owned()),
    }
}

fn progressing(survey: &Survey<'_>, plan: &Plan, operation: Option<&Operation>) -> Finding {
    if survey.wanted.paused {
        return (Some(false), "Paused", "spec.paused".to_owned());
    }
    match operation {
        Some(operation) if !gets_ahead(plan) && is_stuck(plan) => {
            let message = operation.blocked.clone().unwrap_or_default();
            (Some(false), "Blocked", message)
        }
        Some(operation) => {
            let message = format!("on the way to {}", operation.target);
            (Some(true), operation.kind.reason(), message)
        }
        None => (Some(false), "AsDesired", "nothing to do".to_owned()),
    }
}

/// Whether anything is done for what is wanted; that survivors stop is not.
fn gets_ahead(plan: &Plan) -> bool {
    let stops = |planned: &PlannedStep| matches!(planned.step, Step::Quarantine { .. });
    !plan.steps.iter().all(stops)
}

/// Whether something is refused that does not come by itself.
fn is_stuck(plan: &Plan) -> bool {
    plan.blocked.iter().any(|blocked| {
        matches!(
            blocked.refusal,
            Refusal::IdentityUnreadable { .. }
                | Refusal::IdentityDisagrees { .. }
                | Refusal::QuorumLost { .. }
                | Refusal::BelowMinMajority { .. }
                | Refusal::UnsupportedMachineVersion { .. }
                | Refusal::NoCommonMachineVersion { .. }
                | Refusal::WrongMachine { .. }
                | Refusal::ServerQuarantined { .. }
                | Refusal::NobodyMayLead { .. }
        )
    })
}

/// Every finding is told; the first that there is gives the reason.
fn degraded(survey: &Survey<'_>) -> Finding {
    let quorum_lost = lost_half(survey).map(|_| "more voters are lost than a quorum allows".into());
    let misfits = survey.misfits();
    let refused = |which: fn(&Refusal) -> bool, advice: &str| {
        let texts = misfits.iter().filter(|refusal| which(refusal));
        let texts: Vec<String> = texts.map(Refusal::to_string).collect();
        (!texts.is_empty()).then(|| format!("{}: {advice}", texts.join(", ")))
    };
    let findings: [(&'static str, Option<String>); 7] = [
        ("QuorumLost", quorum_lost),
        ("ServerQuarantined", quarantined(survey)),
        (
            "UnsupportedMachineVersion",
            refused(
                |refusal| {
                    matches!(
                        refusal,
                        Refusal::UnsupportedMachineVersion { .. }
                            | Refusal::NoCommonMachineVersion { .. }
                    )
                },
                "set spec.image to one whose machine supports what is in force, and delete the pod",
            ),
        ),
        (
            "WrongMachine",
            refused(
                |refusal| matches!(refusal, Refusal::WrongMachine { .. }),
                "set spec.image to one with that machine, and delete the pod",
            ),
        ),
        ("ServersLost", with_fate(survey, Fate::Lost, "lost:")),
        (
            "ServersUnknown",
            with_fate(survey, Fate::Unknown, "no answer from"),
        ),
        ("ServersUnknown", not_starting(survey)),
    ];
    let mut found = findings
        .into_iter()
        .filter_map(|(reason, message)| Some((reason, message?)));
    let Some((reason, first)) = found.next() else {
        return (Some(false), "AllAnswer", "every server answers".to_owned());
    };
    let messages: Vec<String> = std::iter::once(first)
        .chain(found.map(|(_, message)| message))
        .collect();
    (Some(true), reason, messages.join("; "))
}

/// Servers that have stopped, with what a person can do: only a person knows whether their memory
/// is still wanted.
fn quarantined(survey: &Survey<'_>) -> Option<String> {
    let stopped = survey.seen.values().filter_map(|seen| {
        let reason = seen.view.quarantine.as_ref()?;
        Some(format!("{} ({}): {reason}", seen.node.name, seen.id()))
    });
    let stopped: Vec<String> = stopped.collect();
    let advice = match survey.half_without_healthy_quorum() {
        None => {
            "read the log of the pod, and delete it once its memory is not wanted any more: a \
             fresh server takes its place"
        }
        Some(_) => {
            "read the log of the pod, and do not delete it yet: too few healthy voters are left \
             to do without what it holds"
        }
    };
    (!stopped.is_empty()).then(|| format!("quarantined: {}; {advice}", stopped.join(", ")))
}

/// Nodes that the world cannot start, whether a member is at home there or not.
fn not_starting(survey: &Survey<'_>) -> Option<String> {
    let nodes = survey.inventory.nodes.iter().filter_map(|node| {
        let instance = node.instance.as_ref()?;
        let trouble = instance.trouble.as_ref()?;
        let is_silent = matches!(instance.observation, Observation::Unknown { .. });
        is_silent.then(|| format!("{} does not start: {trouble}", node.name))
    });
    let nodes: Vec<String> = nodes.collect();
    (!nodes.is_empty()).then(|| nodes.join("; "))
}

/// Members of one fate.
fn with_fate(survey: &Survey<'_>, fate: Fate, label: &str) -> Option<String> {
    let configuration = survey.configuration.clone().unwrap_or_default();
    let servers: Vec<String> = configuration
        .servers()
        .into_iter()
        .filter(|server| survey.fate(*server) == fate)
        .map(|server| {
            let home = survey.home(server);
            let home = home.map_or("an unknown node", String::as_str);
            format!("{server} of {home}")
        })
        .collect();
    (!servers.is_empty()).then(|| format!("{label} {}", servers.join(", ")))
}

fn initialized(survey: &Survey<'_>) -> Finding {
    match survey.record {
        Some(record) if record.initialized => match record.lost {
            Some(lost) => {
                let message = format!("started empty: the data of cluster {lost} was lost");
                (Some(true), "StartedEmpty", message)
            }
            None => (
                Some(true),
                "Bootstrapped",
                format!("cluster {}", record.cluster),
            ),
        },
        Some(record) => {
            let message = format!("cluster {} is recorded", record.cluster);
            (Some(false), "Bootstrapping", message)
        }
        None => (
            Some(false),
            "NotRecorded",
            "no identity is drawn yet".to_owned(),
        ),
    }
}

fn consistent(survey: &Survey<'_>) -> Finding {
    match (check(survey), survey.record) {
        (Err(refusal @ Refusal::IdentityDisagrees { .. }), _) => {
            (Some(false), "ClusterIdMismatch", refusal.to_string())
        }
        (Err(refusal), _) => (None, "IdentityUnreadable", refusal.to_string()),
        (Ok(()), Some(record)) => {
            let message = format!("every place names cluster {}", record.cluster);
            (Some(true), "Consistent", message)
        }
        (Ok(()), None) => (None, "NotRecorded", "no identity is drawn yet".to_owned()),
    }
}

fn at_risk(survey: &Survey<'_>, quorum: QuorumFact) -> Finding {
    if quorum.voters == 0 {
        return (None, "NoConfiguration", "no voters are known".to_owned());
    }
    let voters = usize::try_from(quorum.voters).unwrap_or(usize::MAX);
    let tolerance = quorum.voters.saturating_sub(survey.quorum(voters));
    let margin = quorum.margin;
    let message = format!(
        "{} of {} voters are healthy, margin {margin}",
        quorum.healthy_voters, quorum.voters
    );
    if margin < 0 {
        (Some(true), "NoQuorum", message)
    } else if margin == 0 && tolerance > 0 {
        (Some(true), "NoMargin", message)
    } else {
        (Some(false), "Enough", message)
    }
}

/// What the leader says, which compares the settings of all members.
fn settings_fit(survey: &Survey<'_>) -> Finding {
    let Some(leader) = survey.leader else {
        let message = "nobody leads, who would compare the settings".to_owned();
        return (None, "NoLeader", message);
    };
    let warnings = &leader.view.settings_warnings;
    let reason = match warnings.first().map(|warning| warning.reason.as_str()) {
        None => {
            let message = "the settings of the servers fit together".to_owned();
            return (Some(true), "Fit", message);
        }
        Some("SLOW_HEARTBEAT") => "SlowHeartbeat",
        Some("SLOW_ROUND_TRIP") => "SlowRoundTrip",
        Some("NO_LEASE") => "NoLease",
        Some("MIN_MAJORITY") => "MinMajority",
        Some("ELECTION_PRIORITY") => "ElectionPriority",
        Some("ELECTION_TIMEOUTS") => "ElectionTimeouts",
        Some("LEASE_READS") => "LeaseReads",
        Some("UNCOMMITTED_BYTES") => "UncommittedBytes",
        Some("COMMAND_BYTES") => "CommandBytes",
        Some("STATE_LIMITS") => "StateLimits",
        Some("SNAPSHOT_BYTES") => "SnapshotBytes",
        // Of a newer server.
        Some(_) => "SettingsDoNotFit",
    };
    let messages = warnings.iter().map(|warning| warning.message.as_str());
    let messages: Vec<&str> = messages.collect();
    (Some(false), reason, messages.join("; "))
}

fn paused(survey: &Survey<'_>) -> Finding {
    if survey.wanted.paused {
        (Some(true), "Paused", "spec.paused".to_owned())
    } else {
        (Some(false), "NotPaused", "the operator acts".to_owned())
    }
}
