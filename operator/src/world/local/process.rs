//! Processes that may not be children of this one: those that an operator before this started.
//!
//! A pid is used again sooner or later; a pid with the time it started is not. Every signal goes
//! through a pidfd that was opened before the start time was compared, so that it cannot reach
//! another process.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process for as long as the machine is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// When it started, in clock ticks since the machine did.
    pub start_time: u64,
}

impl Process {
    /// The process that has `pid` now; `None` if there is none, or only its remains.
    pub fn find(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start_time) = parse_stat(&stat)?;
        (!matches!(state, 'Z' | 'X' | 'x')).then_some(Self { pid, start_time })
    }

    /// Whether it lives.
    pub fn is_alive(self) -> bool {
        Self::find(self.pid) == Some(self)
    }

    /// Sends `signal`. A process that is gone is no error.
    ///
    /// # Errors
    /// It may not be signalled.
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(());
        };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if !self.is_alive() {
            return Ok(());
        }
        match pidfd_send_signal(&handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Every living process that has `argument` on its command line: the file is ours alone, so is
    /// the process. Finds one that was started in the moment before the operator was killed.
    pub fn with_argument(argument: &Path) -> Vec<Self> {
        let wanted = argument.as_os_str().as_encoded_bytes();
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pids = entries
            .flatten()
            .filter_map(|e| e.file_name().to_str()?.parse().ok());
        let has = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0)
                .any(|argument| argument == wanted)
        };
        pids.filter(has).filter_map(Self::find).collect()
    }
}

/// State and start time: fields 3 and 22 of proc_pid_stat(5). The second field is a name that may
/// hold anything, so fields are counted from its last parenthesis.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    Some((state, start_time))
}

/// Identifies this run of the machine: after a reboot no process of before lives.
pub fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_no_trap() {
        let stat = "17 (a) b (c) S 1 17 17 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 11 12 13";
        assert_eq!(parse_stat(stat), Some(('S', 98765)));
        assert_eq!(parse_stat("17 (a"), None);
    }

    #[test]
    fn a_process_is_found_signalled_and_then_gone() {
        let mut child = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = Process::find(pid).unwrap();
        let earlier = Process {
            start_time: process.start_time - 1,
            ..process
        };
        assert!(process.is_alive() && !earlier.is_alive());

        earlier.signal(Signal::KILL).unwrap();
        assert!(
            process.is_alive(),
            "a process of another start time was signalled"
        );

        process.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive());
        process.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn a_process_is_found_by_its_argument() {
        let folder = tempfile::tempdir().unwrap();
        let marker = folder.path().join("marker");
        let mut command = Command::new("sh");
        command
            .args(["-c", "read line", "sh"])
            .arg(&marker)
            .stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let expected = [Process::find(pid).unwrap()];
        // Its command line is empty for a moment after it has started.
        let deadline = Instant::now() + Duration::from_secs(30);
        while Process::with_argument(&marker) != expected {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(Process::with_argument(&marker).is_empty());
    }
}
