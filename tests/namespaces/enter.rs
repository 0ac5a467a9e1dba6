//! Network, mount and process namespaces of the run's own. Everything that the run makes is in them,
//! so nothing of it is left when the run ends, however it ends: bridges, rules and mounts go with the
//! namespaces, and no process outlives the first one of its process namespace, which is this program.
//!
//! Root needs nothing for it. Anybody else becomes root of a user namespace, if the machine lets him.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::run;

/// Says to the program that it runs inside.
const INSIDE: &str = "KONTIKI_TESTS_INSIDE";

/// What the run calls, and the packages of Debian that have it.
const PROGRAMS: [(&str, &str); 5] = [
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
];

/// Whether this is the first process of namespaces that [`enter`] made.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some() && std::process::id() == 1
}

/// Becomes a copy of this program inside; comes back only if that is not possible.
///
/// # Errors
/// Says what the machine lacks or forbids.
pub fn enter() -> Result<()> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/local/sbin:/usr/sbin:/sbin";
    for (program, package) in PROGRAMS {
        let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
        if !found {
            bail!("{program} is not there; tests/namespaces/install.sh installs {package}");
        }
    }
    let mut words: Vec<OsString> = ["--net", "--mount", "--pid", "--fork"]
        .map(OsString::from)
        .into();
    words.extend(["--mount-proc", "--kill-child"].map(OsString::from));
    if !rustix::process::geteuid().is_root() {
        words.extend(["--user", "--map-root-user"].map(OsString::from));
    }
    let tried = Command::new("unshare").args(&words).arg("true").output()?;
    if !tried.status.success() {
        bail!(
            "namespaces cannot be made ({}); run as root, or allow user namespaces",
            String::from_utf8_lossy(&tried.stderr).trim()
        );
    }
    let error = Command::new("unshare")
        .args(&words)
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env("PATH", path)
        .env(INSIDE, "1")
        .exec();
    Err(error).context("unshare")
}

/// The first thing to do inside. `ip netns` wants a place under /run that only this run sees.
///
/// # Errors
/// Says what the machine forbids.
pub fn furnish() -> Result<()> {
    run("mount", &["-t", "tmpfs", "tmpfs", "/run"])?;
    run("ip", &["link", "set", "lo", "up"]).map(drop)
}
