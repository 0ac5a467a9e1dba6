//! A namespace of its own for every scenario.

use std::time::Duration;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::operator::Operator;
use crate::raft::Raft;
use crate::wait::until;

/// How long the objects of a scenario may take to go.
const REMOVAL: Duration = Duration::from_secs(120);

/// A namespace that enforces the pod security profile `restricted`.
pub struct Namespace {
    cluster: Cluster,
    pub name: String,
}

impl Namespace {
    /// Makes it; one that an interrupted run has left is removed first.
    pub async fn create(cluster: &Cluster, scenario: &str) -> Result<Self> {
        let namespace = Namespace {
            cluster: cluster.clone(),
            name: format!("kontiki-{scenario}"),
        };
        namespace.remove().await?;
        enforce_restricted(cluster, &namespace.name).await?;
        Ok(namespace)
    }

    /// The cluster `name` in this namespace.
    pub fn raft(&self, name: &str) -> Raft {
        Raft::new(self.cluster.clone(), &self.name, name)
    }

    /// Removes it, and waits until it is gone.
    pub async fn remove(&self) -> Result<()> {
        let name = self.name.as_str();
        self.cluster
            .kubectl(&[
                "delete",
                "namespace",
                name,
                "--ignore-not-found",
                "--wait=false",
            ])
            .await?;
        until(
            &format!("the namespace {name} is gone"),
            REMOVAL,
            async || {
                let arguments = [
                    "get",
                    "namespace",
                    name,
                    "--ignore-not-found",
                    "--output=name",
                ];
                Ok(self
                    .cluster
                    .kubectl(&arguments)
                    .await?
                    .is_empty()
                    .then_some(()))
            },
        )
        .await
    }

    /// Prints what can be seen of it, for a person who looks for the cause of a failure.
    pub async fn show(&self, operator: &Operator) {
        let name = self.name.as_str();
        for arguments in [
            &[
                "get",
                "raft,statefulset,pod,service,configmap,pdb",
                "-o",
                "wide",
                "-n",
                name,
            ][..],
            &["get", "raft", "-o", "yaml", "-n", name],
            &["get", "events", "--sort-by=.lastTimestamp", "-n", name],
            &[
                "logs",
                "--prefix",
                "--tail=25",
                "-l",
                "kontiki.dev/cluster",
                "-n",
                name,
            ],
        ] {
            self.show_command(arguments).await;
        }
        for raft in Raft::all(&self.cluster, name).await.unwrap_or_default() {
            for (pod, status) in raft.statuses().await.unwrap_or_default() {
                println!("  | {pod}: {status:?}");
            }
        }
        println!("  | the operator's log:");
        print_indented(&operator.log(120).await);
    }

    async fn show_command(&self, arguments: &[&str]) {
        println!("  | kubectl {}", arguments.join(" "));
        match self.cluster.kubectl(arguments).await {
            Ok(text) => print_indented(&text),
            Err(error) => print_indented(&format!("{error:#}")),
        }
    }
}

/// Makes a namespace, if it is not there, with the profile `restricted` enforced.
pub async fn enforce_restricted(cluster: &Cluster, name: &str) -> Result<()> {
    let manifest = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    });
    cluster.apply("default", &manifest.to_string()).await?;
    Ok(())
}

fn print_indented(text: &str) {
    for line in text.lines() {
        println!("  |   {line}");
    }
}
