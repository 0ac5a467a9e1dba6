//! The operator, installed by its chart as a pod.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};

use crate::cluster::{Cluster, checkout};
use crate::namespace::enforce_restricted;
use crate::wait::until_ok;

/// Where it is installed.
pub const NAMESPACE: &str = "kontiki-system";

const RELEASE: &str = "kontiki-operator";

/// The installed operator.
pub struct Operator {
    cluster: Cluster,
}

impl Operator {
    /// Installs the chart of this checkout, or upgrades to it, and waits until it is up.
    pub async fn install(cluster: &Cluster) -> Result<Self> {
        enforce_restricted(cluster, NAMESPACE).await?;
        let chart = checkout().join("charts/kontiki-operator");
        let chart = chart.to_str().context("the path of the chart")?;
        let tag = std::env::var("TAG").unwrap_or_default();
        let tag = if tag.is_empty() { "dev" } else { &tag };
        let operator_tag = format!("image.tag={tag}");
        let node_tag = format!("nodeImage.tag={tag}");
        cluster
            .helm(&[
                "upgrade",
                "--install",
                RELEASE,
                chart,
                "--namespace",
                NAMESPACE,
                "--wait",
                "--timeout=120s",
                "--set",
                "image.repository=localhost/kontiki-operator",
                "--set",
                &operator_tag,
                "--set",
                "nodeImage.repository=localhost/kontiki-node",
                "--set",
                &node_tag,
            ])
            .await?;
        let operator = Operator {
            cluster: cluster.clone(),
        };
        operator.up().await?;
        Ok(operator)
    }

    /// Its pod.
    pub async fn pod(&self) -> Result<Pod> {
        let api: Api<Pod> = Api::namespaced(self.cluster.client.clone(), NAMESPACE);
        let selector = ListParams::default().labels("app.kubernetes.io/name=kontiki-operator");
        let pods = api.list(&selector).await?.items;
        pods.into_iter()
            .find(|pod| pod.metadata.deletion_timestamp.is_none())
            .context("the operator has no pod")
    }

    /// Waits until its pod is ready.
    pub async fn up(&self) -> Result<()> {
        until_ok(
            "the operator's pod is ready",
            Duration::from_secs(120),
            async || {
                let pod = self.pod().await?;
                ensure!(is_ready(&pod), "its pod is not ready");
                Ok(())
            },
        )
        .await
    }

    /// Its pod dies at once, without a chance to finish anything.
    pub async fn kill(&self) -> Result<()> {
        let name = self
            .pod()
            .await?
            .metadata
            .name
            .context("a pod without a name")?;
        self.cluster
            .kubectl(&[
                "delete",
                "pod",
                &name,
                "-n",
                NAMESPACE,
                "--grace-period=0",
                "--force",
            ])
            .await
            .map(drop)
    }

    /// The last lines of its log.
    pub async fn log(&self, lines: u32) -> String {
        let (deployment, tail) = (format!("deployment/{RELEASE}"), format!("--tail={lines}"));
        match self
            .cluster
            .kubectl(&["logs", &deployment, "-n", NAMESPACE, &tail])
            .await
        {
            Ok(text) => text,
            Err(error) => format!("{error:#}"),
        }
    }
}

/// Whether a pod's condition Ready is true.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}
