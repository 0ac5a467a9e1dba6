//! Steps as a line each, for logs, events and golden files.

use std::fmt;

use crate::ids::ServerId;
use crate::inventory::Server;
use crate::refusal::Blocked;
use crate::step::Step;

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:?}", self.node, self.id)
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.refusal)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EnsureObjects { drift } => write!(f, "EnsureObjects {}", drift.join("; ")),
            Self::EnsureServers { count } => write!(f, "EnsureServers {count}"),
            Self::ShrinkServers { count } => write!(f, "ShrinkServers {count}"),
            Self::RecordIdentity { record, .. } => {
                let voters = record.voters.iter();
                let voters: Vec<_> = voters.map(|(node, id)| format!("{node}/{id:?}")).collect();
                let (cluster, voters) = (record.cluster, voters.join(" "));
                write!(f, "RecordIdentity {cluster:?} of {voters}")?;
                if record.initialized {
                    f.write_str(", initialized")?;
                }
                Ok(())
            }
            Self::RecordInitialized { cluster, .. } => write!(f, "RecordInitialized {cluster:?}"),
            Self::DrawIdentityAnew { discarded, .. } => {
                write!(f, "DrawIdentityAnew in place of {:?}", discarded.previous)?;
                match discarded.lost {
                    Some(lost) => write!(f, ", giving up the data of {lost:?}"),
                    None => Ok(()),
                }
            }
            Self::Bootstrap {
                to,
                cluster,
                voters,
            } => {
                write!(f, "Bootstrap {to} in {cluster:?} of {}", list(voters))
            }
            Self::Activate { via, cluster } => write!(f, "Activate {cluster:?} via {via}"),
            Self::Introduce { to, servers, .. } => {
                write!(f, "Introduce {} to {to}", list(servers))
            }
            Self::Add {
                via,
                servers,
                supersedes,
                configuration_index: at,
                ..
            } => {
                write!(f, "Add {} via {via} at {at}", list(servers))?;
                supersede(f, supersedes)
            }
            Self::Replace {
                via,
                lost,
                new,
                supersedes,
                configuration_index: at,
                ..
            } => {
                write!(f, "Replace {lost:?} by {new} via {via} at {at}")?;
                supersede(f, supersedes)
            }
            Self::Remove {
                via,
                servers,
                configuration_index: at,
                ..
            } => write!(f, "Remove {} via {via} at {at}", ids(servers)),
            Self::Transfer { via, target, .. } => write!(f, "Transfer from {via} to {target}"),
            Self::TriggerElection { on, .. } => write!(f, "TriggerElection on {on}"),
            Self::Quarantine { on, why, .. } => write!(f, "Quarantine {on}: {why}"),
            Self::Restart { node, uid, server } => {
                write!(f, "Restart {node}/{server:?} (uid {uid})")
            }
        }
    }
}

fn list(servers: &[Server]) -> String {
    let servers: Vec<String> = servers.iter().map(Server::to_string).collect();
    servers.join(" ")
}

fn ids(servers: &[ServerId]) -> String {
    let servers: Vec<String> = servers.iter().map(|id| format!("{id:?}")).collect();
    servers.join(" ")
}

fn supersede(f: &mut fmt::Formatter<'_>, dead: &[ServerId]) -> fmt::Result {
    if dead.is_empty() {
        return Ok(());
    }
    write!(f, ", superseding {}", ids(dead))
}
