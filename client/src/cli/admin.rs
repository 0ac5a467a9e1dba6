//! Status, membership and leadership.

use std::time::Duration;

use serde_json::{Value, json};

use kontiki_client::proto::v1::{
    AddServerRequest, Configuration, RemoveServerRequest, ReplaceServerRequest, Role, Server,
    StateBytes, StatusResponse, TransferLeadershipRequest, TriggerElectionRequest,
};
use kontiki_client::{Address, Admin, Error, Member, Members};

use super::arguments::{
    AddServer, NewServer, RemoveServer, ReplaceServer, TransferLeadership, TriggerElection,
};
use super::failure::Failure;
use super::shown::{Shown, table};

type Statuses = Vec<(Address, Result<StatusResponse, Error>)>;

pub async fn status(admin: &Admin) -> Result<Shown, Failure> {
    Ok(show_status(admin.status().await))
}

pub async fn members(admin: &Admin) -> Result<Shown, Failure> {
    Ok(show_members(&admin.members().await?))
}

pub async fn add_server(admin: &Admin, add: AddServer) -> Result<Shown, Failure> {
    let request = AddServerRequest {
        servers: vec![server(add.server)?],
        as_learner: add.as_learner,
        ..AddServerRequest::default()
    };
    Ok(show_change(admin.add_server(request).await?.configuration))
}

pub async fn remove_server(admin: &Admin, remove: RemoveServer) -> Result<Shown, Failure> {
    let request = RemoveServerRequest {
        server_ids: remove.ids,
        ..RemoveServerRequest::default()
    };
    Ok(show_change(
        admin.remove_server(request).await?.configuration,
    ))
}

pub async fn replace_server(admin: &Admin, replace: ReplaceServer) -> Result<Shown, Failure> {
    let request = ReplaceServerRequest {
        lost: replace.lost,
        server: Some(server(replace.server)?),
        ..ReplaceServerRequest::default()
    };
    Ok(show_change(
        admin.replace_server(request).await?.configuration,
    ))
}

pub async fn transfer_leadership(
    admin: &Admin,
    transfer: TransferLeadership,
) -> Result<Shown, Failure> {
    let request = TransferLeadershipRequest {
        target: transfer.target.unwrap_or_default(),
        ..TransferLeadershipRequest::default()
    };
    let answer = admin.transfer_leadership(request).await?;
    let value = json!({ "leader_id": answer.leader_id, "term": answer.term });
    Ok(Shown::new(
        value,
        format!("{} leads in term {}", answer.leader_id, answer.term),
    ))
}

pub async fn trigger_election(admin: &Admin, trigger: TriggerElection) -> Result<Shown, Failure> {
    let endpoint = chosen(admin, trigger.server.as_deref(), "is to campaign").await?;
    let request = TriggerElectionRequest {
        server_id: trigger.server.unwrap_or_default(),
        ..TriggerElectionRequest::default()
    };
    let term = admin.trigger_election(&endpoint, request).await?.term;
    let value = json!({ "endpoint": endpoint.as_str(), "term": term });
    Ok(Shown::new(value, format!("{endpoint} is in term {term}")))
}

pub async fn await_leader(admin: &Admin, timeout: Duration) -> Result<Shown, Failure> {
    let answer = admin.await_leader(timeout).await?;
    let leader = answer.leader.unwrap_or_default();
    let text = format!("{} leads in term {}", leader.server_id, answer.term);
    Ok(Shown::new(
        json!({ "leader": server_value(&leader), "term": answer.term }),
        text,
    ))
}

/// The endpoint of the server that is meant: the only one, unless its id is given.
pub(super) async fn chosen(
    admin: &Admin,
    server: Option<&str>,
    what: &str,
) -> Result<Address, Failure> {
    match (server, admin.endpoints()) {
        (None, [only]) => Ok(only.clone()),
        (None, several) => Err(Failure::Usage {
            message: format!(
                "which of the {} --admin-endpoints {what}? Give its server id, which `kontiki \
                 status` shows",
                several.len()
            ),
        }),
        (Some(id), _) => endpoint_of(id, admin.status().await),
    }
}

/// The endpoint behind which a server is.
fn endpoint_of(id: &str, statuses: Statuses) -> Result<Address, Failure> {
    statuses
        .into_iter()
        .find(|(_, status)| status.as_ref().is_ok_and(|status| own_id(status) == id))
        .map(|(endpoint, _)| endpoint)
        .ok_or_else(|| Failure::Local {
            message: format!(
                "no server {id} answered behind --admin-endpoints; `kontiki status` shows who did"
            ),
        })
}

fn server(new: NewServer) -> Result<Server, Failure> {
    let peer: Address = new.peer_address.parse()?;
    let client: Address = new.client_address.parse()?;
    Ok(Server {
        server_id: new.server_id,
        node: new.node,
        peer_address: peer.to_string(),
        client_address: client.to_string(),
    })
}

