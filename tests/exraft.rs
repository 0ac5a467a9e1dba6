//! `docs/exraft.md` has every call of ExRaft, and every test that it names is there.

use std::path::{Path, PathBuf};

/// What ExRaft 0.2 has: `lib/ex_raft.ex` (calls, options, errors), `lib/ex_raft/state_machine.ex`
/// (callbacks).
const API: &[&str] = &[
    "start_server/2",
    "start_server/3",
    ":name",
    ":initial_config",
    ":min_majority",
    ":min_election_timeout",
    ":max_election_timeout",
    ":heartbeat_timeout",
    ":batch_size",
    ":dirty_read",
    ":debug",
    "stop_server/3",
    "await_leader/2",
    "trigger_election/2",
    "add_server/3",
    "remove_server/3",
    "write/3",
    "read/3",
    "read_dirty/3",
    "leader/2",
    "state/2",
    "inspect/2",
    "ping/2",
    "{:redirect, leader}",
    ":no_leader",
    ":no_commit",
    ":unstable_config",
    ":last_server",
    "init/1",
    "command?/2",
    "handle_write/2",
    "handle_read/2",
    "handle_system_write/3",
    "transition/2",
    "terminate/2",
];

/// Columns of a table.
const COLUMNS: usize = 5;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What is between backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The rows of all tables, as cells.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter_map(|line| {
        let row = line.strip_prefix('|')?.strip_suffix('|')?;
        Some(row.split('|').map(str::trim).collect::<Vec<_>>())
    });
    let is_header = |row: &Vec<&str>| row[0] == "ExRaft" || row[0].starts_with("---");
    rows.filter(|row| !is_header(row)).collect()
}

/// Whether a file has a test of that name.
fn has_test(file: &str, name: &str) -> bool {
    let declared = [format!("fn {name}()"), format!("fn {name}(")];
    let mut above = "";
    for line in file.lines().map(str::trim) {
        let code = line.strip_prefix("async ").unwrap_or(line);
        if declared.iter().any(|declared| code.starts_with(declared)) {
            return matches!(above, "#[test]" | "#[tokio::test]");
        }
        above = line;
    }
    false
}

fn complaints(text: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    let rows = rows(text);
    for call in API {
        let has = |row: &Vec<&str>| quoted(row[0]).any(|quoted| quoted == *call);
        if !rows.iter().any(has) {
            complaints.push(format!("{call}: no row"));
        }
    }
    for row in &rows {
        let call = row[0];
        if row.len() != COLUMNS {
            complaints.push(format!("{call}: {} columns, not {COLUMNS}", row.len()));
            continue;
        }
        for (at, _) in row[1].match_indices("*differs* (") {
            let number = row[1][at..].trim_start_matches("*differs* (");
            let number = number.split(')').next().unwrap_or_default();
            if !text.contains(&format!("\n{number}. ")) {
                complaints.push(format!("{call}: why it differs, ({number}), is not said"));
            }
        }
        let tests: Vec<_> = quoted(row[COLUMNS - 1]).collect();
        if tests.is_empty() {
            complaints.push(format!("{call}: no test"));
        }
        for test in tests {
            let named = test.split_once("::");
            let found = named.and_then(|(file, name)| Some(has_test(&read(file)?, name)));
            if found != Some(true) {
                complaints.push(format!("{call}: there is no test {test}"));
            }
        }
    }
    complaints
}

#[test]
fn every_call_of_exraft_has_its_row_and_every_row_its_tests() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).ok();
    let text = read("docs/exraft.md").expect("docs/exraft.md");
    let found = complaints(&text, read);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn a_missing_row_a_missing_test_and_a_missing_reason_are_found() {
    let table = |first: &str, ours: &str, test: &str| {
        let rest = API[1..].iter();
        let rest = rest.map(|call| format!("| `{call}` | x | x | x | `a.rs::there` |\n"));
        let rest: String = rest.collect();
        format!("| ExRaft |\n|---|\n| {first} | {ours} | x | x | {test} |\n{rest}\n1. why\n")
    };
    let file = "#[test]\nfn there() {}\nfn helper() {}\n#[tokio::test]\nasync fn too() {}\n";
    let read = |name: &str| (name == "a.rs").then(|| file.to_owned());
    let first = format!("`{}`", API[0]);
    let fine = table(&first, "x; *differs* (1)", "`a.rs::there` `a.rs::too`");
    assert_eq!(complaints(&fine, read), [""; 0]);
    for (first, ours, test) in [
        ("`other`", "x", "`a.rs::there`"),
        (&first, "x", "none"),
        (&first, "x", "`a.rs::helper`"),
        (&first, "x", "`a.rs::gone`"),
        (&first, "x", "`b.rs::there`"),
        (&first, "x; *differs* (2)", "`a.rs::there`"),
        (&first, "x | y", "`a.rs::there`"),
    ] {
        let found = complaints(&table(first, ours, test), read);
        assert_eq!(found.len(), 1, "{first} {ours} {test}: {found:?}");
    }
}
