//! Processes of ours that never outlive us: killed when their guard is dropped (an error, a panic,
//! Ctrl-C), and by the kernel if this process is killed itself.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// How many bytes of a process's log an error quotes.
const LOG_QUOTE_BYTES_MAX: usize = 2000;

/// A running process, killed on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; what it prints goes to the file `log`. `launcher` is this program: the kernel
    /// ties a process to its parent only at the process's own request, which a program of another
    /// project does not make, so it is started by way of [`become_tied`].
    ///
    /// Call it from the main thread: the tie is to the *thread* that starts the process.
    pub fn start(
        launcher: &Path,
        name: &str,
        program: &Path,
        arguments: &[OsString],
        log: PathBuf,
    ) -> Result<Self> {
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let child = Command::new(launcher)
            .arg("run-tied")
            .arg(std::process::id().to_string())
            .arg("--")
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("share the log")?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Process {
            child,
            name: name.to_owned(),
            log,
        })
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fails if the process has ended, quoting the end of its log.
    pub fn check_alive(&mut self) -> Result<()> {
        match self
            .child
            .try_wait()
            .with_context(|| format!("look after {}", self.name))?
        {
            None => Ok(()),
            Some(status) => bail!(
                "{} ended ({status}); its log ends: {}",
                self.name,
                self.quote()
            ),
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child
            .kill()
            .with_context(|| format!("kill {}", self.name))?;
        self.child
            .wait()
            .with_context(|| format!("wait for {}", self.name))
    }

    /// The end of its log.
    pub fn quote(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let from = log.len().saturating_sub(LOG_QUOTE_BYTES_MAX);
        String::from_utf8_lossy(&log[from..]).trim().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors mean that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks the kernel for SIGKILL when the parent ends, then becomes `program` in the same process. Only
/// returns if that fails.
pub fn become_tied(parent: u32, program: &[impl AsRef<OsStr>]) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("tie to the parent")?;
    // It may have ended before the request.
    let now = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if now != Some(parent) {
        bail!("process {parent} is not the parent, {now:?} is");
    }
    let (program, arguments) = program.split_first().context("no program named")?;
    let program = program.as_ref();
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("run {}", program.display()))
}
