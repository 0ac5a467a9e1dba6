//! Golden renderings: `UPDATE=1 cargo test -p kontiki-operator` writes them anew.

use std::path::PathBuf;

use kontiki_plan::{ClusterId, Discarded, Identity, IdentityRecord, ServerId};
use serde::Serialize;

use super::*;

const MINIMAL: &str = "
apiVersion: kontiki.dev/v1alpha1
kind: RaftCluster
metadata: {name: demo, namespace: default, uid: 5a0c}
spec:
  replicas: 3
  stateMachine: {kind: Kv}
  storage: {mode: Memory}
";

const EVERYTHING: &str = "
apiVersion: kontiki.dev/v1alpha1
kind: RaftCluster
metadata: {name: demo, namespace: default, uid: 5a0c}
spec:
  replicas: 5
  image: registry.example/own-machine:2
  imagePullPolicy: IfNotPresent
  stateMachine: {kind: Counter}
  storage: {mode: Memory}
  raft: {heartbeatMilliseconds: 50, electionTimeoutMilliseconds: 500, minMajority: 2,
         leaseReads: true, dirtyRead: false}
  stateLimit: 100Mi
  service: {type: LoadBalancer, annotations: {example.com/pool: blue}}
  podTemplate:
    labels: {team: storage, app.kubernetes.io/name: mine}
    annotations: {example.com/scrape: 'true'}
    resources: {requests: {memory: 256Mi}, limits: {cpu: 500m}}
    env:
      - {name: KONTIKI_NODE_NAME, value: forged}
      - {name: RUST_BACKTRACE, value: '1'}
    nodeSelector: {disk: fast}
    tolerations: [{key: dedicated, operator: Exists}]
    priorityClassName: high
    serviceAccountName: node
    imagePullSecrets: [{name: pull}]
    terminationGracePeriodSeconds: 12
";

const CUSTOM: &str = "
apiVersion: kontiki.dev/v1alpha1
kind: RaftCluster
metadata: {name: demo, namespace: default, uid: 5a0c}
spec:
  replicas: 3
  image: registry.example/bank:1
  stateMachine: {kind: Custom}
  storage: {mode: Memory}
";

fn cluster(manifest: &str) -> RaftCluster {
    serde_yaml::from_str(manifest).unwrap()
}

fn settings() -> Settings {
    Settings {
        node_image: "registry.example/kontiki-node:0.1.0".to_owned(),
        node_log_format: "json".to_owned(),
        node_log_level: "info".to_owned(),
    }
}

fn document(object: &impl Serialize) -> String {
    format!("---\n{}", serde_yaml::to_string(object).unwrap())
}

fn render(manifest: &str) -> String {
    let (cluster, settings) = (cluster(manifest), settings());
    let copy = Copy {
        cluster_id: "00000000000000cc".to_owned(),
        initialized: true,
    };
    [
        document(&config_map(&cluster, &settings)),
        document(&client_service(&cluster)),
        document(&peers_service(&cluster)),
        document(&leader_service(&cluster)),
        document(&disruption_budget(&cluster)),
        document(&network_policy(&cluster)),
        document(&stateful_set(&cluster, &settings, 3, Some(&copy))),
    ]
    .concat()
}

fn assert_golden(name: &str, rendered: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/objects/testdata")
        .join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, rendered).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        golden, rendered,
        "{name} is stale: run the test with UPDATE=1, and read the diff"
    );
}

#[test]
fn the_least_that_can_be_asked_for() {
    assert_golden("minimal.yaml", &render(MINIMAL));
}

#[test]
fn everything_that_can_be_asked_for() {
    assert_golden("everything.yaml", &render(EVERYTHING));
}

#[test]
fn a_machine_of_ones_own_is_started_as_the_shipped_ones_but_told_no_name() {
    let custom = render(CUSTOM);
    let shipped = render(MINIMAL);
    let differences: Vec<&str> = custom
        .lines()
        .filter(|line| !shipped.lines().any(|other| other == *line))
        .collect();
    let hash = "        kontiki.dev/template: ";
    assert!(differences[0].starts_with(hash), "{differences:?}");
    assert_eq!(
        differences[1..],
        ["        image: registry.example/bank:1"],
        "{differences:?}"
    );
    assert!(shipped.contains("machine: kv") && !custom.contains("machine:"));
}

#[test]
fn the_same_template_has_the_same_hash_and_another_has_another() {
    let hash = |manifest: &str, replicas: u32| {
        let set = stateful_set(&cluster(manifest), &settings(), replicas, None);
        let metadata = set.spec.template.metadata.unwrap();
        metadata.annotations.unwrap()["kontiki.dev/template"].clone()
    };
    assert_eq!(
        hash(MINIMAL, 3),
        hash(MINIMAL, 5),
        "replicas restart nothing"
    );
    assert_ne!(hash(MINIMAL, 3), hash(EVERYTHING, 3));
    let newer = CUSTOM.replace("bank:1", "bank:2");
    assert_ne!(hash(CUSTOM, 3), hash(&newer, 3), "a roll is seen");
}

#[test]
fn an_identity_is_read_as_it_was_written() {
    let cluster = cluster(MINIMAL);
    let record = IdentityRecord {
        cluster: ClusterId(0xcc),
        voters: [("demo-0".to_owned(), ServerId(0xa1))].into(),
        initialized: true,
        previous: None,
        lost: None,
    };
    let mut object = identity_config_map(&cluster, Ok(&record)).unwrap();
    object.metadata.resource_version = Some("17".to_owned());
    let version = "17".to_owned();
    assert_eq!(
        parse_identity(&object),
        Identity::Recorded {
            record,
            version: version.clone()
        }
    );

    let discarded = Discarded {
        previous: ClusterId(0xcc),
        lost: None,
    };
    let mut object = identity_config_map(&cluster, Err(&discarded)).unwrap();
    object.metadata.resource_version = Some(version.clone());
    assert_eq!(
        parse_identity(&object),
        Identity::Discarded { discarded, version }
    );
}

#[test]
fn an_identity_that_cannot_be_read_is_not_absent() {
    let cluster = cluster(MINIMAL);
    let discarded = Discarded {
        previous: ClusterId(0xcc),
        lost: None,
    };
    for (key, value) in [("identity", Some("cluster: [")), ("discarded", None)] {
        let mut object = identity_config_map(&cluster, Err(&discarded)).unwrap();
        let data = object.data.as_mut().unwrap();
        match value {
            Some(value) => data.insert(key.to_owned(), value.to_owned()),
            None => data.remove(key),
        };
        assert!(
            matches!(parse_identity(&object), Identity::Unreadable { .. }),
            "{object:?}"
        );
    }
}
