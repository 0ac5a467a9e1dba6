//! The chart carries what the crates say.

use std::fs;
use std::path::{Path, PathBuf};

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(checkout().join(path)).unwrap()
}

#[test]
fn the_chart_installs_the_resource_definition_of_this_version() {
    let (chart, generated) = (
        checkout().join("charts/kontiki-operator/crds/raftclusters.yaml"),
        "crds/raftclusters.yaml",
    );
    if std::env::var_os("UPDATE").is_some() {
        fs::copy(checkout().join(generated), &chart).unwrap();
    }
    let same = fs::read_to_string(chart).unwrap() == read(generated);
    assert!(
        same,
        "the chart's copy is stale: run this test with UPDATE=1"
    );
}

#[test]
fn the_chart_has_the_version_of_the_program() {
    let chart = read("charts/kontiki-operator/Chart.yaml");
    let version = format!("appVersion: \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(chart.contains(&version), "{chart}");
}
