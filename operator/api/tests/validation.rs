//! Every rule refuses what it should with its own message, and lets the rest pass. The same rules
//! run in the API server.

use kontiki_api::RaftCluster;
use serde_json::{Value, json};

fn manifest() -> Value {
    json!({
        "apiVersion": "kontiki.dev/v1alpha1",
        "kind": "RaftCluster",
        "metadata": {"name": "demo", "namespace": "default"},
        "spec": {
            "replicas": 3,
            "stateMachine": {"kind": "Kv"},
            "storage": {"mode": "Memory"},
        },
    })
}

/// The manifest with the value at `pointer` changed or added.
fn with(pointer: &str, value: Value) -> Value {
    let mut manifest = manifest();
    let mut at = &mut manifest;
    for part in pointer.split('/').skip(1) {
        at = &mut at[part];
    }
    *at = value;
    manifest
}

fn parse(manifest: Value) -> RaftCluster {
    serde_json::from_value(manifest).expect("the shape is right")
}

fn messages(result: Result<(), kube::core::cel::ValidationErrors>) -> Vec<String> {
    match result {
        Ok(()) => Vec::new(),
        Err(errors) => errors.iter().map(|error| error.message.clone()).collect(),
    }
}

fn refused(pointer: &str, value: Value) -> Vec<String> {
    messages(parse(with(pointer, value)).validate_cel())
}

const NONE: [&str; 0] = [];

#[test]
fn the_least_manifest_passes() {
    assert_eq!(messages(parse(manifest()).validate_cel()), NONE);
}

#[test]
fn replicas_are_1_to_9_and_even_numbers_pass() {
    for replicas in 1..=9 {
        assert_eq!(refused("/spec/replicas", json!(replicas)), NONE);
    }
    for replicas in [-1, 10, 1000] {
        assert!(
            refused("/spec/replicas", json!(replicas))
                .contains(&"replicas must be between 1 and 9".to_owned()),
            "{replicas}"
        );
    }
}

#[test]
fn no_replicas_at_all_are_refused() {
    assert_eq!(
        refused("/spec/replicas", json!(0)),
        [
            "raft.minMajority must be at most replicas",
            "replicas must be between 1 and 9",
        ]
    );
}

#[test]
fn min_majority_is_1_to_replicas() {
    assert_eq!(refused("/spec/raft", json!({"minMajority": 3})), NONE);
    assert_eq!(
        refused("/spec/raft", json!({"minMajority": 4})),
        ["raft.minMajority must be at most replicas"]
    );
    assert_eq!(
        refused("/spec/raft", json!({"minMajority": 0})),
        ["raft.minMajority must be at least 1"]
    );
}

#[test]
fn the_election_timeout_is_twice_the_heartbeat_at_least() {
    let twice = "raft.electionTimeoutMilliseconds must be at least twice raft.heartbeatMilliseconds; \
        ten times is usual";
    let raft = |heartbeat: i32, election: i32| {
        json!({
            "heartbeatMilliseconds": heartbeat,
            "electionTimeoutMilliseconds": election,
        })
    };
    assert_eq!(refused("/spec/raft", raft(100, 200)), NONE);
    assert_eq!(refused("/spec/raft", raft(100, 199)), [twice]);
    assert_eq!(refused("/spec/raft", raft(100, 99)), [twice]);
    // Against the default of the other.
    assert_eq!(
        refused("/spec/raft", json!({"heartbeatMilliseconds": 501})),
        [twice]
    );
}

#[test]
fn times_have_bounds() {
    assert_eq!(
        refused("/spec/raft", json!({"heartbeatMilliseconds": 0})),
        ["raft.heartbeatMilliseconds must be between 1 and 60000"]
    );
    assert_eq!(
        refused(
            "/spec/raft",
            json!({"heartbeatMilliseconds": 60001, "electionTimeoutMilliseconds": 120002})
        ),
        ["raft.heartbeatMilliseconds must be between 1 and 60000"]
    );
    assert_eq!(
        refused("/spec/raft", json!({"electionTimeoutMilliseconds": 600001})),
        ["raft.electionTimeoutMilliseconds must be between 1 and 600000"]
    );
    let grace = "podTemplate.terminationGracePeriodSeconds must be between 1 and 3600";
    for seconds in [0, 3601] {
        assert_eq!(
            refused(
                "/spec/podTemplate",
                json!({"terminationGracePeriodSeconds": seconds})
            ),
            [grace]
        );
    }
}

