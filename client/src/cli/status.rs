//! `kontiki status`: what every server says of itself, and what does not fit.

use serde_json::{Value, json};

use kontiki_client::proto::v1::{Settings, StateBytes, StatusResponse};
use kontiki_client::{Address, Admin};

use super::admin::{Statuses, configuration_value, own_id, role, server_value};
use super::failure::Failure;
use super::shown::{Shown, table};

pub async fn status(admin: &Admin) -> Result<Shown, Failure> {
    Ok(show_status(admin.status().await))
}

fn show_status(statuses: Statuses) -> Shown {
    let mut rows = Vec::new();
    let mut values = Vec::new();
    let mut answered = false;
    let mut warnings = warnings(&statuses);
    for (endpoint, status) in statuses {
        match status {
            Ok(status) => {
                answered = true;
                if !status.standstill.is_empty() {
                    warnings.push(format!("{endpoint}: {}", status.standstill));
                }
                rows.push(status_row(&endpoint, &status));
                values.push(status_value(&endpoint, &status));
            }
            Err(error) => {
                let mut row: [String; 9] = Default::default();
                row[0] = endpoint.to_string();
                row[8] = error.to_string();
                rows.push(row);
                values.push(json!({ "endpoint": endpoint.as_str(), "error": error.to_string() }));
            }
        }
    }
    let header = [
        "ENDPOINT", "SERVER", "NODE", "ROLE", "TERM", "COMMIT", "APPLIED", "READY", "ERROR",
    ];
    let mut text = table(header, rows);
    for warning in warnings {
        text.push_str(&format!("\nwarning: {warning}"));
    }
    let mut shown = Shown::new(json!({ "servers": values }), text);
    if !answered {
        shown.verdict = Some(Failure::Local {
            message: "none of --admin-endpoints answered; give peer ports (7401) that listen"
                .to_owned(),
        });
    }
    shown
}

/// What does not fit of the settings: what the leader says, which knows those of all members, or if none
/// answers what each server says of its own.
fn warnings(statuses: &Statuses) -> Vec<String> {
    let answered = || {
        statuses
            .iter()
            .filter_map(|(_, status)| status.as_ref().ok())
    };
    let serving = answered().filter(|status| status.serving);
    let leader = serving.max_by_key(|status| status.term);
    let of = |status: &StatusResponse| {
        let said = status.settings_warnings.iter();
        said.map(|warning| warning.message.clone())
            .collect::<Vec<_>>()
    };
    leader.map_or_else(|| answered().flat_map(of).collect(), of)
}

fn status_row(endpoint: &Address, status: &StatusResponse) -> [String; 9] {
    let node = status.server.as_ref().map_or("", |server| &server.node);
    [
        endpoint.to_string(),
        own_id(status).to_owned(),
        node.to_owned(),
        role(status).to_owned(),
        status.term.to_string(),
        status.commit_index.to_string(),
        status.applied_index.to_string(),
        if status.ready { "yes" } else { "no" }.to_owned(),
        String::new(),
    ]
}

pub(super) fn status_value(endpoint: &Address, status: &StatusResponse) -> Value {
    let progress: Vec<Value> = status
        .progress
        .iter()
        .map(|progress| {
            json!({
                "server_id": progress.server_id,
                "matched": progress.matched,
                "last_heard_ms": progress.heard.then_some(progress.last_heard_ms),
                "reachable": progress.reachable,
                "stalled": progress.stalled,
                "needs_snapshot": progress.needs_snapshot,
                "snapshot_index": progress.snapshot_index,
                "snapshot_bytes": progress.snapshot_bytes,
            })
        })
        .collect();
    let warnings = status.settings_warnings.iter();
    let warnings: Vec<Value> = warnings
        .map(|warning| json!({ "reason": warning.reason, "message": warning.message }))
        .collect();
    json!({
        "endpoint": endpoint.as_str(),
        "cluster_id": status.cluster_id,
        "server": server_value(&status.server.clone().unwrap_or_default()),
        "role": role(status),
        "term": status.term,
        "leader": status.leader.as_ref().map(server_value),
        "first_index": status.first_index,
        "last_index": status.last_index,
        "last_term": status.last_term,
        "commit_index": status.commit_index,
        "applied_index": status.applied_index,
        "configuration": status.configuration.as_ref().map(configuration_value),
        "progress": progress,
        "activated": status.activated,
        "ready": status.ready,
        "serving": status.serving,
        "transferring": status.transferring,
        "term_committed": status.term_committed,
        "min_majority": status.min_majority,
        "election_priority": status.election_priority,
        "machine": status.machine,
        "version": status.version,
        "receiving_snapshot_bytes": status.receiving_snapshot_bytes,
        "snapshot_refusal": status.snapshot_refusal,
        "standstill": status.standstill,
        "log_bytes": status.log_bytes,
        "state_bytes": status.state_bytes.as_ref().map(state_bytes_value),
        "state_bytes_max": status.state_bytes_max,
        "settings": status.settings.as_ref().map(settings_value),
        "settings_warnings": warnings,
        "round_trip_microseconds":
            (status.round_trip_microseconds > 0).then_some(status.round_trip_microseconds),
    })
}

