//! Steps in words, for events, metrics and the lines of the local world.

use kontiki_plan::{Server, ServerId, Step};

/// Name of a step, CamelCase: the reason of its event and a label of metrics.
pub fn name(step: &Step) -> &'static str {
    match step {
        Step::EnsureObjects { .. } => "EnsureObjects",
        Step::EnsureServers { .. } => "EnsureServers",
        Step::ShrinkServers { .. } => "ShrinkServers",
        Step::RecordIdentity { .. } => "RecordIdentity",
        Step::RecordInitialized { .. } => "RecordInitialized",
        Step::DrawIdentityAnew { .. } => "DrawIdentityAnew",
        Step::Bootstrap { .. } => "Bootstrap",
        Step::Activate { .. } => "Activate",
        Step::Introduce { .. } => "Introduce",
        Step::Add { .. } => "Add",
        Step::Replace { .. } => "Replace",
        Step::Remove { .. } => "Remove",
        Step::Transfer { .. } => "Transfer",
        Step::TriggerElection { .. } => "TriggerElection",
        Step::Quarantine { .. } => "Quarantine",
        Step::Restart { .. } => "Restart",
    }
}

/// What a step does, with its ids.
pub fn text(step: &Step) -> String {
    match step {
        Step::EnsureObjects { drift } if drift.is_empty() => "objects as they should be".into(),
        Step::EnsureObjects { drift } => drift.join(", "),
        Step::EnsureServers { count } => format!("at least {count}"),
        Step::ShrinkServers { count } => format!("at most {count}"),
        Step::RecordIdentity { record, .. } => {
            let voters = record
                .voters
                .iter()
                .map(|(node, id)| format!("{node} ({id})"));
            let voters: Vec<String> = voters.collect();
            format!("cluster {} of {}", record.cluster, voters.join(", "))
        }
        Step::RecordInitialized { cluster, .. } => format!("cluster {cluster}"),
        Step::DrawIdentityAnew { discarded, .. } => format!("in place of {}", discarded.previous),
        Step::Bootstrap {
            to,
            cluster,
            voters,
        } => {
            format!(
                "{} into cluster {cluster} of {} voters",
                server(to),
                voters.len()
            )
        }
        Step::Activate { via, cluster } => format!("cluster {cluster} via {}", server(via)),
        Step::Introduce { to, servers, .. } => {
            format!("{} to {}", servers.len(), server(to))
        }
        Step::Add {
            via,
            servers,
            supersedes,
            ..
        } => {
            let added: Vec<String> = servers.iter().map(server).collect();
            format!(
                "{} via {}{}",
                added.join(", "),
                server(via),
                instead_of(supersedes)
            )
        }
        Step::Replace {
            via,
            lost,
            new,
            supersedes,
            ..
        } => {
            let instead = instead_of(supersedes);
            format!("{lost} by {} via {}{instead}", server(new), server(via))
        }
        Step::Remove { via, servers, .. } => format!("{} via {}", ids(servers), server(via)),
        Step::Transfer { via, target, .. } => {
            format!("from {} to {}", server(via), server(target))
        }
        Step::TriggerElection { on, .. } => format!("on {}", server(on)),
        Step::Quarantine { on, why, .. } => format!("{}: {why}", server(on)),
        Step::Restart { node, uid, server } => format!("{node} ({server}), uid {uid}"),
    }
}

/// Whether a step changes who is there or who leads; the others are upkeep, and make no event.
pub fn is_news(step: &Step) -> bool {
    !matches!(step, Step::Introduce { .. } | Step::EnsureObjects { .. })
}

fn server(server: &Server) -> String {
    format!("{} ({})", server.node, server.id)
}

fn ids(ids: &[ServerId]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    ids.join(", ")
}

fn instead_of(supersedes: &[ServerId]) -> String {
    if supersedes.is_empty() {
        String::new()
    } else {
        format!(", in place of {}", ids(supersedes))
    }
}

#[cfg(test)]
mod tests {
    use kontiki_plan::ClusterId;

    use super::*;

    #[test]
    fn a_step_names_every_id_it_is_about() {
        let at = |node: &str, id| Server {
            id: ServerId(id),
            node: node.to_owned(),
            peer_address: String::new(),
            client_address: String::new(),
        };
        let step = Step::Replace {
            via: at("demo-0", 0xa0),
            cluster: ClusterId(0xcc),
            lost: ServerId(0xa2),
            new: at("demo-2", 0xb2),
            supersedes: vec![ServerId(0xa9)],
            configuration_index: 4,
        };
        assert_eq!(
            text(&step),
            "00000000000000a2 by demo-2 (00000000000000b2) via demo-0 (00000000000000a0), \
             in place of 00000000000000a9"
        );
        assert_eq!(name(&step), "Replace");
        assert!(is_news(&step));
    }
}
