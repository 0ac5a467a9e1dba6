//! What is asked of the API server, and what is made of its answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use kontiki_plan::{ClusterId, Identity, IdentityRecord};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// A request: method, path, body.
type Asked = (Method, String, Value);
/// Answers by method and path; anything else is not found.
type Answers = BTreeMap<(&'static str, &'static str), (StatusCode, Value)>;

const SET: &str = "/apis/apps/v1/namespaces/default/statefulsets/demo";
const IDENTITY: &str = "/api/v1/namespaces/default/configmaps/demo-identity";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const POD: &str = "/api/v1/namespaces/default/pods/demo-0";

const MANIFEST: &str = "
apiVersion: kontiki.dev/v1alpha1
kind: RaftCluster
metadata: {name: demo, namespace: default, uid: 5a0c}
spec: {replicas: 3, stateMachine: {kind: Kv}, storage: {mode: Memory}}
";

/// A world whose API server gives `answers`, and everything that it is asked.
fn world(answers: Answers) -> (KubernetesWorld, Arc<Mutex<Vec<Asked>>>) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = asked.clone();
    tokio::spawn(async move {
        while let Some((request, reply)) = handle.next_request().await {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let body = request.into_body().collect_bytes().await.unwrap();
            let known = answers
                .iter()
                .find(|((m, p), _)| *m == method.as_str() && *p == path);
            let (status, answer) = known.map(|(_, answer)| answer.clone()).unwrap_or_else(|| {
                (
                    StatusCode::NOT_FOUND,
                    failure(404, "NotFound", &format!("no {path}")),
                )
            });
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            heard.lock().unwrap().push((method, path, body));
            let answer = Body::from(serde_json::to_vec(&answer).unwrap());
            reply.send_response(Response::builder().status(status).body(answer).unwrap());
        }
    });
    let settings = Settings {
        node_image: "node:1".to_owned(),
        node_log_format: "json".to_owned(),
        node_log_level: "info".to_owned(),
    };
    let cluster = Arc::new(serde_yaml::from_str(MANIFEST).unwrap());
    let client = Client::new(service, "default");
    (
        KubernetesWorld::new(client, cluster, Arc::new(settings), Arc::default()),
        asked,
    )
}

fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": reason, "message": message})
}

fn owned(kind: &str, name: &str, more: Value) -> Value {
    let mut object = json!({"kind": kind, "apiVersion": "v1", "metadata": {"name": name,
        "namespace": "default", "uid": "9", "resourceVersion": "7", "ownerReferences": [
            {"apiVersion": "kontiki.dev/v1alpha1", "kind": "RaftCluster", "name": "demo",
                "uid": "5a0c", "controller": true}]}});
    for (key, value) in more.as_object().unwrap() {
        object[key] = value.clone();
    }
    object
}

fn set(replicas: u32) -> Value {
    let spec = json!({"replicas": replicas, "serviceName": "demo-peers", "selector": {},
        "template": {}});
    owned(
        "StatefulSet",
        "demo",
        json!({"apiVersion": "apps/v1", "spec": spec}),
    )
}

fn record() -> IdentityRecord {
    IdentityRecord {
        cluster: ClusterId(0xcc),
        voters: BTreeMap::new(),
        initialized: false,
        previous: None,
        lost: None,
    }
}

fn methods(asked: &Mutex<Vec<Asked>>) -> Vec<String> {
    asked
        .lock()
        .unwrap()
        .iter()
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect()
}

