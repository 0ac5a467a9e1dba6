//! The generated resource definition: what is committed is what the types say, it is small, and the
//! API server can afford its rules.

use std::path::PathBuf;

use kontiki_api::RaftCluster;
use kube::CustomResourceExt;
use kube::core::cel::{ScopeContext, analyze_rule, compile_schema};
use serde_json::{Value, json};

/// `kubectl apply` keeps the whole object in an annotation of at most 262144 bytes.
const CRD_BYTES_MAX: usize = 200_000;

/// The definition without the long descriptions of embedded Kubernetes types.
fn definition() -> Value {
    serde_json::to_value(RaftCluster::crd()).expect("serializable")
}

#[test]
fn the_committed_definition_is_current() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../crds/raftclusters.yaml");
    let header = "# Generated from operator/api: UPDATE=1 cargo test -p kontiki-api --test crd\n";
    let generated = format!(
        "{header}{}",
        serde_yaml::to_string(&definition()).expect("serializable")
    );
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(&path, &generated).expect("written");
    }
    let committed = std::fs::read_to_string(&path).expect("crds/raftclusters.yaml is readable");
    assert!(
        committed == generated,
        "crds/raftclusters.yaml is stale: UPDATE=1 cargo test -p kontiki-api --test crd"
    );
    assert!(
        generated.len() < CRD_BYTES_MAX,
        "{} bytes, at most {CRD_BYTES_MAX}",
        generated.len()
    );
}

#[test]
fn names_columns_and_subresources_are_as_documented() {
    let crd = definition();
    let names = &crd["spec"]["names"];
    assert_eq!(names["plural"], "raftclusters");
    assert_eq!(names["shortNames"], json!(["raft"]));
    assert_eq!(names["categories"], Value::Null, "not in `all`");
    let version = &crd["spec"]["versions"][0];
    assert_eq!(version["name"], "v1alpha1");
    let columns: Vec<&str> = version["additionalPrinterColumns"]
        .as_array()
        .expect("columns")
        .iter()
        .map(|column| column["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(
        columns,
        ["Ready", "Desired", "Voters", "Leader", "Margin", "Age"]
    );
    assert_eq!(
        version["subresources"]["scale"],
        json!({
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        })
    );
    assert_eq!(version["subresources"]["status"], json!({}));
}

#[test]
fn the_schema_fills_in_the_documented_defaults() {
    let spec =
        &definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let raft = &spec["properties"]["raft"];
    for (field, value) in [
        ("heartbeatMilliseconds", 100),
        ("electionTimeoutMilliseconds", 1000),
        ("minMajority", 1),
    ] {
        assert_eq!(
            raft["properties"][field]["default"],
            json!(value),
            "{field}"
        );
        assert_eq!(raft["default"][field], json!(value), "raft.{field}");
    }
    assert_eq!(
        spec["properties"]["recovery"]["default"]["onTotalLoss"],
        "Halt"
    );
    assert_eq!(
        spec["properties"]["service"]["default"]["type"],
        "ClusterIP"
    );
    assert_eq!(spec["properties"]["paused"]["default"], false);
    assert_eq!(
        spec["required"],
        json!(["replicas", "stateMachine", "storage"]),
        "storage.mode has no default"
    );
}

#[test]
fn the_api_server_can_afford_every_rule() {
    let schema = &definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut rules = Vec::new();
    collect(schema, "", &mut rules);
    assert!(rules.len() >= 9, "only {} rules found", rules.len());
    for (path, rule, schema) in rules {
        let warnings = analyze_rule(&rule, &compile_schema(&schema), ScopeContext::CrdValidation);
        assert!(warnings.is_empty(), "{path}: {rule}: {warnings:?}");
    }
}

/// Every rule below `schema`, with its path and the schema that it stands at.
fn collect(schema: &Value, path: &str, rules: &mut Vec<(String, String, Value)>) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let text = rule["rule"].as_str().expect("a rule").to_owned();
        assert!(rule["message"].is_string(), "{path}: {text} has no message");
        rules.push((path.to_owned(), text, schema.clone()));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        collect(property, &format!("{path}.{name}"), rules);
    }
}
