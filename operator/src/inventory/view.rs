//! From what a server said on the wire to what the planner reads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kontiki_plan::{
    Configuration, LogId, Progress, Purpose, Role, Server, ServerId, ServerView, SettingsWarning,
    Versions,
};
use kontiki_proto::v1;

/// Bytes of the reason of a quarantine that are kept: a panic may say a lot, a status has room for
/// little.
const QUARANTINE_MAX: usize = 256;
/// Warnings about settings that are kept, and bytes of each. A server says each reason once.
const WARNINGS_MAX: usize = 16;
const WARNING_BYTES_MAX: usize = 512;

/// An answer that makes no sense; it is treated as no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its status has {value:?} for {field}")]
pub struct Nonsense {
    /// Which field.
    pub field: &'static str,
    /// What it says.
    pub value: String,
}

fn nonsense(field: &'static str, value: impl ToString) -> Nonsense {
    Nonsense {
        field,
        value: value.to_string(),
    }
}

/// Reads a status.
///
/// # Errors
/// An id that is none, or a missing field.
pub fn view(status: &v1::StatusResponse) -> Result<ServerView, Nonsense> {
    let own = status
        .server
        .as_ref()
        .ok_or_else(|| nonsense("server", "nothing"))?;
    let cluster = match status.cluster_id.as_str() {
        "" => None,
        id => Some(id.parse().map_err(|_| nonsense("cluster_id", id))?),
    };
    let leader = match &status.leader {
        None => None,
        Some(leader) if leader.server_id.is_empty() => None,
        Some(leader) => Some(server_id("leader", &leader.server_id)?),
    };
    Ok(ServerView {
        server: server_id("server", &own.server_id)?,
        cluster,
        role: role(status.role)?,
        term: status.term,
        leader,
        last: LogId {
            term: status.last_term,
            index: status.last_index,
        },
        commit: status.commit_index,
        applied: status.applied_index,
        configuration: configuration(status.configuration.as_ref())?,
        activated: status.activated,
        ready: status.ready,
        serving: status.serving,
        term_committed: status.term_committed,
        transferring: status.transferring,
        progress: progress(&status.progress)?,
        servers: status
            .servers
            .iter()
            .map(server)
            .collect::<Result<_, _>>()?,
        version: status.version.clone(),
        machine: status.machine.clone(),
        machine_version: Some(status.machine_version).filter(|version| *version > 0),
        machine_versions: machine_versions(status)?,
        quarantine: Some(one_line(&status.quarantine, QUARANTINE_MAX))
            .filter(|reason| !reason.is_empty()),
        settings_warnings: settings_warnings(&status.settings_warnings),
    })
}

fn machine_versions(status: &v1::StatusResponse) -> Result<Option<Versions>, Nonsense> {
    let (min, max) = (status.machine_versions_min, status.machine_versions_max);
    match (min, max) {
        (_, 0) => Ok(None),
        _ if min > max => Err(nonsense("machine_versions", format!("{min} to {max}"))),
        _ => Ok(Some(Versions { min, max })),
    }
}

fn settings_warnings(said: &[v1::SettingsWarning]) -> Vec<SettingsWarning> {
    let kept = said.iter().take(WARNINGS_MAX);
    let kept = kept.map(|warning| SettingsWarning {
        reason: one_line(&warning.reason, WARNING_BYTES_MAX),
        message: one_line(&warning.message, WARNING_BYTES_MAX),
    });
    kept.collect()
}

