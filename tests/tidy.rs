//! Rules about the source that no compiler checks: which module must not import what (the table in
//! the architecture), files that no `mod` declares, files that grew too long, mutants that no longer
//! apply, generated files that are stale.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file is one noun; past this it is several.
const LINES_MAX: usize = 500;

/// Files that may be longer, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[(
    "operator/plan/tests/world/mod.rs",
    "the model world of the planner's scripts, which reads as one story",
)];

/// Folder, words that must not be in its code, and why.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "node/raft/src",
        &[
            "async fn",
            "tokio",
            "tonic",
            "Instant",
            "SystemTime",
            "rand::",
            "std::fs",
            "std::net",
            "std::io",
            "kontiki_proto",
            "HashMap",
            "HashSet",
            "tracing",
            "println!",
            "std::thread",
        ],
    ),
    (
        "node/src/driver",
        &[
            "tokio::",
            "tonic",
            "std::thread",
            "Instant",
            "SystemTime",
            "rand::",
            "match role",
            "HashMap<",
            "HashSet<",
            "kontiki_proto",
        ],
    ),
    (
        "node/src/api",
        &["crate::wal", "crate::peer", "kontiki_raft::Raft"],
    ),
    ("node/src/wal", &["crate::peer", "tonic", "Role::"]),
    (
        "node/src/machine",
        &[
            "crate::peer",
            "crate::wal",
            "Instant",
            "SystemTime",
            "rand::",
        ],
    ),
    (
        "operator/plan/src",
        &[
            "kube::",
            "k8s_openapi",
            "tokio",
            "kontiki_proto",
            "Instant",
            "SystemTime",
        ],
    ),
    // A run must depend on its seed alone.
    (
        "tests/src/world",
        &["HashMap", "HashSet", "Instant", "SystemTime", "rand::"],
    ),
    (
        "tests/src/disk",
        &["HashMap", "HashSet", "Instant", "SystemTime", "rand::"],
    ),
    (
        "tests/src/invariants",
        &["HashMap", "HashSet", "Instant", "SystemTime", "rand::"],
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the checkout")
}

fn tracked(end: &str) -> Vec<String> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root())
        .output()
        .expect("git starts");
    assert!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names = String::from_utf8(output.stdout).expect("names are UTF-8");
    let exists = |name: &&str| name.ends_with(end) && root().join(name).is_file();
    names
        .split_terminator('\0')
        .filter(exists)
        .map(str::to_owned)
        .collect()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The code of a file: without comments, and without its tests.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line));
    lines
        .take_while(|(_, line)| *line != "#[cfg(test)]")
        .map(|(number, line)| (number, line.split("//").next().unwrap_or(line)))
}

/// Lines with a word that the folder must not have.
fn forbidden_in(name: &str, text: &str, words: &[&str]) -> Vec<String> {
    let found = code(text).filter_map(|(number, line)| {
        let word = words.iter().find(|word| contains_word(line, word))?;
        Some(format!("{name}:{number}: `{word}` must not be used here"))
    });
    found.collect()
}

/// Whether `line` has `word`, not within a longer name.
fn contains_word(line: &str, word: &str) -> bool {
    let named = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let open = word.ends_with(|c: char| !named(c));
        !before.is_some_and(named) && (open || !after.is_some_and(named))
    })
}

