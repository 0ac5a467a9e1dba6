//! The pod of a node: restricted, without access to the API, and never killed by a probe once it
//! holds state in memory.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource,
    HTTPGetAction, ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ResourceFieldSelector, ResourceRequirements, SeccompProfile, SecurityContext,
    TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kontiki_api::names::{
    CLIENT_PORT, CLIENT_PORT_NAME, HTTP_PORT, HTTP_PORT_NAME, PEER_PORT, PEER_PORT_NAME,
    TEMPLATE_ANNOTATION,
};
use kontiki_api::{ImagePullPolicy, Names, PodTemplate, RaftCluster};

use super::Settings;
use super::config::FILE;
use super::network::selecting;

/// Name of the container, for `kubectl logs -c`.
pub const CONTAINER: &str = "node";
/// Where the configuration is mounted.
const CONFIG_FOLDER: &str = "/etc/kontiki";
/// User and group of the process; the image has no other.
const USER: i64 = 65532;
/// Memory of a pod that asks for none, as request and limit: a three-pod cluster fits on a laptop.
const MEMORY_DEFAULT: &str = "128Mi";
/// CPU request of a pod that asks for none. There is no limit: throttling a leader costs terms.
const CPU_DEFAULT: &str = "50m";
/// Bytes from which glibc takes an allocation from the kernel, and gives it back at once: pieces of
/// snapshots are that long. Left alone it raises this by itself, and keeps what was freed by the thread that
/// received a snapshot beside what the one that restores it allocates: half as much again.
const MMAP_THRESHOLD: &str = "262144";
/// Seconds to hand leadership over and stop.
const GRACE_DEFAULT: i64 = 30;

/// The template. Its hash is an annotation of the pods, to tell those of an older one.
pub(super) fn template(cluster: &RaftCluster, settings: &Settings) -> PodTemplateSpec {
    let wanted = &cluster.spec.pod_template;
    let mut labels = wanted.labels.clone();
    labels.extend(Names::of(cluster).labels());
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(wanted.annotations.clone()),
            ..ObjectMeta::default()
        }),
        spec: Some(pod(cluster, settings)),
    };
    let hash = hash(&template);
    let metadata = template.metadata.get_or_insert_default();
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(TEMPLATE_ANNOTATION.to_owned(), hash);
    template
}

/// Image of the node in a pod.
pub fn image(pod: &PodSpec) -> Option<String> {
    let mut containers = pod.containers.iter();
    let node = containers.find(|container| container.name == CONTAINER)?;
    node.image.clone()
}

/// FNV-1a of the rendering: the same in every build of the operator.
fn hash(template: &PodTemplateSpec) -> String {
    let text = serde_json::to_string(template).unwrap_or_default();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}

fn pod(cluster: &RaftCluster, settings: &Settings) -> PodSpec {
    let wanted = &cluster.spec.pod_template;
    let grace = wanted
        .termination_grace_period_seconds
        .unwrap_or(GRACE_DEFAULT);
    PodSpec {
        containers: vec![container(cluster, settings)],
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(grace),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        volumes: Some(vec![Volume {
            name: "config".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: Names::of(cluster).config(),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        }]),
        topology_spread_constraints: Some(spread(cluster)),
        affinity: wanted.affinity.clone(),
        tolerations: some(&wanted.tolerations),
        node_selector: (!wanted.node_selector.is_empty()).then(|| wanted.node_selector.clone()),
        priority_class_name: wanted.priority_class_name.clone(),
        service_account_name: wanted.service_account_name.clone(),
        image_pull_secrets: some(&wanted.image_pull_secrets),
        ..PodSpec::default()
    }
}

fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// By default servers prefer machines and zones of their own, and start where they can.
fn spread(cluster: &RaftCluster) -> Vec<TopologySpreadConstraint> {
    let wanted = &cluster.spec.pod_template.topology_spread_constraints;
    if !wanted.is_empty() {
        return wanted.clone();
    }
    let over = |key: &str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(selecting(Names::of(cluster).selector())),
        ..TopologySpreadConstraint::default()
    };
    vec![
        over("topology.kubernetes.io/zone"),
        over("kubernetes.io/hostname"),
    ]
}

