//! Holds `docs/paper.md` to the tests that there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Names in backticks that look like tests of the paper.
fn named(text: &str) -> BTreeSet<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| is_of_the_paper(name))
        .map(str::to_owned)
        .collect()
}

fn is_of_the_paper(name: &str) -> bool {
    let section = name.strip_prefix('s').unwrap_or_default();
    name.starts_with("fig2_")
        || name.starts_with("thesis_")
        || section.starts_with(|first: char| first.is_ascii_digit())
}

/// Functions of the modules beside this one that a line `#[test]` is above.
fn written() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in fs::read_dir(root().join("node/raft/tests/paper")).expect("it is there") {
        let text = fs::read_to_string(file.expect("readable").path()).expect("readable");
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            let function = line.strip_prefix("fn ").and_then(|it| it.split_once('('));
            if let Some((name, _)) = function
                && std::mem::take(&mut is_test)
                && is_of_the_paper(name)
            {
                found.insert(name.to_owned());
            }
            is_test |= line == "#[test]";
        }
    }
    found
}

#[test]
fn the_table_of_the_paper_names_every_test_and_no_other() {
    let table = fs::read_to_string(root().join("docs/paper.md")).expect("the table is there");
    let (named, written) = (named(&table), written());
    assert!(written.len() >= 90, "only {} tests found", written.len());
    let missing: Vec<_> = named.difference(&written).collect();
    let unlisted: Vec<_> = written.difference(&named).collect();
    assert!(
        missing.is_empty(),
        "docs/paper.md names tests that are not there: {missing:?}"
    );
    assert!(
        unlisted.is_empty(),
        "tests that docs/paper.md does not name: {unlisted:?}"
    );
    for section in ["2", "5.1", "5.2", "5.3", "5.4", "5.5", "5.6", "6", "7", "8"] {
        assert!(
            table.contains(&format!("| {section} |")),
            "no row of section {section}"
        );
    }
    for section in [
        "3.10", "4.1", "4.2.1", "4.2.2", "4.2.3", "4.3", "6.2", "6.4", "6.4.1", "9.6",
    ] {
        assert!(
            table.contains(&format!("| thesis {section} |")),
            "no row of thesis {section}"
        );
    }
}