fn fail_on(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn modules_import_only_what_the_architecture_allows() {
    let files = tracked(".rs");
    let mut complaints = Vec::new();
    for (folder, words) in FORBIDDEN {
        let inside = |name: &&String| Path::new(name).starts_with(folder);
        for name in files.iter().filter(inside) {
            complaints.extend(forbidden_in(name, &read(name), words));
        }
    }
    fail_on(complaints);
}

#[test]
fn a_forbidden_import_is_found() {
    let text = "use std::time::Instant;\n// rand:: in a comment\nlet operand::x = 1;\n";
    let found = forbidden_in("x.rs", text, &["Instant", "rand::"]);
    assert_eq!(found, ["x.rs:1: `Instant` must not be used here"]);
}

#[test]
fn every_file_is_declared_by_a_module() {
    let files: BTreeSet<String> = tracked(".rs").into_iter().collect();
    let mut declared = BTreeSet::new();
    for name in &files {
        declared.extend(declared_by(name, &read(name)));
    }
    let orphans = files
        .iter()
        .filter(|name| !is_root(name) && !declared.contains(*name));
    fail_on(
        orphans
            .map(|name| format!("{name}: no `mod` declares it"))
            .collect(),
    );
}

/// Crate roots: what Cargo finds by itself, or is told of in a manifest.
fn is_root(name: &str) -> bool {
    let path = Path::new(name);
    let file = path
        .file_name()
        .and_then(|file| file.to_str())
        .unwrap_or_default();
    let folder = path
        .parent()
        .and_then(Path::file_name)
        .and_then(|folder| folder.to_str());
    let by_place = matches!(folder, Some("bin" | "examples" | "benches" | "tests"));
    let standard = matches!(file, "lib.rs" | "main.rs" | "build.rs");
    standard || (by_place && file != "mod.rs") || named_in_manifest(path)
}

fn named_in_manifest(path: &Path) -> bool {
    path.ancestors().skip(1).any(|folder| {
        let manifest = root().join(folder).join("Cargo.toml");
        let inside = path
            .strip_prefix(folder)
            .unwrap_or(path)
            .to_string_lossy()
            .into_owned();
        std::fs::read_to_string(manifest)
            .is_ok_and(|text| text.contains(&format!("path = \"{inside}\"")))
    })
}

/// Files that the `mod` lines of a file may mean.
fn declared_by(name: &str, text: &str) -> Vec<String> {
    let path = Path::new(name);
    let folder = path.parent().expect("a file is in a folder");
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    let own = match stem {
        "lib" | "main" | "mod" => folder.to_owned(),
        _ if is_root(name) => folder.to_owned(),
        _ => folder.join(stem),
    };
    let mut files = Vec::new();
    let mut path_attribute = None;
    for line in text.lines().map(str::trim) {
        if let Some(given) = line.strip_prefix("#[path = \"") {
            path_attribute = given.strip_suffix("\"]");
            continue;
        }
        let line = line
            .split_once("mod ")
            .filter(|(before, _)| before.is_empty() || before.starts_with("pub"));
        let Some(module) = line.and_then(|(_, rest)| rest.strip_suffix(';')) else {
            continue;
        };
        match path_attribute.take() {
            Some(given) => files.push(folder.join(given)),
            None => {
                files.push(own.join(format!("{module}.rs")));
                files.push(own.join(module).join("mod.rs"));
            }
        }
    }
    files
        .iter()
        .map(|file| file.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn modules_are_found_where_they_are_declared() {
    let files = declared_by("a/src/x.rs", "mod y;\npub(crate) mod z;\nlet mod_w = 1;\n");
    assert_eq!(
        files,
        [
            "a/src/x/y.rs",
            "a/src/x/y/mod.rs",
            "a/src/x/z.rs",
            "a/src/x/z/mod.rs"
        ]
    );
}

#[test]
fn files_are_short() {
    let mut complaints = Vec::new();
    for name in tracked(".rs") {
        let lines = read(&name).lines().count();
        let allowed = LONG_FILES.iter().any(|(long, _)| *long == name);
        if lines > LINES_MAX && !allowed {
            complaints.push(format!("{name}: {lines} lines, {LINES_MAX} are allowed"));
        }
        if lines <= LINES_MAX && allowed {
            complaints.push(format!("{name}: no longer long, take it off the list"));
        }
    }
    fail_on(complaints);
}

#[test]
fn every_mutant_applies() {
    let patches: Vec<String> = tracked(".patch")
        .into_iter()
        .filter(|name| name.starts_with("tests/mutants/"))
        .collect();
    assert!(patches.len() >= 25, "only {} mutants", patches.len());
    let mut complaints = Vec::new();
    for name in patches {
        let output = Command::new("git")
            .args(["apply", "--check", &name])
            .current_dir(root())
            .output()
            .expect("git starts");
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            complaints.push(format!("{name}: {why}"));
        }
    }
    fail_on(complaints);
}

#[test]
fn the_chart_carries_the_generated_crd() {
    let generated = tracked("crds/raftclusters.yaml");
    let mut contents: Vec<(String, String)> = generated
        .into_iter()
        .map(|name| (name.clone(), read(&name)))
        .collect();
    let Some((first, content)) = contents.pop() else {
        return; // a checkout without the CRD
    };
    let differ = contents.iter().filter(|(_, other)| *other != content);
    fail_on(
        differ
            .map(|(name, _)| format!("{name} differs from {first}"))
            .collect(),
    );
}
