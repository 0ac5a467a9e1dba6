//! Three node processes that are a cluster, and calls to each of them.

use std::time::{Duration, Instant};

use kontiki_proto::kv::kv_client::KvClient;
use kontiki_proto::kv::{GetRequest, PutRequest};
use kontiki_proto::v1::admin_client::AdminClient;
use kontiki_proto::v1::{ActivateRequest, BootstrapRequest, StatusRequest, StatusResponse};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt;

use crate::node::Node;

/// Long enough for anything that is to happen, on a busy machine too.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// A server that does not answer a question within this is dead or stands still.
const PATIENCE: Duration = Duration::from_secs(2);

/// Defaults, but for the time after which a write's outcome is called unknown.
pub const CONFIG: &str = "limits:\n  writeTimeoutMilliseconds: 2500\n";

/// Node processes.
pub struct Cluster {
    /// All of them.
    pub nodes: Vec<Node>,
    /// Its id, 16 hexadecimal digits.
    pub id: String,
}

impl Cluster {
    /// Three nodes, bootstrapped and activated, with a leader.
    pub async fn of_three() -> Self {
        Self::of(["a", "b", "c"].map(|name| Node::start(name, CONFIG)).into()).await
    }

    /// These nodes, which are fresh, bootstrapped and activated, with a leader.
    pub async fn of(nodes: Vec<Node>) -> Self {
        Self::with_id("00000000000c1057", nodes).await
    }

    /// The same, as a cluster of this id.
    pub async fn with_id(id: &str, nodes: Vec<Node>) -> Self {
        let id = id.to_owned();
        let voters: Vec<_> = nodes.iter().map(Node::as_server).collect();
        for node in &nodes {
            let request = BootstrapRequest {
                cluster_id: id.clone(),
                voters: voters.clone(),
            };
            admin(node).bootstrap(request).await.expect("bootstraps");
        }
        let cluster = Self { nodes, id };
        let leader = cluster.leader(&[]).await;
        let request = ActivateRequest {
            cluster_id: cluster.id.clone(),
        };
        admin(&cluster.nodes[leader])
            .activate(request)
            .await
            .expect("activates");
        cluster
    }

    /// Waits until one of the nodes that are not `without` serves as the leader; its place.
    pub async fn leader(&self, without: &[usize]) -> usize {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            for place in (0..self.nodes.len()).filter(|place| !without.contains(place)) {
                let asked = status(&self.nodes[place]).await;
                if asked.is_some_and(|status| status.serving && status.term_committed) {
                    return place;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("nobody leads");
    }

    /// Someone who does not lead.
    pub fn other_than(&self, leader: usize) -> usize {
        (leader + 1) % self.nodes.len()
    }
}

/// A connection that is made when it is needed.
pub fn channel(address: &str) -> Channel {
    let endpoint = Endpoint::try_from(format!("http://{address}")).expect("an address");
    endpoint.connect_timeout(PATIENCE).connect_lazy()
}

/// The Admin service of a node.
pub fn admin(node: &Node) -> AdminClient<Channel> {
    AdminClient::new(channel(&node.peer))
}

/// Its status, if it answers.
pub async fn status(node: &Node) -> Option<StatusResponse> {
    let mut admin = admin(node);
    let answer = tokio::time::timeout(PATIENCE, admin.status(StatusRequest {})).await;
    answer.ok()?.ok().map(tonic::Response::into_inner)
}

/// Writes to this very node.
pub async fn put(node: &Node, key: &str, value: &str) -> Result<(), Status> {
    let request = PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    };
    let mut kv = KvClient::new(channel(&node.client));
    kv.put(Request::new(request)).await.map(|_| ())
}

/// Reads from this very node, linearizably.
pub async fn get(node: &Node, key: &str) -> Result<Option<String>, Status> {
    let request = GetRequest {
        key: key.to_owned().into(),
        consistency: kontiki_proto::v1::Consistency::Linearizable.into(),
        ..GetRequest::default()
    };
    let mut kv = KvClient::new(channel(&node.client));
    let answer = kv.get(request).await?.into_inner();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(answer.kv.map(|found| text(&found.value)))
}

/// Reason, outcome and the leader's address of an error of ours.
pub fn detail(status: &Status) -> (String, String, String) {
    let info = status.get_details_error_info();
    let info = info.unwrap_or_else(|| panic!("{status:?} carries no detail"));
    assert_eq!(info.domain, kontiki_proto::ERROR_DOMAIN);
    let of = |key| info.metadata.get(key).cloned().unwrap_or_default();
    let leader = of(kontiki_proto::metadata::LEADER_ADDRESS);
    (info.reason, of(kontiki_proto::metadata::OUTCOME), leader)
}
