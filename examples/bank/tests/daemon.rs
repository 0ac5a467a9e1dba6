//! The daemon as a program of its own: it goes by its own name, and runs no machine but its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

fn daemon(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bank-node"));
    let is_ours = |name: &str| name.starts_with("KONTIKI_") || name == "BANK_VERSIONS";
    for (name, _) in std::env::vars().filter(|(name, _)| is_ours(name)) {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

fn refused(output: Output, message: &str) {
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(text(output.stderr), format!("bank-node: {message}\n"));
}

#[test]
fn help_and_version_are_those_of_the_program() {
    let help = text(daemon(&["--help"]).output().expect("runs").stdout);
    assert!(help.contains("Usage: bank-node [OPTIONS]"), "{help}");
    assert!(!help.contains("--machine"), "{help}");
    let version = text(daemon(&["--version"]).output().expect("runs").stdout);
    assert!(version.starts_with("bank-node with Kontiki "), "{version}");
}

#[test]
fn another_machine_is_refused() {
    refused(
        daemon(&["--machine", "kv"]).output().expect("runs"),
        "--machine (or KONTIKI_MACHINE): machine is \"kv\", must be left out: this program has a \
         machine of its own",
    );
}

#[test]
fn versions_that_the_bank_does_not_know_are_refused() {
    for wrong in ["", "1", "0-1", "1-3", "2-1", "a-b"] {
        let output = daemon(&[]).env("BANK_VERSIONS", wrong).output();
        refused(
            output.expect("runs"),
            &format!("BANK_VERSIONS is {wrong:?}, must be such as 1-2"),
        );
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn it_starts_with_the_versions_that_it_is_told() {
    for (told, offered) in [
        (None, "1..=2"),
        (Some("1-1"), "1..=1"),
        (Some("2-2"), "2..=2"),
    ] {
        let any = "127.0.0.1:0";
        let mut command = daemon(&["--log-format", "json", "--listen-client", any]);
        command.args(["--listen-peer", any, "--listen-http", any]);
        command.envs(told.map(|versions| ("BANK_VERSIONS", versions)));
        let child = command.stderr(Stdio::piped()).spawn().expect("runs");
        let mut running = Running(child);
        let log = BufReader::new(running.0.stderr.take().expect("piped"));
        let started = log.lines().find_map(|line| {
            let event: serde_json::Value = serde_json::from_str(&line.ok()?).ok()?;
            (event["message"] == "started").then_some(event)
        });
        let started = started.expect("it starts");
        assert_eq!(started["machine"], "bank");
        assert_eq!(started["versions"], offered);
    }
}
