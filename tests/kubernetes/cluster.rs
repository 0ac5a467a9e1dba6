//! The Kubernetes cluster, as kubectl, helm and the API see it.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::Client;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Access to the cluster in `KUBECONFIG`.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
}

impl Cluster {
    /// Connects, and checks that pods can be reached from here: clients talk to them directly.
    pub async fn connect() -> Result<Self> {
        let client = Client::try_default()
            .await
            .context("no Kubernetes cluster: run these tests by `make e2e`, or set KUBECONFIG")?;
        let version = client
            .apiserver_version()
            .await
            .context("ask the API server who it is")?;
        let lookup = tokio::net::lookup_host("kubernetes.default.svc:443");
        match tokio::time::timeout(Duration::from_secs(20), lookup).await {
            Ok(Ok(_)) => Ok(Cluster { client }),
            _ => bail!(
                "names of Services ('kubernetes.default.svc') do not resolve here: with an existing \
                 cluster (Kubernetes {}), run the tests where its pods and its DNS can be reached",
                version.git_version
            ),
        }
    }

    /// Whether this is a cluster of our own, whose nodes' processes can be seen from here.
    pub fn is_ours() -> bool {
        std::env::var_os("KONTIKI_CLUSTER").is_some()
    }

    /// Runs kubectl; its standard output, or an error with what it said.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        succeeded("kubectl", arguments, run("kubectl", arguments, None).await?)
    }

    /// Runs kubectl with an input; what it printed, whether it succeeded or not.
    pub async fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<Output> {
        run("kubectl", arguments, Some(input)).await
    }

    /// Applies a manifest as a person would.
    pub async fn apply(&self, namespace: &str, manifest: &str) -> Result<String> {
        let arguments = ["apply", "--namespace", namespace, "--filename", "-"];
        succeeded(
            "kubectl",
            &arguments,
            run("kubectl", &arguments, Some(manifest)).await?,
        )
    }

    /// Runs helm; its standard output, or an error with what it said.
    pub async fn helm(&self, arguments: &[&str]) -> Result<String> {
        succeeded("helm", arguments, run("helm", arguments, None).await?)
    }
}

/// The checkout: charts and examples are there.
pub fn checkout() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a program to its end with `input` on its standard input.
pub async fn run(program: &str, arguments: &[&str], input: Option<&str>) -> Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start '{program}'"))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin
            .write_all(input.as_bytes())
            .await
            .with_context(|| format!("write to {program}"))?;
    }
    child
        .wait_with_output()
        .await
        .with_context(|| format!("wait for {program}"))
}

fn succeeded(program: &str, arguments: &[&str], output: Output) -> Result<String> {
    if !output.status.success() {
        bail!(
            "{program} {} ended with {}: {}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