/// In one line, of bounded length.
fn one_line(said: &str, bytes_max: usize) -> String {
    let mut text = said.split_whitespace().collect::<Vec<_>>().join(" ");
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

fn server_id(field: &'static str, id: &str) -> Result<ServerId, Nonsense> {
    id.parse().map_err(|_| nonsense(field, id))
}

fn server_ids(field: &'static str, ids: &[String]) -> Result<BTreeSet<ServerId>, Nonsense> {
    ids.iter().map(|id| server_id(field, id)).collect()
}

fn role(role: i32) -> Result<Role, Nonsense> {
    Ok(match v1::Role::try_from(role) {
        Ok(v1::Role::Joiner) => Role::Joiner,
        Ok(v1::Role::Learner) => Role::Learner,
        Ok(v1::Role::Follower) => Role::Follower,
        Ok(v1::Role::PreCandidate) => Role::PreCandidate,
        Ok(v1::Role::Candidate) => Role::Candidate,
        Ok(v1::Role::Leader) => Role::Leader,
        Ok(v1::Role::Unspecified) | Err(_) => return Err(nonsense("role", role)),
    })
}

fn configuration(said: Option<&v1::Configuration>) -> Result<Configuration, Nonsense> {
    let Some(said) = said else {
        return Ok(Configuration::default());
    };
    let outgoing = server_ids("outgoing", &said.outgoing)?;
    let mut learners = BTreeMap::new();
    for learner in &said.learners {
        let purpose = match learner.purpose.as_str() {
            "stay" => Purpose::Stay,
            "join" => Purpose::Join,
            "replace" => Purpose::Replace(server_id("replaces", &learner.replaces)?),
            other => return Err(nonsense("purpose", other)),
        };
        learners.insert(server_id("learners", &learner.server_id)?, purpose);
    }
    Ok(Configuration {
        index: said.index,
        committed: said.committed,
        voters: server_ids("voters", &said.voters)?,
        outgoing: (!outgoing.is_empty()).then_some(outgoing),
        learners,
    })
}

fn progress(said: &[v1::Progress]) -> Result<BTreeMap<ServerId, Progress>, Nonsense> {
    let one = |said: &v1::Progress| {
        let progress = Progress {
            matched: said.matched,
            heard_ago: said
                .heard
                .then(|| Duration::from_millis(said.last_heard_ms)),
            reachable: said.reachable,
            stalled: said.stalled,
        };
        Ok((server_id("progress", &said.server_id)?, progress))
    };
    said.iter().map(one).collect()
}

fn server(said: &v1::Server) -> Result<Server, Nonsense> {
    Ok(Server {
        id: server_id("servers", &said.server_id)?,
        node: said.node.clone(),
        peer_address: said.peer_address.clone(),
        client_address: said.client_address.clone(),
    })
}

/// The other way, for requests.
pub fn wire(server: &Server) -> v1::Server {
    v1::Server {
        server_id: server.id.to_string(),
        node: server.node.clone(),
        peer_address: server.peer_address.clone(),
        client_address: server.client_address.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> v1::StatusResponse {
        v1::StatusResponse {
            server: Some(v1::Server {
                server_id: "00000000000000a1".into(),
                ..Default::default()
            }),
            role: v1::Role::Joiner.into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_fresh_server_has_neither_cluster_nor_leader() {
        let view = view(&status()).unwrap();
        assert_eq!(view.server, ServerId(0xa1));
        assert_eq!(
            (view.cluster, view.leader, view.role),
            (None, None, Role::Joiner)
        );
        assert_eq!(view.configuration, Configuration::default());
    }

    #[test]
    fn a_joint_configuration_keeps_both_halves_and_the_purposes() {
        let learner = |id: &str, purpose: &str, replaces: &str| v1::Learner {
            server_id: id.into(),
            purpose: purpose.into(),
            replaces: replaces.into(),
        };
        let said = v1::StatusResponse {
            cluster_id: "00000000000000cc".into(),
            role: v1::Role::Leader.into(),
            configuration: Some(v1::Configuration {
                index: 7,
                committed: true,
                voters: vec!["a1".into(), "a2".into()],
                outgoing: vec!["a1".into()],
                learners: vec![learner("a3", "join", ""), learner("a4", "replace", "a2")],
            }),
            progress: vec![v1::Progress {
                server_id: "a2".into(),
                last_heard_ms: 40,
                heard: true,
                ..Default::default()
            }],
            ..status()
        };
        let view = view(&said).unwrap();
        let configuration = view.configuration;
        assert_eq!(
            configuration.voters,
            BTreeSet::from([ServerId(0xa1), ServerId(0xa2)])
        );
        assert_eq!(
            configuration.outgoing,
            Some(BTreeSet::from([ServerId(0xa1)]))
        );
        assert_eq!(configuration.learners[&ServerId(0xa3)], Purpose::Join);
        assert_eq!(
            configuration.learners[&ServerId(0xa4)],
            Purpose::Replace(ServerId(0xa2))
        );
        assert_eq!(
            view.progress[&ServerId(0xa2)].heard_ago,
            Some(Duration::from_millis(40))
        );
    }

    #[test]
    fn what_a_server_does_not_say_of_its_machine_is_not_known() {
        let silent = view(&status()).unwrap();
        let machine = (silent.machine_version, silent.machine_versions);
        assert_eq!((machine, silent.quarantine), ((None, None), None));
        let said = v1::StatusResponse {
            machine: "bank".into(),
            machine_version: 2,
            machine_versions_min: 1,
            machine_versions_max: 3,
            quarantine: format!("apply panicked:\n  {}", "é".repeat(QUARANTINE_MAX)),
            ..status()
        };
        let view = view(&said).unwrap();
        assert_eq!(
            (view.machine.as_str(), view.machine_version),
            ("bank", Some(2))
        );
        assert_eq!(view.machine_versions, Some(Versions { min: 1, max: 3 }));
        let reason = view.quarantine.unwrap();
        assert!(
            reason.starts_with("apply panicked: é") && reason.len() <= QUARANTINE_MAX,
            "{reason}"
        );
    }

    #[test]
    fn warnings_about_settings_are_taken_over_in_bounded_lines() {
        let warning = v1::SettingsWarning {
            reason: "LEASE_READS".into(),
            message: format!("demo-0\n  and {}", "x".repeat(2 * WARNING_BYTES_MAX)),
        };
        let said = v1::StatusResponse {
            settings_warnings: vec![warning; 2 * WARNINGS_MAX],
            ..status()
        };
        let kept = view(&said).unwrap().settings_warnings;
        assert_eq!(kept.len(), WARNINGS_MAX);
        assert_eq!(kept[0].reason, "LEASE_READS");
        assert!(kept[0].message.starts_with("demo-0 and xxx"));
        assert_eq!(kept[0].message.len(), WARNING_BYTES_MAX);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let cases = [
            (
                v1::StatusResponse {
                    machine_versions_min: 3,
                    machine_versions_max: 2,
                    ..status()
                },
                "machine_versions",
            ),
            (
                v1::StatusResponse {
                    server: None,
                    ..status()
                },
                "server",
            ),
            (
                v1::StatusResponse {
                    role: 17,
                    ..status()
                },
                "role",
            ),
            (
                v1::StatusResponse {
                    cluster_id: "demo".into(),
                    ..status()
                },
                "cluster_id",
            ),
        ];
        for (said, field) in cases {
            assert_eq!(view(&said).unwrap_err().field, field);
        }
    }
}
