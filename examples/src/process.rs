//! Processes that are not children of this one, and the proof that they are gone.
//!
//! A pid is used again sooner or later; a pid with the time it started is not. A signal goes
//! through a pidfd that was opened before the start time was compared.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Deserialize;

/// One process, for as long as the machine is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// When it started, in clock ticks since the machine did.
    pub start_time: u64,
}

impl Process {
    /// What has this pid now, unless it is a zombie.
    pub fn find(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start_time) = parse_stat(&stat)?;
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, start_time })
    }

    /// Whether it runs.
    pub fn is_alive(self) -> bool {
        Self::find(self.pid) == Some(self)
    }

    /// Sends a signal; to a process that is gone, none.
    ///
    /// # Errors
    /// The operating system refuses it.
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(());
        };
        let gone = rustix::io::Errno::SRCH;
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(error) if error == gone => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if !self.is_alive() {
            return Ok(());
        }
        match pidfd_send_signal(&handle, signal) {
            Err(error) if error != gone => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// All processes, but for this one, with a path below `folder` on their command line.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn that_use(folder: &Path) -> io::Result<Vec<Self>> {
        let wanted = folder.as_os_str().as_encoded_bytes();
        let own = std::process::id().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().filter(|name| *name != own) else {
                continue;
            };
            let Ok(pid) = pid.parse() else { continue };
            // One that ends meanwhile has no command line any more.
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if line.windows(wanted.len()).any(|part| part == wanted) {
                found.extend(Self::find(pid));
            }
        }
        Ok(found)
    }
}

/// State and start time, fields 3 and 22 of `/proc/PID/stat`; counted behind the name, which may
/// itself have blanks and brackets.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    Some((state, start_time))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_is_no_trap() {
        let stat = "17 (a) b (c) S 1 17 17 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 11 12 13";
        assert_eq!(parse_stat(stat), Some(('S', 98765)));
        assert_eq!(parse_stat("17 (a"), None);
    }

    #[test]
    fn a_process_is_found_by_its_folder_signalled_and_then_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo; read line", "sh"])
            .arg(folder.path().join("file"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Spawned is not started: until the program runs there is no command line to find it by.
        let mut started = [0];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut started)
            .unwrap();
        let process = Process::find(i32::try_from(child.id()).unwrap()).unwrap();
        assert_eq!(Process::that_use(folder.path()).unwrap(), [process]);

        let earlier = Process {
            start_time: process.start_time - 1,
            ..process
        };
        earlier.signal(Signal::KILL).unwrap();
        assert!(
            process.is_alive(),
            "a process of another start time was signalled"
        );

        process.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive());
        assert!(Process::that_use(folder.path()).unwrap().is_empty());
        process.signal(Signal::KILL).unwrap();
    }
}
