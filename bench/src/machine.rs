//! The machine, as far as it matters to a reader of the figures.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rustix::fs::{statfs, statvfs};
use serde::Serialize;

/// `f_type` of a tmpfs (`statfs(2)`).
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// What a run of etcd may write, with its logs of 64 MiB a segment on three servers.
const FREE_BYTES_MIN: u64 = 2 << 30;

/// Where and when a report was made.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    pub cores: usize,
    pub processor: String,
    pub kernel: String,
    pub memory_bytes: u64,
    pub unix_time_s: u64,
}

/// Of this machine, now. What the kernel does not say is `unknown` or 0.
pub fn facts() -> Facts {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processor = value(&read("/proc/cpuinfo"), "model name")
        .unwrap_or("unknown")
        .to_owned();
    let memory = read("/proc/meminfo");
    let kibibytes = value(&memory, "MemTotal").and_then(|v| v.strip_suffix("kB"));
    Facts {
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        processor,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        memory_bytes: kibibytes
            .and_then(|v| v.trim().parse::<u64>().ok())
            .unwrap_or(0)
            * 1024,
        unix_time_s: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |t| t.as_secs()),
    }
}

/// Fails if `folder` is not on a tmpfs with room for a run.
pub fn check_tmpfs(folder: &Path) -> Result<()> {
    let name = folder.display();
    let advice = "name a folder on a tmpfs with 2 GiB free by --tmpfs";
    let kind = statfs(folder)
        .with_context(|| format!("look at {name}: {advice}"))?
        .f_type;
    ensure!(kind == TMPFS_MAGIC, "{name} is not on a tmpfs: {advice}");
    let space = statvfs(folder).with_context(|| format!("look at {name}"))?;
    let free = space.f_bavail * space.f_frsize;
    ensure!(
        free >= FREE_BYTES_MIN,
        "{name} has {} MiB free: {advice}",
        free >> 20
    );
    Ok(())
}

/// The value of the first line `key : value`.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then_some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_found() {
        let facts = facts();
        assert!(
            facts.cores >= 1 && facts.memory_bytes > 0 && !facts.kernel.is_empty(),
            "{facts:?}"
        );
        assert_eq!(
            value("a\t: 1\nmodel name\t: X Y\n", "model name"),
            Some("X Y")
        );
    }

    #[test]
    fn a_folder_that_is_no_tmpfs_is_refused_with_advice() {
        for folder in ["/proc", "/no/such/folder"] {
            let error = check_tmpfs(Path::new(folder)).unwrap_err();
            assert!(error.to_string().contains("--tmpfs"), "{error}");
        }
    }
}
