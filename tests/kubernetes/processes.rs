//! Processes of containers. On a cluster of our own they run in this process namespace.

use std::fs;

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::Pod;
use rustix::process::{Pid, Signal, kill_process};

/// The process of the first container of a pod.
pub fn of_pod(pod: &Pod) -> Result<Pid> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let container = pod
        .status
        .as_ref()
        .and_then(|status| {
            status
                .container_statuses
                .as_ref()?
                .first()?
                .container_id
                .as_deref()
        })
        .and_then(|id| id.rsplit('/').next())
        .with_context(|| format!("pod {name} has no container yet"))?;
    for entry in fs::read_dir("/proc").context("read /proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process that has ended meanwhile has no file any more.
        let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if groups.contains(container) {
            return Pid::from_raw(pid).context("process id 0");
        }
    }
    bail!("no process of container {container} of pod {name} is to be seen here")
}

/// Sends a process a signal.
pub fn signal(pid: Pid, signal: Signal) -> Result<()> {
    kill_process(pid, signal).with_context(|| format!("send {signal:?} to process {pid:?}"))
}

/// Resident memory in bytes.
pub fn resident(pid: Pid) -> Result<u64> {
    let path = format!("/proc/{}/status", pid.as_raw_nonzero());
    let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let kibibytes: u64 = status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
        .ok_or_else(|| anyhow!("{path} has no VmRSS"))?;
    Ok(kibibytes * 1024)
}
