//! The identity of a cluster in a ConfigMap of its own, which nothing but the identity steps write.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kontiki_api::{Names, RaftCluster};
use kontiki_plan::{Discarded, Identity, IdentityRecord};
use kube::ResourceExt;
use serde::de::DeserializeOwned;

use super::metadata;

/// Key of an identity in force.
const RECORD: &str = "identity";
/// Key of one that was given up.
const DISCARDED: &str = "discarded";

/// The ConfigMap that says `identity`, or nothing for one that is absent or unreadable: those are
/// never written.
///
/// # Errors
/// A record that YAML cannot say.
pub fn identity_config_map(
    cluster: &RaftCluster,
    identity: Result<&IdentityRecord, &Discarded>,
) -> Result<ConfigMap, serde_yaml::Error> {
    let (key, text) = match identity {
        Ok(record) => (RECORD, serde_yaml::to_string(record)?),
        Err(discarded) => (DISCARDED, serde_yaml::to_string(discarded)?),
    };
    Ok(ConfigMap {
        metadata: metadata(cluster, Names::of(cluster).identity()),
        data: Some(BTreeMap::from([(key.to_owned(), text)])),
        ..ConfigMap::default()
    })
}

/// What an identity ConfigMap says. Exactly one of the two keys must be there and readable; anything
/// else is unreadable, and blocks the drawing of a new identity.
pub fn parse_identity(object: &ConfigMap) -> Identity {
    let place = format!("ConfigMap {}", object.name_any());
    let version = object.resource_version().unwrap_or_default();
    let data = object.data.clone().unwrap_or_default();
    let unreadable = |reason: String| Identity::Unreadable {
        place: place.clone(),
        reason,
    };
    match (data.get(RECORD), data.get(DISCARDED)) {
        (Some(text), None) => match read(text) {
            Ok(record) => Identity::Recorded { record, version },
            Err(reason) => unreadable(format!("key {RECORD}: {reason}")),
        },
        (None, Some(text)) => match read(text) {
            Ok(discarded) => Identity::Discarded { discarded, version },
            Err(reason) => unreadable(format!("key {DISCARDED}: {reason}")),
        },
        _ => unreadable(format!(
            "it must have the key {RECORD} or {DISCARDED}, and not both"
        )),
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_yaml::from_str(text).map_err(|error| error.to_string())
}