fn container(cluster: &RaftCluster, settings: &Settings) -> Container {
    let spec = &cluster.spec;
    Container {
        name: CONTAINER.to_owned(),
        image: Some(
            spec.image
                .clone()
                .unwrap_or_else(|| settings.node_image.clone()),
        ),
        image_pull_policy: spec.image_pull_policy.map(|policy| {
            match policy {
                ImagePullPolicy::Always => "Always",
                ImagePullPolicy::IfNotPresent => "IfNotPresent",
                ImagePullPolicy::Never => "Never",
            }
            .to_owned()
        }),
        args: Some(vec![
            "--config".to_owned(),
            format!("{CONFIG_FOLDER}/{FILE}"),
        ]),
        env: Some(environment(&spec.pod_template)),
        ports: Some(vec![
            port(CLIENT_PORT_NAME, CLIENT_PORT),
            port(PEER_PORT_NAME, PEER_PORT),
            port(HTTP_PORT_NAME, HTTP_PORT),
        ]),
        resources: Some(resources(
            spec.pod_template.resources.clone().unwrap_or_default(),
        )),
        // No liveness probe: killing a server that holds its state in memory loses that state.
        startup_probe: Some(probe("/livez", 60)),
        readiness_probe: Some(probe("/readyz", 3)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![VolumeMount {
            name: "config".to_owned(),
            mount_path: CONFIG_FOLDER.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

/// Every second, so that readiness costs no more than that.
fn probe(path: &str, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(HTTP_PORT_NAME.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(1),
        timeout_seconds: Some(1),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// What the node needs to know of its pod; what people add comes first and loses.
fn environment(wanted: &PodTemplate) -> Vec<EnvVar> {
    let of_pod = |field: &str| EnvVarSource {
        field_ref: Some(ObjectFieldSelector {
            api_version: Some("v1".to_owned()),
            field_path: field.to_owned(),
        }),
        ..EnvVarSource::default()
    };
    // Whoever sets it: the pod template, or a LimitRange.
    let memory = EnvVarSource {
        resource_field_ref: Some(ResourceFieldSelector {
            resource: "limits.memory".to_owned(),
            ..ResourceFieldSelector::default()
        }),
        ..EnvVarSource::default()
    };
    let own = [
        ("KONTIKI_NODE_NAME", of_pod("metadata.name")),
        ("KONTIKI_ADVERTISE_HOST", of_pod("status.podIP")),
        ("KONTIKI_MEMORY_BYTES", memory),
    ];
    let others = wanted
        .env
        .iter()
        .filter(|env| own.iter().all(|(name, _)| env.name != *name))
        .cloned()
        .collect::<Vec<_>>();
    let named = own.map(|(name, source)| EnvVar {
        name: name.to_owned(),
        value_from: Some(source),
        ..EnvVar::default()
    });
    let allocator = EnvVar {
        name: "MALLOC_MMAP_THRESHOLD_".to_owned(),
        value: Some(MMAP_THRESHOLD.to_owned()),
        ..EnvVar::default()
    };
    let own = named.into_iter().chain([allocator]);
    others.into_iter().chain(own).collect()
}

/// Memory: request and limit are the same, so that a node is not evicted for what it was promised.
fn resources(mut wanted: ResourceRequirements) -> ResourceRequirements {
    let mut requests = wanted.requests.take().unwrap_or_default();
    let mut limits = wanted.limits.take().unwrap_or_default();
    let memory = limits
        .get("memory")
        .or_else(|| requests.get("memory"))
        .cloned();
    let memory = memory.unwrap_or_else(|| Quantity(MEMORY_DEFAULT.to_owned()));
    let set = |list: &mut BTreeMap<String, Quantity>, key: &str, value: &Quantity| {
        list.entry(key.to_owned()).or_insert_with(|| value.clone());
    };
    set(&mut limits, "memory", &memory);
    set(&mut requests, "memory", &memory);
    if !limits.contains_key("cpu") {
        set(&mut requests, "cpu", &Quantity(CPU_DEFAULT.to_owned()));
    }
    wanted.requests = Some(requests);
    wanted.limits = Some(limits);
    wanted
}