#[tokio::test]
async fn an_identity_that_may_not_be_read_is_not_absent() {
    let forbidden = failure(403, "Forbidden", "configmaps is forbidden");
    let pods = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []});
    let (world, _) = world(Answers::from([
        (("GET", IDENTITY), (StatusCode::FORBIDDEN, forbidden)),
        (("GET", PODS), (StatusCode::OK, pods)),
    ]));
    let scene = world.scene().await.unwrap();
    match scene.identity {
        Identity::Unreadable { place, reason } => {
            assert!(
                place.contains("demo-identity") && reason.contains("forbidden"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(scene.servers_desired, None);
    assert_eq!(scene.drift.len(), 6, "{:?}", scene.drift);
}

#[tokio::test]
async fn an_identity_of_an_older_cluster_of_that_name_is_not_taken_over() {
    let mut stale = owned("ConfigMap", "demo-identity", json!({"data": {}}));
    stale["metadata"]["ownerReferences"][0]["uid"] = json!("older");
    let (world, _) = world(Answers::from([(
        ("GET", IDENTITY),
        (StatusCode::OK, stale),
    )]));
    let identity = scene::identity(&world).await.unwrap();
    assert!(
        matches!(identity, Identity::Unreadable { .. }),
        "{identity:?}"
    );
}

#[tokio::test]
async fn a_new_identity_is_created_and_never_written_over_another() {
    let conflict = failure(409, "AlreadyExists", "demo-identity is there");
    let (world, asked) = world(Answers::from([(
        ("POST", MAPS),
        (StatusCode::CONFLICT, conflict),
    )]));
    let error = world.record_identity(&record(), None).await.unwrap_err();
    assert!(
        crate::controller::chain(&error).contains("demo-identity is there"),
        "{error:?}"
    );
    assert_eq!(methods(&asked), [format!("POST {MAPS}")]);
}

#[tokio::test]
async fn an_identity_is_replaced_with_its_version_as_a_precondition() {
    let object = owned("ConfigMap", "demo-identity", json!({}));
    let (world, asked) = world(Answers::from([(
        ("PUT", IDENTITY),
        (StatusCode::OK, object),
    )]));
    world.record_identity(&record(), Some("17")).await.unwrap();
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0].2["metadata"]["resourceVersion"], "17");
}

#[tokio::test]
async fn servers_are_never_lowered_by_ensuring_and_never_raised_by_shrinking() {
    let answers = || {
        Answers::from([
            (("GET", SET), (StatusCode::OK, set(4))),
            (("PATCH", SET), (StatusCode::OK, set(4))),
        ])
    };
    let (shrinking, asked) = world(answers());
    shrinking.shrink_servers(5).await.unwrap();
    assert_eq!(methods(&asked), [format!("GET {SET}")]);
    shrinking.shrink_servers(3).await.unwrap();
    let last = asked.lock().unwrap().last().cloned().unwrap();
    assert_eq!(
        (last.0, last.2["spec"]["replicas"].clone()),
        (Method::PATCH, json!(3))
    );
    assert_eq!(last.2["metadata"]["resourceVersion"], "7");

    let (ensuring, asked) = world(answers());
    ensuring.ensure_servers(3).await.unwrap();
    let last = asked.lock().unwrap().last().cloned().unwrap();
    assert_eq!(
        (last.0, last.2["spec"]["replicas"].clone()),
        (Method::PATCH, json!(4))
    );
}

#[tokio::test]
async fn a_pod_is_deleted_with_its_uid_and_version_and_another_is_left_alone() {
    let pod = owned("Pod", "demo-0", json!({}));
    let (world, asked) = world(Answers::from([
        (("GET", POD), (StatusCode::OK, pod.clone())),
        (("DELETE", POD), (StatusCode::OK, pod)),
    ]));
    world
        .restart(&"demo-0".to_owned(), "another")
        .await
        .unwrap();
    assert_eq!(methods(&asked), [format!("GET {POD}")]);
    world.restart(&"demo-0".to_owned(), "9").await.unwrap();
    let last = asked.lock().unwrap().last().cloned().unwrap();
    assert_eq!(last.0, Method::DELETE);
    assert_eq!(
        last.2["preconditions"],
        json!({"uid": "9", "resourceVersion": "7"})
    );
}

#[tokio::test]
async fn an_object_of_somebody_else_is_not_touched() {
    let mut foreign = set(3);
    foreign["metadata"]["ownerReferences"] = json!([]);
    let (world, asked) = world(Answers::from([(("GET", SET), (StatusCode::OK, foreign))]));
    let error = world.ensure_servers(3).await.unwrap_err().to_string();
    assert!(
        error.contains("StatefulSet demo is there already"),
        "{error}"
    );
    assert_eq!(methods(&asked), [format!("GET {SET}")]);
}

#[tokio::test]
async fn another_image_is_drift_reaches_the_template_and_restarts_nothing() {
    let live = {
        let (world, _) = world(Answers::new());
        let set = objects::stateful_set(&world.cluster, &world.settings, 5, None);
        let mut set = serde_json::to_value(set).unwrap();
        set["metadata"]["resourceVersion"] = json!("7");
        set["kind"] = json!("StatefulSet");
        set["apiVersion"] = json!("apps/v1");
        set
    };
    let mut pod = owned("Pod", "demo-0", json!({}));
    pod["metadata"]["ownerReferences"][0]["uid"] = json!("set");
    pod["metadata"]["annotations"] = live["spec"]["template"]["metadata"]["annotations"].clone();
    pod["spec"] = live["spec"]["template"]["spec"].clone();
    let mut set = live.clone();
    set["metadata"]["uid"] = json!("set");
    let pods = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [pod]});
    let (mut world, asked) = world(Answers::from([
        (("GET", SET), (StatusCode::OK, set.clone())),
        (("PATCH", SET), (StatusCode::OK, set)),
        (("GET", PODS), (StatusCode::OK, pods)),
    ]));
    let is_about_the_set = |drift: &String| drift.starts_with("StatefulSet");
    let before = world.scene().await.unwrap();
    assert!(
        !before.drift.iter().any(is_about_the_set),
        "{:?}",
        before.drift
    );

    Arc::make_mut(&mut world.cluster).spec.image = Some("bank:2".to_owned());
    let scene = world.scene().await.unwrap();
    assert!(
        scene.drift.iter().any(is_about_the_set),
        "{:?}",
        scene.drift
    );
    let tenant = scene.nodes[0].tenant.clone().unwrap();
    assert_eq!(
        tenant.image.as_deref(),
        Some("node:1"),
        "it runs on as it is"
    );
    assert_eq!(Some(&tenant.revision), before.revision.as_ref());
    assert_ne!(
        Some(tenant.revision),
        scene.revision,
        "and is said to be of an older template"
    );

    let live = world.live_stateful_set().await.unwrap().unwrap();
    world
        .apply_stateful_set(Some(&live), replicas(&live))
        .await
        .unwrap();
    let asked = asked.lock().unwrap();
    let (method, _, body) = asked.last().cloned().unwrap();
    assert_eq!(method, Method::PATCH);
    assert_eq!(
        body["spec"]["template"]["spec"]["containers"][0]["image"],
        "bank:2"
    );
    assert_eq!(body["spec"]["replicas"], 5);
    assert_eq!(body["spec"]["updateStrategy"]["type"], "OnDelete");
    assert!(asked.iter().all(|(method, _, _)| *method != Method::DELETE));
}