fn show_status(statuses: Statuses) -> Shown {
    let mut rows = Vec::new();
    let mut values = Vec::new();
    let mut answered = false;
    for (endpoint, status) in statuses {
        match status {
            Ok(status) => {
                answered = true;
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
    let mut shown = Shown::new(json!({ "servers": values }), table(header, rows));
    if !answered {
        shown.verdict = Some(Failure::Local {
            message: "none of --admin-endpoints answered; give peer ports (7401) that listen"
                .to_owned(),
        });
    }
    shown
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
        "log_bytes": status.log_bytes,
        "state_bytes": status.state_bytes.as_ref().map(state_bytes_value),
        "state_bytes_max": status.state_bytes_max,
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

fn show_members(members: &Members) -> Shown {
    let rows = members.members.iter().map(member_row).collect();
    let header = [
        "SERVER",
        "NODE",
        "ROLE",
        "MATCHED",
        "HEARD",
        "PEER ADDRESS",
        "CLIENT ADDRESS",
    ];
    let values: Vec<Value> = members.members.iter().map(member_value).collect();
    let value = json!({
        "cluster_id": members.cluster_id,
        "seen_by": members.seen_by,
        "seen_by_leader": members.seen_by_leader,
        "term": members.term,
        "configuration_index": members.configuration.index,
        "configuration_committed": members.configuration.committed,
        "joint": !members.configuration.outgoing.is_empty(),
        "members": values,
    });
    let mut text = table(header, rows);
    if !members.seen_by_leader {
        text.push_str("\n(no leader that serves answered; this is what a follower knows)");
    }
    Shown::new(value, text)
}

fn member_role(member: &Member) -> String {
    match (member.leader, member.outgoing, member.voter) {
        (true, ..) => "leader".to_owned(),
        (_, true, _) => "voter (outgoing)".to_owned(),
        (_, _, true) => "voter".to_owned(),
        _ => format!("learner ({})", member.purpose),
    }
}

fn member_row(member: &Member) -> [String; 7] {
    let number = |n: Option<u64>, unit: &str| n.map_or("-".to_owned(), |n| format!("{n}{unit}"));
    [
        member.server.server_id.clone(),
        member.server.node.clone(),
        member_role(member),
        number(member.matched, ""),
        number(member.last_heard_ms, " ms ago"),
        member.server.peer_address.clone(),
        member.server.client_address.clone(),
    ]
}

fn member_value(member: &Member) -> Value {
    let mut value = server_value(&member.server);
    value["voter"] = member.voter.into();
    value["outgoing"] = member.outgoing.into();
    value["leader"] = member.leader.into();
    value["purpose"] = if member.voter {
        Value::Null
    } else {
        member.purpose.clone().into()
    };
    value["matched"] = member.matched.into();
    value["last_heard_ms"] = member.last_heard_ms.into();
    value
}

fn show_change(configuration: Option<Configuration>) -> Shown {
    let configuration = configuration.unwrap_or_default();
    let learners: Vec<_> = configuration
        .learners
        .iter()
        .map(|learner| learner.server_id.as_str())
        .collect();
    let text = format!(
        "configuration at index {}\nvoters   {}\nlearners {}",
        configuration.index,
        configuration.voters.join(" "),
        if learners.is_empty() {
            "none".to_owned()
        } else {
            learners.join(" ")
        },
    );
    Shown::new(
        json!({ "configuration": configuration_value(&configuration) }),
        text,
    )
}

pub(super) fn configuration_value(configuration: &Configuration) -> Value {
    let learners: Vec<Value> = configuration
        .learners
        .iter()
        .map(|learner| {
            json!({
                "server_id": learner.server_id,
                "purpose": learner.purpose,
                "replaces": (!learner.replaces.is_empty()).then_some(&learner.replaces),
            })
        })
        .collect();
    json!({
        "index": configuration.index,
        "committed": configuration.committed,
        "voters": configuration.voters,
        "outgoing": configuration.outgoing,
        "learners": learners,
    })
}

pub(super) fn server_value(server: &Server) -> Value {
    json!({
        "server_id": server.server_id,
        "node": server.node,
        "peer_address": server.peer_address,
        "client_address": server.client_address,
    })
}

pub(super) fn own_id(status: &StatusResponse) -> &str {
    status
        .server
        .as_ref()
        .map_or("", |server| &server.server_id)
}

pub(super) fn role(status: &StatusResponse) -> &'static str {
    match status.role() {
        Role::Unspecified => "unknown",
        Role::Joiner => "joiner",
        Role::Learner => "learner",
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::shown::Output;
    use kontiki_client::proto::v1::{Learner, Progress};

    fn at(n: u64) -> Server {
        Server {
            server_id: format!("{n:016x}"),
            node: format!("demo-{n}"),
            peer_address: format!("10.0.0.{n}:7401"),
            client_address: format!("10.0.0.{n}:7400"),
        }
    }

    fn leader_status() -> StatusResponse {
        StatusResponse {
            cluster_id: "00000000000000cc".to_owned(),
            server: Some(at(1)),
            role: Role::Leader.into(),
            term: 3,
            leader: Some(at(1)),
            last_index: 42,
            commit_index: 41,
            applied_index: 40,
            configuration: Some(Configuration {
                index: 7,
                committed: true,
                voters: vec![at(2).server_id, at(1).server_id],
                outgoing: vec![],
                learners: vec![Learner {
                    server_id: at(3).server_id,
                    purpose: "join".to_owned(),
                    replaces: String::new(),
                }],
            }),
            progress: vec![Progress {
                server_id: at(2).server_id,
                matched: 41,
                last_heard_ms: 12,
                heard: true,
                reachable: true,
                stalled: false,
                ..Progress::default()
            }],
            serving: true,
            ready: true,
            servers: vec![at(2)],
            ..StatusResponse::default()
        }
    }

    #[test]
    fn members_as_a_table() {
        let shown = show_members(&Members::from_status(&leader_status()));
        let text = String::from_utf8(shown.render(Output::Table)).unwrap();
        let golden = "\
SERVER            NODE    ROLE            MATCHED  HEARD      PEER ADDRESS   CLIENT ADDRESS
0000000000000001  demo-1  leader          42       0 ms ago   10.0.0.1:7401  10.0.0.1:7400
0000000000000002  demo-2  voter           41       12 ms ago  10.0.0.2:7401  10.0.0.2:7400
0000000000000003          learner (join)  -        -
";
        assert_eq!(text, golden);
    }

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
}
