//! The manifest file in place of the API server: the same rules, with file, line and field.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use kontiki_api::RaftCluster;
use kube::core::cel::ValidationErrors;
use kube::{CustomResourceExt, Resource, ResourceExt};
use serde_json::Value;

use super::position::line_of;

/// Bytes of a manifest; what is longer is none.
const MANIFEST_MAX: u64 = 1 << 20;

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// Which file.
    pub file: PathBuf,
    /// Each fault.
    pub faults: Vec<Fault>,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1; `None`: the file as a whole.
    pub line: Option<usize>,
    /// Path of the field; empty: the whole document.
    pub field: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}", self.file.display())?;
            if let Some(line) = fault.line {
                write!(f, ":{line}")?;
            }
            if !fault.field.is_empty() {
                write!(f, ": {}", fault.field)?;
            }
            write!(f, ": {}", fault.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ManifestError {}

impl ManifestError {
    /// A fault of the field `field` of `file`, which was read before.
    pub(super) fn at(file: &Path, field: &str, message: String) -> Self {
        let text = fs::read_to_string(file).unwrap_or_default();
        Self {
            file: file.to_owned(),
            faults: vec![Fault {
                line: line_of(&text, field),
                field: field.to_owned(),
                message,
            }],
        }
    }
}

/// Reads and checks the manifest in `file`; `before` is the one in force.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(file: &Path, before: Option<&RaftCluster>) -> Result<RaftCluster, ManifestError> {
    let error = |faults| ManifestError {
        file: file.to_owned(),
        faults,
    };
    let unreadable = |message| {
        error(vec![Fault {
            line: None,
            field: String::new(),
            message,
        }])
    };
    match fs::metadata(file) {
        Ok(metadata) if metadata.len() > MANIFEST_MAX => {
            let message = format!("has {} bytes, at most {MANIFEST_MAX}", metadata.len());
            return Err(unreadable(message));
        }
        _ => {}
    }
    let text = fs::read_to_string(file);
    let text = text.map_err(|cause| unreadable(format!("cannot be read: {cause}")))?;
    check(&text, before).map_err(error)
}

/// Parses and checks a manifest.
fn check(text: &str, before: Option<&RaftCluster>) -> Result<RaftCluster, Vec<Fault>> {
    let value: Value = serde_yaml::from_str(text).map_err(|error| vec![from_yaml(&error)])?;
    let at = |field: &str, message: String| {
        vec![Fault {
            line: line_of(text, field),
            field: field.to_owned(),
            message,
        }]
    };
    let kind = [
        ("apiVersion", RaftCluster::api_version(&()).into_owned()),
        ("kind", RaftCluster::kind(&()).into_owned()),
    ];
    for (field, wanted) in kind {
        if value.get(field) != Some(&Value::from(wanted.as_str())) {
            let found = value.get(field).unwrap_or(&Value::Null);
            return Err(at(field, format!("is {found}, must be {wanted:?}")));
        }
    }
    let unknown = unknown_fields(&value);
    if !unknown.is_empty() {
        let faults = unknown
            .into_iter()
            .flat_map(|(field, message)| at(&field, message));
        return Err(faults.collect());
    }
    let mut cluster: RaftCluster =
        serde_yaml::from_str(text).map_err(|error| vec![from_yaml(&error)])?;
    if cluster.metadata.name.is_none() {
        return Err(at("metadata.name", "is missing".to_owned()));
    }
    if let Some(before) = before.filter(|before| before.name_any() != cluster.name_any()) {
        let message = format!("cannot change; it was {:?}", before.name_any());
        return Err(at("metadata.name", message));
    }
    cluster
        .metadata
        .namespace
        .get_or_insert_with(|| "local".to_owned());
    cluster.status = None;
    let checked = match before {
        None => cluster.validate_cel(),
        Some(before) => cluster.validate_cel_update(before),
    };
    checked.map_err(|errors| from_rules(text, errors))?;
    Ok(cluster)
}

fn from_yaml(error: &serde_yaml::Error) -> Fault {
    let line = error.location().map(|location| location.line());
    Fault {
        line,
        field: String::new(),
        message: error.to_string(),
    }
}

fn from_rules(text: &str, errors: ValidationErrors) -> Vec<Fault> {
    let fault = |error: kube::core::cel::ValidationError| {
        let field = error.field_path.trim_start_matches('.').to_owned();
        Fault {
            line: line_of(text, &field),
            field,
            message: error.message,
        }
    };
    errors.into_vec().into_iter().map(fault).collect()
}