fn settings_value(settings: &Settings) -> Value {
    json!({
        "heartbeat_milliseconds": settings.heartbeat_milliseconds,
        "election_timeout_milliseconds": settings.election_timeout_milliseconds,
        "election_timeout_max_milliseconds": settings.election_timeout_max_milliseconds,
        "min_majority": settings.min_majority,
        "election_priority": settings.election_priority,
        "lease_reads": settings.lease_reads,
        "uncommitted_bytes_max": settings.uncommitted_bytes_max,
        "command_bytes_max": settings.command_bytes_max,
        "state_bytes_max": settings.state_bytes_max,
        "snapshot_bytes_max": settings.snapshot_bytes_max,
    })
}

fn state_bytes_value(held: &StateBytes) -> Value {
    json!({
        "machine": held.machine,
        "sessions": held.sessions,
        "log": held.log,
        "appends": held.appends,
        "sending": held.sending,
        "receiving": held.receiving,
    })
}

#[cfg(test)]
mod tests {
    use super::super::admin::tests::leader_status;
    use super::*;
    use crate::cli::shown::Output;
    use kontiki_client::Error;
    use kontiki_client::proto::v1::SettingsWarning;

    #[test]
    fn status_as_a_table_and_as_json() {
        let refused = Error::Failed {
            reason: "UNREACHABLE".to_owned(),
            message: "cannot connect".to_owned(),
            endpoint: "b:1".to_owned(),
            attempts: 1,
        };
        let statuses = vec![
            ("a:1".parse().unwrap(), Ok(leader_status())),
            ("b:1".parse().unwrap(), Err(refused)),
        ];
        let shown = show_status(statuses);
        assert!(shown.verdict.is_none());
        let text = String::from_utf8(shown.render(Output::Table)).unwrap();
        assert!(
            text.contains("a:1       0000000000000001  demo-1  leader  3     41      40       yes")
        );
        assert!(text.contains("failed (UNREACHABLE) at b:1"), "{text}");
        let json: Value = serde_json::from_slice(&shown.render(Output::Json)).unwrap();
        assert_eq!(
            json["servers"][0]["server"]["server_id"],
            "0000000000000001"
        );
        assert_eq!(
            json["servers"][0]["configuration"]["learners"][0]["replaces"],
            Value::Null
        );
        assert!(
            json["servers"][1]["error"]
                .as_str()
                .unwrap()
                .contains("UNREACHABLE")
        );
        let yaml = shown.render(Output::Yaml);
        let same: Value = serde_yaml::from_slice(&yaml).unwrap();
        assert_eq!(same, json);
    }

    #[test]
    fn nobody_answering_is_a_failure() {
        let refused = Error::Unknown {
            message: "x".to_owned(),
            endpoint: "b:1".to_owned(),
        };
        let shown = show_status(vec![("b:1".parse().unwrap(), Err(refused))]);
        assert_eq!(shown.verdict.unwrap().status(), 1);
    }

    #[test]
    fn a_machine_that_stands_still_is_shown_below_the_table() {
        let hung = StatusResponse {
            standstill: "the machine has applied nothing".to_owned(),
            ..leader_status()
        };
        let shown = show_status(vec![("a:1".parse().unwrap(), Ok(hung))]);
        let text = String::from_utf8(shown.render(Output::Table)).unwrap();
        assert!(
            text.ends_with("\nwarning: a:1: the machine has applied nothing\n"),
            "{text}"
        );
        let json: Value = serde_json::from_slice(&shown.render(Output::Json)).unwrap();
        assert_eq!(
            json["servers"][0]["standstill"],
            "the machine has applied nothing"
        );
    }

    #[test]
    fn what_the_leader_warns_of_is_shown_below_the_table() {
        let warning = |reason: &str, message: &str| SettingsWarning {
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let leader = StatusResponse {
            settings_warnings: vec![
                warning("LEASE_READS", "demo-1 has them on"),
                warning("STATE_LIMITS", "demo-2 has none"),
            ],
            ..leader_status()
        };
        let follower = StatusResponse {
            settings_warnings: vec![warning("MIN_MAJORITY", "of its own")],
            serving: false,
            ..leader_status()
        };
        let answered = |statuses: &[&StatusResponse]| {
            let statuses = statuses.iter();
            let statuses = statuses.map(|status| ("a:1".parse().unwrap(), Ok((*status).clone())));
            show_status(statuses.collect())
        };
        let shown = answered(&[&follower, &leader]);
        let text = String::from_utf8(shown.render(Output::Table)).unwrap();
        assert!(
            text.ends_with("\nwarning: demo-1 has them on\nwarning: demo-2 has none\n"),
            "{text}"
        );
        let json: Value = serde_json::from_slice(&shown.render(Output::Json)).unwrap();
        let said = &json["servers"][1]["settings_warnings"][0];
        assert_eq!(
            *said,
            json!({ "reason": "LEASE_READS", "message": "demo-1 has them on" })
        );
        // Without a leader each speaks for itself.
        let shown = answered(&[&follower]);
        let text = String::from_utf8(shown.render(Output::Table)).unwrap();
        assert!(text.ends_with("\nwarning: of its own\n"), "{text}");
    }
}
