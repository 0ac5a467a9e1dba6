//! Observing: what the world shows, and what every server says of itself.
//!
//! Servers are asked all at once, each with a timeout. One that does not answer is *unknown*: it may
//! live, and nothing is decided from its silence but that it is silent.

pub mod view;
pub mod wanted;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use kontiki_plan::{
    ClusterId, Identity, IdentityCopy, Instance, Inventory, Node, Observation, Role,
};
use kontiki_proto::v1::StatusResponse;

use crate::admin::Admin;

/// What a world shows without any server having been asked.
#[derive(Debug, Clone)]
pub struct Scene {
    /// What the identity object says.
    pub identity: Identity,
    /// What other places say.
    pub identity_copies: Vec<IdentityCopy>,
    /// How many nodes the world keeps; `None` if it keeps none yet.
    pub servers_desired: Option<u32>,
    /// Objects that are not as they should be, for people.
    pub drift: Vec<String>,
    /// Every ordinal below `servers_desired` and any other node, by ordinal.
    pub nodes: Vec<Place>,
    /// How long servers have been wanted without an identity.
    pub waited_for_servers: Duration,
    /// Revision that a node has if it is made now; `None`: this world has none.
    pub revision: Option<String>,
}

/// One ordinal, before its server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// 0 to 8.
    pub ordinal: u32,
    /// Its name.
    pub name: String,
    /// What runs there; `None`: looked for, nothing is there.
    pub tenant: Option<Tenant>,
    /// Machine and zone it is on, for people.
    pub location: Location,
}

/// Where a node is, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Location {
    /// Kubernetes node.
    pub kubernetes_node: Option<String>,
    /// Its zone.
    pub zone: Option<String>,
}

/// A pod or a process, before its server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Names it for ever.
    pub uid: String,
    /// It is about to end.
    pub going: bool,
    /// Revision of the template it was made from.
    pub revision: String,
    /// Image that it was made from, in a world of images.
    pub image: Option<String>,
    /// Why it does not start, if the world knows.
    pub trouble: Option<String>,
    /// HOST:PORT of Peer and Admin; empty: it has no address yet.
    pub peer_address: String,
    /// HOST:PORT of Data; empty: it has no address yet.
    pub client_address: String,
    /// Whether the world calls it ready; `None`: it does not ask, and the server's word counts.
    pub ready: Option<bool>,
}

/// What has to be remembered from one look to the next. Losing it costs time, nothing else: every
/// age starts at zero again.
#[derive(Debug, Default)]
pub struct Memory {
    silent_since: HashMap<String, Instant>,
    leaderless_since: Option<Instant>,
}

/// Asks every server of `scene`, and completes it to what the planner reads.
pub async fn complete(admin: &Admin, memory: &mut Memory, scene: &Scene) -> Inventory {
    let inhabited = scene.nodes.iter();
    let inhabited = inhabited.filter_map(|place| Some((&place.name, place.tenant.as_ref()?)));
    let answers = join_all(inhabited.map(|(name, tenant)| ask(admin, name, tenant))).await;
    let now = Instant::now();
    let mut answers = answers.into_iter();
    let nodes = scene.nodes.iter().map(|place| Node {
        ordinal: place.ordinal,
        name: place.name.clone(),
        instance: place.tenant.as_ref().and_then(|tenant| {
            let answer = answers.next()?;
            Some(instance(tenant, memory.note(now, &tenant.uid, answer)))
        }),
    });
    let nodes: Vec<Node> = nodes.collect();
    memory.forget_others(scene);
    let leaderless_for = memory.leaderless_for(now, nodes.iter().any(leads));
    Inventory {
        identity: scene.identity.clone(),
        identity_copies: scene.identity_copies.clone(),
        servers_desired: scene.servers_desired,
        drift: scene.drift.clone(),
        nodes,
        drawn_cluster: ClusterId(rand::random_range(1..=u64::MAX)),
        waited_for_servers: scene.waited_for_servers,
        leaderless_for,
        revision: scene.revision.clone(),
    }
}

async fn ask(admin: &Admin, name: &str, tenant: &Tenant) -> Result<Observation, String> {
    if tenant.peer_address.is_empty() {
        return Err("it has no address yet".to_owned());
    }
    let status = admin
        .status(&tenant.peer_address)
        .await
        .map_err(|error| error.to_string())?;
    observed(name, &status)
}

/// What the server at the address of the node `name` said. An address may be another's by the time
/// that it is asked: what that one says is nothing about `name`, least of all that its server is
/// lost.
fn observed(name: &str, status: &StatusResponse) -> Result<Observation, String> {
    let found = status.server.as_ref().map_or("", |server| &server.node);
    if !found.is_empty() && found != name {
        return Err(format!("{found} answers at its address"));
    }
    let view = view::view(status).map_err(|error| error.to_string())?;
    Ok(Observation::Seen(Box::new(view)))
}