/// A pod of the set `set`, or of nobody.
fn pod_of(name: &str, set: Option<&str>) -> Value {
    let mut pod = owned("Pod", name, json!({}));
    pod["metadata"]["uid"] = json!(format!("uid of {name}"));
    match set {
        Some(uid) => pod["metadata"]["ownerReferences"][0]["uid"] = json!(uid),
        None => pod["metadata"]["ownerReferences"] = json!([]),
    }
    pod
}

fn tenants(scene: &Scene) -> Vec<(u32, Option<String>)> {
    let uid = |place: &crate::inventory::Place| Some(place.tenant.as_ref()?.uid.clone());
    let places = scene.nodes.iter();
    places.map(|place| (place.ordinal, uid(place))).collect()
}

#[tokio::test]
async fn pods_that_a_deleted_set_left_are_there_and_those_of_another_set_are_not() {
    let pods = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [
        pod_of("demo-0", None), pod_of("demo-1", None), pod_of("demo-2", Some("older"))]});
    let (world, _) = world(Answers::from([(("GET", PODS), (StatusCode::OK, pods))]));
    let scene = world.scene().await.unwrap();
    assert_eq!(scene.servers_desired, None, "there is no set");
    let uid = |name: &str| Some(format!("uid of {name}"));
    assert_eq!(tenants(&scene), [(0, uid("demo-0")), (1, uid("demo-1"))]);
}

#[tokio::test]
async fn a_pod_whose_labels_were_taken_away_is_not_lost() {
    let pods = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []});
    let (world, _) = world(Answers::from([
        (("GET", SET), (StatusCode::OK, set(2))),
        (("GET", PODS), (StatusCode::OK, pods)),
        (("GET", POD), (StatusCode::OK, pod_of("demo-0", None))),
    ]));
    let scene = world.scene().await.unwrap();
    let found = Some("uid of demo-0".to_owned());
    assert_eq!(tenants(&scene), [(0, found), (1, None)]);
}