/// Fields of `spec` that the resource does not have, with those that would be right. The API server
/// would drop them silently, which helps nobody who edits a file.
fn unknown_fields(value: &Value) -> Vec<(String, String)> {
    let crd = RaftCluster::crd();
    let version = crd.spec.versions.first();
    let schema = version.and_then(|v| v.schema.as_ref()?.open_api_v3_schema.as_ref());
    let schema = serde_json::to_value(schema).unwrap_or(Value::Null);
    let mut found = Vec::new();
    let spec = (&schema["properties"]["spec"], &value["spec"]);
    collect_unknown(spec.0, spec.1, "spec", &mut found);
    if let Some(document) = value.as_object() {
        let known = ["apiVersion", "kind", "metadata", "spec", "status"];
        let others = document.keys().filter(|key| !known.contains(&key.as_str()));
        found.extend(others.map(|key| (key.clone(), expected(known.into_iter()))));
    }
    found
}

fn collect_unknown(schema: &Value, value: &Value, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            let Some(known) = schema["properties"].as_object() else {
                return;
            };
            for (key, value) in fields {
                let path = format!("{path}.{key}");
                match known.get(key) {
                    Some(schema) => collect_unknown(schema, value, &path, found),
                    None => found.push((path, expected(known.keys().map(String::as_str)))),
                }
            }
        }
        Value::Array(entries) => {
            for (index, value) in entries.iter().enumerate() {
                collect_unknown(&schema["items"], value, &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

fn expected<'a>(known: impl Iterator<Item = &'a str>) -> String {
    format!(
        "unknown field, expected one of {}",
        known.collect::<Vec<_>>().join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
apiVersion: kontiki.dev/v1alpha1
kind: RaftCluster
metadata:
  name: demo
spec:
  replicas: 3
  stateMachine:
    kind: Kv
  storage:
    mode: Memory
  raft:
    minMajority: 2
";

    fn faults(text: &str) -> Vec<(Option<usize>, String, String)> {
        let good = check(GOOD, None).unwrap();
        let faults = check(text, Some(&good)).unwrap_err();
        faults
            .into_iter()
            .map(|fault| (fault.line, fault.field, fault.message))
            .collect()
    }

    #[track_caller]
    fn assert_fault(text: &str, line: usize, field: &str, message: &str) {
        let faults = faults(text);
        let found = faults
            .iter()
            .any(|(at, path, said)| *at == Some(line) && path == field && said.contains(message));
        assert!(
            found,
            "wanted line {line}, {field:?}, {message:?} among {faults:?}"
        );
    }

    #[test]
    fn a_good_manifest_is_read_with_its_defaults() {
        let cluster = check(GOOD, None).unwrap();
        assert_eq!(
            (cluster.name_any().as_str(), cluster.spec.replicas),
            ("demo", 3)
        );
        assert_eq!(cluster.spec.raft.heartbeat_milliseconds, 100);
        check(&GOOD.replace("replicas: 3", "replicas: 5"), Some(&cluster)).unwrap();
    }

    #[test]
    fn the_rules_of_the_resource_hold_here_too() {
        let rule = |from: &str, to: &str| GOOD.replace(from, to);
        assert_fault(
            &rule("replicas: 3", "replicas: 10"),
            6,
            "spec.replicas",
            "between 1 and 9",
        );
        let majority = rule("minMajority: 2", "minMajority: 4");
        assert_fault(&majority, 12, "spec.raft.minMajority", "at most replicas");
        let kind = rule("kind: Kv", "kind: Counter");
        assert_fault(&kind, 8, "spec.stateMachine.kind", "immutable");
        let long = "a".repeat(41);
        let faults = check(&rule("name: demo", &format!("name: {long}")), None).unwrap_err();
        assert!(faults[0].message.contains("at most 40"), "{faults:?}");
    }

    #[test]
    fn a_typo_is_named_with_its_line() {
        let rule = |from: &str, to: &str| GOOD.replace(from, to);
        let typo = rule("minMajority", "minMajorty");
        assert_fault(
            &typo,
            12,
            "spec.raft.minMajorty",
            "electionTimeoutMilliseconds",
        );
        assert_fault(
            &rule("kind: RaftCluster", "kind: Raft"),
            2,
            "kind",
            "must be",
        );
        assert_fault(
            &rule("name: demo", "name: other"),
            4,
            "metadata.name",
            "cannot change",
        );
        assert_fault(
            &rule("replicas: 3", "replicas: three"),
            6,
            "",
            "spec.replicas",
        );
        assert_fault(
            &rule("kind: Kv", "kind: Kvs"),
            8,
            "",
            "spec.stateMachine.kind",
        );
        assert_fault(
            &rule("  replicas: 3", "\treplicas: 3"),
            6,
            "",
            "cannot start any token",
        );
    }

    #[test]
    fn an_error_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("demo.yaml");
        let error = read(&file, None).unwrap_err().to_string();
        assert!(error.contains("demo.yaml: cannot be read"), "{error}");
        fs::write(&file, GOOD.replace("replicas: 3", "replicas: 0")).unwrap();
        let error = read(&file, None).unwrap_err().to_string();
        assert!(error.contains("demo.yaml:6: spec.replicas: "), "{error}");
    }
}
