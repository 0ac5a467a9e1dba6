//! Holds `docs/scenarios.md` to what there is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Codes of each letter.
const CODES: [(char, u32); 8] = [
    ('A', 12),
    ('B', 12),
    ('C', 11),
    ('D', 5),
    ('E', 7),
    ('F', 6),
    ('G', 5),
    ('H', 15),
];

/// The letter whose codes need not all be there.
const WITH_GAPS: char = 'H';

/// What a line may wait for.
const COMING: [&str; 1] = ["with durable storage"];

/// Folders whose files are named after codes.
const NAMED: [&str; 2] = ["node/raft/testdata", "tests/mutants"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The code that a file or a test is named after.
fn code_of(name: &str) -> Option<String> {
    let (code, _) = name.split_once(['_', '-'])?;
    let (letter, number) = code.split_at_checked(1)?;
    let letter = letter.to_ascii_uppercase().chars().next()?;
    let last = CODES.iter().find(|(it, _)| *it == letter)?.1;
    let number: u32 = number.parse().ok()?;
    (1..=last)
        .contains(&number)
        .then(|| format!("{letter}{number}"))
}

/// Its name without folders, or that of the test after `::`.
fn name_of(held: &str) -> &str {
    held.rsplit(['/', ':']).next().unwrap_or(held)
}

fn exists(held: &str) -> bool {
    let (file, test) = held.split_once("::").unwrap_or((held, ""));
    let text = fs::read_to_string(root().join(file)).unwrap_or_default();
    !text.is_empty() && (test.is_empty() || text.contains(&format!("fn {test}(")))
}

fn files(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("it is there") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            let path = path.strip_prefix(root()).expect("within the checkout");
            found.insert(path.to_str().expect("UTF-8").to_owned());
        }
    }
}

#[test]
fn the_table_of_scenarios_has_every_code_and_names_what_is_there() {
    let table = fs::read_to_string(root().join("docs/scenarios.md")).expect("the table is there");
    let mut codes = Vec::new();
    let mut named = BTreeSet::new();
    let mut wrong = Vec::new();
    for line in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let columns: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [code, _, held] = columns[..] else {
            wrong.push(format!("not three columns: {line}"));
            continue;
        };
        codes.push(code.to_owned());
        let held: Vec<&str> = held.split(", ").collect();
        let is_named_after =
            |it: &&str| code_of(name_of(it.trim_matches('`'))).as_deref() == Some(code);
        let is_coming = held.iter().any(|it| COMING.contains(it));
        if !is_coming && !held.iter().any(is_named_after) {
            wrong.push(format!("{code}: nothing is named after it"));
        }
        for it in held {
            match it.strip_prefix('`').and_then(|it| it.strip_suffix('`')) {
                Some(path) if exists(path) => {
                    named.insert(path.to_owned());
                }
                Some(path) => wrong.push(format!("{code}: {path} is not there")),
                None if COMING.contains(&it) => {}
                None => wrong.push(format!("{code}: what is {it:?}?")),
            }
        }
    }
    let all = CODES
        .iter()
        .flat_map(|(letter, last)| (1..=*last).map(move |n| format!("{letter}{n}")))
        .filter(|code| !code.starts_with(WITH_GAPS) || codes.contains(code));
    assert_eq!(codes, all.collect::<Vec<_>>(), "every code once, in order");
    let mut there = BTreeSet::new();
    NAMED
        .iter()
        .for_each(|folder| files(&root().join(folder), &mut there));
    let unlisted = there
        .iter()
        .filter(|it| code_of(name_of(it)).is_some() && !named.contains(*it));
    wrong.extend(unlisted.map(|it| format!("{it} is not in the table")));
    assert!(wrong.is_empty(), "docs/scenarios.md:\n{}", wrong.join("\n"));
}
