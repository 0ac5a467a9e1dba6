//! Status, membership and leadership.

use std::time::Duration;

use serde_json::{Value, json};

use kontiki_client::proto::v1::{
    AddServerRequest, Configuration, RemoveServerRequest, ReplaceServerRequest, Role, Server,
    StatusResponse, TransferLeadershipRequest, TriggerElectionRequest,
};
use kontiki_client::{Address, Admin, Error, Member, Members};

use super::arguments::{
    AddServer, NewServer, RemoveServer, ReplaceServer, TransferLeadership, TriggerElection,
};
use super::failure::Failure;
use super::shown::{Shown, table};

pub(super) type Statuses = Vec<(Address, Result<StatusResponse, Error>)>;

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
pub(super) mod tests {
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

    pub(crate) fn leader_status() -> StatusResponse {
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
}