#[test]
fn names_are_dns_labels_of_at_most_40_characters() {
    let label = "metadata.name must be a DNS label that begins with a letter: lower-case letters, \
        digits and '-', the last no '-'";
    for name in ["a", "demo", "a-1", &"a".repeat(40)] {
        assert_eq!(refused("/metadata/name", json!(name)), NONE, "{name}");
    }
    for name in ["1a", "a.b", "a-", "-a"] {
        assert_eq!(refused("/metadata/name", json!(name)), [label], "{name}");
    }
    assert_eq!(
        refused("/metadata/name", json!("a".repeat(41))),
        ["metadata.name must be at most 40 characters"]
    );
}

#[test]
fn machine_and_storage_are_immutable() {
    let old = parse(manifest());
    let new = parse(with("/spec/stateMachine/kind", json!("Counter")));
    assert_eq!(messages(new.validate_cel()), NONE, "fine from the start");
    assert_eq!(
        messages(new.validate_cel_update(&old)),
        ["stateMachine.kind is immutable"]
    );
    let scaled = parse(with("/spec/replicas", json!(5)));
    assert_eq!(messages(scaled.validate_cel_update(&old)), NONE);

    // There is one storage mode yet, so that the rule is tried on the schema's own fragment.
    let storage = kontiki_api::StorageSpec::validate_cel(
        &json!({"mode": "Memory"}),
        Some(&json!({"mode": "Other"})),
    );
    assert_eq!(messages(storage), ["storage.mode is immutable"]);
}

#[test]
fn a_machine_of_ones_own_needs_an_image_and_the_shipped_ones_may_have_one() {
    let spec = |kind: &str, image: Option<&str>| {
        let mut manifest = with("/spec/stateMachine/kind", json!(kind));
        if let Some(image) = image {
            manifest["spec"]["image"] = json!(image);
        }
        parse(manifest)
    };
    let needs = "image must be set if stateMachine.kind is Custom: that of a node built around \
        the machine";
    assert_eq!(messages(spec("Custom", None).validate_cel()), [needs]);
    for (kind, image) in [
        ("Custom", Some("bank:1")),
        ("Kv", Some("bank:1")),
        ("Counter", None),
    ] {
        assert_eq!(messages(spec(kind, image).validate_cel()), NONE, "{kind}");
    }
    // Another image is a roll, another machine is none.
    let bank = spec("Custom", Some("bank:1"));
    let newer = spec("Custom", Some("bank:2"));
    assert_eq!(messages(newer.validate_cel_update(&bank)), NONE);
    assert_eq!(
        messages(spec("Custom", None).validate_cel_update(&bank)),
        [needs]
    );
    assert_eq!(
        messages(spec("Kv", Some("bank:1")).validate_cel_update(&bank)),
        ["stateMachine.kind is immutable"]
    );
}

#[test]
fn unknown_machines_and_modes_name_what_would_be_right() {
    for (pointer, value, right) in [
        (
            "/spec/stateMachine/kind",
            "Queue",
            "`Kv`, `Counter`, `Custom`",
        ),
        ("/spec/storage/mode", "Durable", "`Memory`"),
        ("/spec/recovery", "Halt", "RecoverySpec"),
    ] {
        let error = serde_json::from_value::<RaftCluster>(with(pointer, json!(value)))
            .expect_err("refused")
            .to_string();
        assert!(error.contains(value) && error.contains(right), "{error}");
    }
}

#[test]
fn storage_mode_is_required() {
    let error = serde_json::from_value::<RaftCluster>(with("/spec/storage", json!({})))
        .expect_err("refused")
        .to_string();
    assert!(error.contains("missing field `mode`"), "{error}");
}

#[test]
fn the_example_passes() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/raftcluster.yaml"
    );
    let text = std::fs::read_to_string(path).expect("readable");
    let cluster: RaftCluster = serde_yaml::from_str(&text).expect("a RaftCluster");
    assert_eq!(messages(cluster.validate_cel()), NONE);
}
