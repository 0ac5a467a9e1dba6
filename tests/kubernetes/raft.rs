//! One RaftCluster, seen through the Kubernetes API and through its servers.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kontiki_client::proto::v1::StatusResponse;
use kontiki_client::{Address, Admin};
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::wait::{until, until_ok};

/// Most servers that a scenario asks for.
const SERVERS_MAX: u32 = 5;

/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// How long the operator may take for what is not measured.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster by its name.
#[derive(Clone)]
pub struct Raft {
    cluster: Cluster,
    pub namespace: String,
    pub name: String,
}

impl Raft {
    pub fn new(cluster: Cluster, namespace: &str, name: &str) -> Self {
        Raft {
            cluster,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// All that are in a namespace.
    pub async fn all(cluster: &Cluster, namespace: &str) -> Result<Vec<Raft>> {
        let list = resources(cluster, namespace)
            .list(&ListParams::default())
            .await?;
        let names = list
            .items
            .into_iter()
            .filter_map(|object| object.metadata.name);
        Ok(names
            .map(|name| Raft::new(cluster.clone(), namespace, &name))
            .collect())
    }

    /// A manifest with memory storage and the `kv` machine.
    pub fn manifest(&self, replicas: u32) -> Value {
        json!({
            "apiVersion": "kontiki.dev/v1alpha1",
            "kind": "RaftCluster",
            "metadata": {"name": self.name},
            "spec": {
                "replicas": replicas,
                "stateMachine": {"kind": "Kv"},
                "storage": {"mode": "Memory"},
            },
        })
    }

    /// The resource as the API server has it.
    pub async fn resource(&self) -> Result<Value> {
        let object = resources(&self.cluster, &self.namespace)
            .get(&self.name)
            .await?;
        serde_json::to_value(object).context("the resource as JSON")
    }

    /// kubectl in this namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster
            .kubectl(&[&["--namespace", &self.namespace], arguments].concat())
            .await
    }

    /// Scales it as a person would.
    pub async fn scale(&self, replicas: u32) -> Result<()> {
        let (target, replicas) = (
            format!("raft/{}", self.name),
            format!("--replicas={replicas}"),
        );
        self.kubectl(&["scale", &target, &replicas]).await.map(drop)
    }

    /// Waits until it is Ready with as many voters, by the status and by what the servers say.
    pub async fn settled(&self, replicas: u32) -> Result<()> {
        until_ok(
            &format!("{} is Ready with {replicas} voters", self.name),
            PATIENCE,
            async || {
                let resource = self.resource().await?;
                let status = &resource["status"];
                ensure!(
                    status["observedGeneration"] == resource["metadata"]["generation"],
                    "the status is of generation {}",
                    status["observedGeneration"]
                );
                ensure!(
                    condition(&resource, "Ready").as_deref() == Some("True"),
                    "conditions: {}",
                    status["conditions"]
                );
                ensure!(
                    status["quorum"]["voters"] == replicas && status["readyReplicas"] == replicas,
                    "quorum {}, readyReplicas {}",
                    status["quorum"],
                    status["readyReplicas"]
                );
                self.agrees(replicas as usize).await
            },
        )
        .await
    }

    /// Whether the servers in its pods, no other, are the voters, and all of them are ready.
    async fn agrees(&self, replicas: usize) -> Result<()> {
        let statuses = self.statuses().await?;
        let servers = statuses
            .iter()
            .filter_map(|(_, status)| status.server.as_ref());
        let servers: BTreeSet<&str> = servers.map(|server| server.server_id.as_str()).collect();
        let leader = statuses
            .iter()
            .map(|(_, status)| status)
            .filter(|status| status.serving);
        let leader = leader
            .max_by_key(|status| status.term)
            .context("no server leads")?;
        let configuration = leader
            .configuration
            .as_ref()
            .context("a leader without voters")?;
        let voters: BTreeSet<&str> = configuration.voters.iter().map(String::as_str).collect();
        ensure!(
            voters == servers
                && configuration.committed
                && configuration.outgoing.is_empty()
                && configuration.learners.is_empty(),
            "servers {servers:?} answer, the configuration is {configuration:?}"
        );
        let pods = self.pods().await?.len();
        ensure!(pods == replicas, "there are {pods} pods");
        let not_ready = statuses.iter().find(|(_, status)| !status.ready);
        ensure!(not_ready.is_none(), "not ready: {not_ready:?}");
        Ok(())
    }

    /// Its pods, in the order of their names.
    pub async fn pods(&self) -> Result<Vec<Pod>> {
        let selector = format!("kontiki.dev/cluster={}", self.name);
        let api: Api<Pod> = Api::namespaced(self.cluster.client.clone(), &self.namespace);
        let mut pods = api
            .list(&ListParams::default().labels(&selector))
            .await?
            .items;
        pods.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        Ok(pods)
    }

    /// One of its pods.
    pub async fn pod(&self, name: &str) -> Result<Pod> {
        let api: Api<Pod> = Api::namespaced(self.cluster.client.clone(), &self.namespace);
        Ok(api.get(name).await?)
    }

    /// What every server says that answers, with the name of its pod.
    pub async fn statuses(&self) -> Result<Vec<(String, StatusResponse)>> {
        self.statuses_but(None).await
    }

    /// As [`Raft::statuses`], without asking the server of one pod.
    async fn statuses_but(&self, silent: Option<&str>) -> Result<Vec<(String, StatusResponse)>> {
        let pods = self.pods().await?.into_iter();
        let asked = pods.filter(|pod| silent.is_none() || pod.metadata.name.as_deref() != silent);
        let answers = asked.map(async |pod| {
            let endpoint: Address = format!("{}:7401", address_of(&pod)?).parse().ok()?;
            let admin = Admin::new([endpoint.as_str()]).ok()?;
            let answer = tokio::time::timeout(ANSWER, admin.status_of(&endpoint));
            Some((pod.metadata.name?, answer.await.ok()?.ok()?))
        });
        Ok(join_all(answers).await.into_iter().flatten().collect())
    }

    /// The pod whose server leads in the highest term, and serves.
    pub async fn leader(&self) -> Result<(String, StatusResponse)> {
        self.leader_but(None).await
    }

    /// As [`Raft::leader`], without asking the server of one pod: it would not answer.
    pub async fn leader_but(&self, silent: Option<&str>) -> Result<(String, StatusResponse)> {
        let statuses = self.statuses_but(silent).await?.into_iter();
        statuses
            .filter(|(_, status)| status.serving)
            .max_by_key(|(_, status)| status.term)
            .ok_or_else(|| anyhow!("no server of {} leads", self.name))
    }

    /// Server ids by pod.
    pub async fn server_ids(&self) -> Result<BTreeSet<(String, String)>> {
        let statuses = self.statuses().await?.into_iter();
        Ok(statuses
            .filter_map(|(pod, status)| Some((pod, status.server?.server_id)))
            .collect())
    }

    /// Deletes a pod as `kubectl delete pod` does, with further flags, and waits until another one
    /// has its name.
    pub async fn replace_pod(&self, name: &str, flags: &[&str]) -> Result<()> {
        let before = self.pod(name).await?.metadata.uid;
        self.kubectl(&[&["delete", "pod", name, "--wait=false"], flags].concat())
            .await?;
        until(
            &format!("there is another pod {name}"),
            PATIENCE,
            async || Ok((self.pod(name).await?.metadata.uid != before).then_some(())),
        )
        .await
    }

    /// Where its servers answer clients, by the names of their pods: also of pods to come.
    pub fn client_endpoints(&self) -> Vec<String> {
        (0..SERVERS_MAX)
            .map(|ordinal| {
                format!(
                    "{0}-{ordinal}.{0}-peers.{1}.svc:7400",
                    self.name, self.namespace
                )
            })
            .collect()
    }

    /// Waits until the server of each pod has applied all that is committed now; where they answer
    /// clients.
    pub async fn caught_up(&self) -> Result<Vec<String>> {
        let commit = self.leader().await?.1.commit_index;
        until_ok(
            "every server has applied what is committed",
            PATIENCE,
            async || {
                let statuses = self.statuses().await?;
                ensure!(
                    statuses.len() == self.pods().await?.len(),
                    "a server does not answer"
                );
                for (pod, status) in statuses {
                    let applied = status.applied_index;
                    ensure!(applied >= commit, "{pod} is at {applied} of {commit}");
                }
                Ok(())
            },
        )
        .await?;
        let addresses = self
            .pods()
            .await?
            .iter()
            .filter_map(address_of)
            .collect::<Vec<_>>();
        addresses
            .iter()
            .map(|address| Ok(format!("{address}:7400").parse()?))
            .collect()
    }
}

fn resources(cluster: &Cluster, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("kontiki.dev", "v1alpha1", "RaftCluster");
    Api::namespaced_with(
        cluster.client.clone(),
        namespace,
        &ApiResource::from_gvk(&kind),
    )
}

/// The status of a condition of a resource.
pub fn condition(resource: &Value, kind: &str) -> Option<String> {
    let conditions = resource["status"]["conditions"].as_array()?;
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == kind)?;
    found["status"].as_str().map(str::to_owned)
}

/// The pod's address, once it has one.
pub fn address_of(pod: &Pod) -> Option<String> {
    pod.status.as_ref()?.pod_ip.clone()
}
