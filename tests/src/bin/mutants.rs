//! `mutants`: applies each patch of `tests/mutants` to a copy of the tree, builds the simulator there
//! and demands that it catches the broken code. A patch whose first line is `# profile: NAME` is for that
//! profile; the others are for the default one.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use kontiki_tests::profile::{PROFILES, Profile};

/// Seeds within which a mutant must be caught.
const SEEDS_MAX: u64 = 500;

/// How a patch begins that names its profile.
const PROFILE: &str = "# profile: ";

/// What is shown of how one was caught, in characters.
const LINE_MAX: usize = 150;

/// Runs the simulator against deliberately broken code. Exits with 1 if a patch does not apply, does
/// not build, or is not caught.
#[derive(Parser)]
#[command(name = "mutants")]
struct Arguments {
    /// Only those whose name begins so.
    #[arg(default_value = "")]
    only: String,
    /// Cargo's target directory. The mutants are built apart within it: Cargo takes a copy of a
    /// workspace for the workspace itself.
    #[arg(long, env = "CARGO_TARGET_DIR")]
    target_dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mutants: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()?;
    let target = match &arguments.target_dir {
        Some(target) => std::path::absolute(target)?,
        None => root.join("target"),
    };
    let mut patches = Vec::new();
    for found in std::fs::read_dir(root.join("tests/mutants"))? {
        let path = found?.path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.extension().is_some_and(|end| end == "patch") && name.starts_with(&arguments.only) {
            patches.push((name, path));
        }
    }
    patches.sort();
    ensure!(
        !patches.is_empty(),
        "no patch in tests/mutants begins with {:?}",
        arguments.only
    );
    // One place for all copies, so that Cargo builds only what differs.
    // Within the target directory, which git ignores.
    let scratch = target.join("mutants");
    let mut all_caught = true;
    for (name, patch) in &patches {
        let started = Instant::now();
        let line = match judge(&root, &scratch, &target, patch) {
            Ok(caught) => caught,
            Err(error) => {
                all_caught = false;
                format!("NOT CAUGHT: {error:#}")
            }
        };
        println!(
            "{name:<58} {line} ({:.0} s)",
            started.elapsed().as_secs_f64()
        );
    }
    std::fs::remove_dir_all(&scratch).context("removing the copy")?;
    println!(
        "{} mutants, {}",
        patches.len(),
        if all_caught { "all caught" } else { "FAILED" }
    );
    Ok(all_caught)
}

/// How the simulator caught it.
fn judge(root: &Path, scratch: &Path, target: &Path, patch: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(patch).context("reading the patch")?;
    let profile = profile_of(&text)?;
    copy_tree(root, scratch)?;
    let applied = Command::new("git")
        .args(["apply", "--whitespace=nowarn"])
        .arg(patch)
        .current_dir(scratch)
        // The copy is no repository: without this, git would look for one above it, and skip.
        .env("GIT_CEILING_DIRECTORIES", target)
        .output()
        .context("starting git")?;
    if !applied.status.success() {
        bail!(
            "the patch does not apply: {}",
            String::from_utf8_lossy(&applied.stderr)
        );
    }
    let binaries = target.join("mutants-build");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", "kontiki-tests", "--bin", "sim"])
        .current_dir(scratch)
        .env("CARGO_TARGET_DIR", &binaries)
        // `make` links programs statically; a procedural macro cannot be, and a debug build has no
        // target that would keep the flag away from them.
        .env_remove("RUSTFLAGS")
        .stderr(Stdio::piped())
        .output()
        .context("starting cargo")?;
    if !built.status.success() {
        bail!(
            "it does not build: {}",
            String::from_utf8_lossy(&built.stderr)
        );
    }
    let simulated = Command::new(binaries.join("debug/sim"))
        .args(["--profile", profile.name, "--shrink-runs", "0"])
        .args(["--seeds", &SEEDS_MAX.to_string()])
        .output()
        .context("starting the simulator")?;
    let output = String::from_utf8_lossy(&simulated.stdout);
    let failed = output.lines().find(|line| line.starts_with("FAILED seed="));
    match failed {
        Some(line) => {
            let how: String = line
                .trim_start_matches("FAILED ")
                .chars()
                .take(LINE_MAX)
                .collect();
            let script = kept_script(root, patch, &binaries.join("debug/sim"))?;
            Ok(format!("caught profile={} {how}{script}", profile.name))
        }
        None => bail!("{SEEDS_MAX} seeds of profile {} passed", profile.name),
    }
}

/// Replays the kept script that has the name of the patch, if there is one: it must still fail.
fn kept_script(root: &Path, patch: &Path, simulator: &Path) -> anyhow::Result<String> {
    let name = patch.file_stem().context("a patch without a name")?;
    let script = root.join("tests/sim/scripts").join(name);
    let script = script.with_added_extension("txt");
    if !script.is_file() {
        return Ok(String::new());
    }
    let replayed = Command::new(simulator)
        .arg("--script")
        .arg(&script)
        .output()
        .context("starting the simulator")?;
    let output = String::from_utf8_lossy(&replayed.stdout);
    if !output.lines().any(|line| line.starts_with("FAILED seed=")) {
        bail!("its script does not fail any more: {}", script.display());
    }
    let is_same = output.contains("bit for bit");
    Ok(match is_same {
        true => ", its script fails bit for bit".into(),
        false => ", its script fails, otherwise than it did".into(),
    })
}

/// The profile that the first line of a patch names, or the default one.
fn profile_of(patch: &str) -> anyhow::Result<&'static Profile> {
    let first = patch.lines().next().unwrap_or_default();
    match first.strip_prefix(PROFILE) {
        Some(name) => Profile::named(name).with_context(|| format!("there is no profile {name:?}")),
        None => Ok(&PROFILES[0]),
    }
}

/// Copies what git tracks or would track. Files that did not change keep their times, so that only
/// what differs from the last copy is built.
fn copy_tree(root: &Path, scratch: &Path) -> anyhow::Result<()> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root)
        .output()
        .context("starting git")?;
    ensure!(
        listed.status.success(),
        "{} is no git checkout",
        root.display()
    );
    for name in String::from_utf8(listed.stdout)?.split_terminator('\0') {
        let (from, to) = (root.join(name), scratch.join(name));
        if !from.is_file() {
            continue; // deleted and not yet committed
        }
        let content = std::fs::read(&from).with_context(|| format!("reading {name}"))?;
        if std::fs::read(&to).is_ok_and(|there| there == content) {
            continue;
        }
        let parent = to.parent().context("a file without a folder")?;
        std::fs::create_dir_all(parent)?;
        std::fs::write(&to, content).with_context(|| format!("writing {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_names_its_profile_in_its_first_line() {
        let name = |patch| profile_of(patch).map(|profile| profile.name).ok();
        assert_eq!(
            name("# profile: churn\ndiff --git a/x b/x\n"),
            Some("churn")
        );
        assert_eq!(name("diff --git a/x b/x\n"), Some("default"));
        assert_eq!(name("# profile: none\n"), None);
    }
}
