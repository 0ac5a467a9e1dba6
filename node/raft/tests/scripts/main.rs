//! Scripts with golden output: what servers say and do in a scenario, as text that explains it.
//!
//! `testdata/<topic>/<claim>.txt` holds commands (lines that begin with `> `), each followed by what
//! happened. A difference fails; `UPDATE=1 cargo test -p kontiki-raft --test scripts` writes what
//! happens now into the files, to be read before it is committed. The commands are in `command.rs`.

mod command;
mod table;
mod words;
mod world;

use std::fs;
use std::path::{Path, PathBuf};

use world::World;

/// Runs a script; answers it with the output that it has now.
fn run(script: &str) -> String {
    let mut world = World::default();
    let mut out = String::new();
    let mut is_output = false;
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            out.push_str(line);
            out.push('\n');
            command::run(&mut world, command);
            for event in world.take_events() {
                out.push_str(&format!("  {event}\n"));
            }
            is_output = true;
        } else if !(is_output && line.starts_with("  ")) {
            is_output = false;
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn scripts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("testdata is there") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            scripts(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn every_script_does_what_it_says() {
    let mut found = Vec::new();
    scripts(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"),
        &mut found,
    );
    found.sort();
    assert!(found.len() >= 15, "only {} scripts", found.len());
    let mut wrong = Vec::new();
    for path in &found {
        println!("{}", path.display()); // shown if it panics
        let script = fs::read_to_string(path).expect("readable");
        let now = run(&script);
        if now == script {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            fs::write(path, now).expect("writable");
            continue;
        }
        let differing = script
            .lines()
            .zip(now.lines())
            .position(|(was, is)| was != is);
        let line = differing.unwrap_or(script.lines().count().min(now.lines().count()));
        wrong.push(format!(
            "{}:{}: the script says\n    {}\n  and it is\n    {}",
            path.display(),
            line + 1,
            script.lines().nth(line).unwrap_or("(end)"),
            now.lines().nth(line).unwrap_or("(end)"),
        ));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
