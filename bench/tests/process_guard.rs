//! No process outlives its guard, or the program that started it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kontiki_bench::process::Process;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kontiki-bench");

/// Whether a process is there and no zombie: one that was adopted may wait for its new parent.
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn command_line(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

#[test]
fn a_dropped_guard_kills_and_a_living_one_notices_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let start = |program: &str, argument: &str| {
        let (launcher, log) = (Path::new(PROGRAM), folder.path().join("log"));
        Process::start(launcher, "it", Path::new(program), &[argument.into()], log).unwrap()
    };
    let mut process = start("sleep", "600");
    let pid = process.id();
    eventually("it becomes sleep", || {
        command_line(pid).starts_with("sleep")
    });
    process.check_alive().unwrap();
    drop(process);
    assert!(!is_running(pid));

    let mut process = start("sleep", "soon");
    eventually("it ends", || process.check_alive().is_err());
    let error = process.check_alive().unwrap_err().to_string();
    assert!(error.contains("soon"), "its log is quoted: {error}");
}

#[test]
fn a_process_dies_with_the_one_that_started_it() {
    let script = r#""$0" run-tied $$ -- sleep 60 & echo $!; wait"#;
    let mut parent = Command::new("sh")
        .args(["-c", script, PROGRAM])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(parent.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let child: u32 = line.trim().parse().unwrap();
    eventually("it becomes sleep", || {
        command_line(child).starts_with("sleep")
    });
    parent.kill().unwrap();
    parent.wait().unwrap();
    eventually("it dies", || !is_running(child));
}

#[test]
fn a_process_whose_parent_is_gone_already_does_not_start() {
    let output = Command::new(PROGRAM)
        .args(["run-tied", "1", "--", "echo", "hi"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert_eq!(output.stdout, b"");
}
