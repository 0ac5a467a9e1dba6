//! Memory of a process.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

/// In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Resident set: all pages in memory, those of the program file included.
    pub resident_bytes: u64,
    /// `Pss_Anon`: heap and stacks, without what is backed by a file.
    pub anonymous_bytes: u64,
}

/// The memory of process `pid` now.
pub fn memory_of(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    parse_rollup(&text).with_context(|| format!("{path} has no Rss or no Pss_Anon"))
}

/// The most that process `pid` has had resident since it began, in bytes.
pub fn peak_of(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    bytes_of(&text, "VmHWM:").with_context(|| format!("{path} has no VmHWM"))
}

fn parse_rollup(text: &str) -> Option<Memory> {
    Some(Memory {
        resident_bytes: bytes_of(text, "Rss:")?,
        anonymous_bytes: bytes_of(text, "Pss_Anon:")?,
    })
}

/// The value of a line that begins with `key`, in bytes; the kernel writes it in kibibytes.
fn bytes_of(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollup_is_in_kibibytes() {
        let text = "55-7f ---p 00000000 00:00 0   [rollup]\nRss:    1712 kB\nPss_Anon:  116 kB\n";
        let memory = parse_rollup(text).unwrap();
        assert_eq!(
            (memory.resident_bytes, memory.anonymous_bytes),
            (1_753_088, 118_784)
        );
        assert_eq!(parse_rollup("Rss: 1712 kB\n"), None);
        assert_eq!(parse_rollup("Rss: 1712\nPss_Anon: 3 kB\n"), None);
    }

    #[test]
    fn memory_that_is_written_to_is_seen() {
        let before = memory_of(std::process::id()).unwrap();
        // Other tests of this process allocate and free a few MiB meanwhile.
        let block = vec![1u8; 128 << 20];
        let after = memory_of(std::process::id()).unwrap();
        assert!(block.iter().all(|b| *b == 1));
        assert!(
            after.anonymous_bytes >= before.anonymous_bytes + (96 << 20),
            "{after:?}"
        );
        assert!(after.resident_bytes >= after.anonymous_bytes, "{after:?}");
        drop(block);
        let peak = peak_of(std::process::id()).unwrap();
        assert!(
            peak >= before.resident_bytes + (96 << 20),
            "{peak} after {after:?}"
        );
    }
}