fn instance(tenant: &Tenant, observation: Observation) -> Instance {
    let says_ready = matches!(&observation, Observation::Seen(view) if view.ready);
    let Tenant {
        uid,
        going,
        revision,
        image: _,
        trouble,
        peer_address,
        client_address,
        ready,
    } = tenant.clone();
    Instance {
        uid,
        going,
        revision,
        peer_address,
        client_address,
        trouble,
        ready: ready.unwrap_or(says_ready),
        observation,
    }
}

fn leads(node: &Node) -> bool {
    match node.instance.as_ref().map(|instance| &instance.observation) {
        Some(Observation::Seen(view)) => view.role == Role::Leader && view.quarantine.is_none(),
        _ => false,
    }
}

impl Memory {
    fn note(
        &mut self,
        now: Instant,
        uid: &str,
        answer: Result<Observation, String>,
    ) -> Observation {
        match answer {
            Ok(seen) => {
                self.silent_since.remove(uid);
                seen
            }
            Err(reason) => {
                let since = *self.silent_since.entry(uid.to_owned()).or_insert(now);
                Observation::Unknown {
                    reason,
                    lasting: now.duration_since(since),
                }
            }
        }
    }

    fn forget_others(&mut self, scene: &Scene) {
        self.silent_since.retain(|uid, _| {
            scene
                .nodes
                .iter()
                .any(|p| p.tenant.as_ref().is_some_and(|t| &t.uid == uid))
        });
    }

    fn leaderless_for(&mut self, now: Instant, led: bool) -> Duration {
        if led {
            self.leaderless_since = None;
            return Duration::ZERO;
        }
        now.duration_since(*self.leaderless_since.get_or_insert(now))
    }
}

#[cfg(test)]
mod tests {
    use kontiki_proto::v1;

    use super::*;

    fn scene(addresses: &[&str]) -> Scene {
        let place = |(ordinal, address): (usize, &&str)| Place {
            ordinal: ordinal as u32,
            name: format!("demo-{ordinal}"),
            tenant: Some(Tenant {
                uid: format!("uid-{ordinal}"),
                going: false,
                revision: String::new(),
                image: None,
                trouble: None,
                peer_address: (*address).to_owned(),
                client_address: String::new(),
                ready: None,
            }),
            location: Location::default(),
        };
        Scene {
            identity: Identity::Absent,
            identity_copies: Vec::new(),
            servers_desired: Some(addresses.len() as u32),
            drift: Vec::new(),
            nodes: addresses.iter().enumerate().map(place).collect(),
            waited_for_servers: Duration::ZERO,
            revision: None,
        }
    }

    #[tokio::test]
    async fn silence_is_unknown_and_grows_older() {
        let mut memory = Memory::default();
        let scene = scene(&["", "not an address"]);
        let first = complete(&Admin::default(), &mut memory, &scene).await;
        let second = complete(&Admin::default(), &mut memory, &scene).await;
        for (index, node) in second.nodes.iter().enumerate() {
            let silence = |node: &Node| match &node.instance.as_ref().unwrap().observation {
                Observation::Unknown { lasting, .. } => *lasting,
                Observation::Seen(view) => panic!("{view:?}"),
            };
            assert_eq!(silence(&first.nodes[index]), Duration::ZERO);
            assert!(silence(node) > Duration::ZERO);
        }
        assert!(second.leaderless_for > first.leaderless_for);
        assert_ne!(first.drawn_cluster, second.drawn_cluster);
    }

    #[test]
    fn what_another_node_says_at_its_address_is_no_answer() {
        let status = |node: &str| StatusResponse {
            server: Some(v1::Server {
                server_id: "00000000000000a1".to_owned(),
                node: node.to_owned(),
                ..v1::Server::default()
            }),
            role: v1::Role::Joiner.into(),
            ..StatusResponse::default()
        };
        for own in ["demo-1", ""] {
            observed("demo-1", &status(own)).expect("its own answer");
        }
        assert_eq!(
            observed("demo-1", &status("demo-2")),
            Err("demo-2 answers at its address".to_owned())
        );
    }

    #[tokio::test]
    async fn a_pod_that_is_gone_is_forgotten() {
        let mut memory = Memory::default();
        complete(&Admin::default(), &mut memory, &scene(&["", ""])).await;
        assert_eq!(memory.silent_since.len(), 2);
        complete(&Admin::default(), &mut memory, &scene(&[""])).await;
        assert_eq!(memory.silent_since.len(), 1);
    }
}
