//! Whether a live object already is as it was rendered.

use serde_json::Value;

/// Whether everything that `wanted` says holds in `live`. What `live` says beyond that, defaults and
/// the fields of others, does not matter; lists must have the same length, entry by entry.
pub fn matches(wanted: &Value, live: &Value) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => wanted.iter().all(|(key, value)| {
            is_empty(value) || live.get(key).is_some_and(|live| matches(value, live))
        }),
        (Value::Array(wanted), Value::Array(live)) => {
            wanted.len() == live.len() && wanted.iter().zip(live).all(|(w, l)| matches(w, l))
        }
        _ => wanted == live,
    }
}

/// The API server drops what is empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty) && fields.is_empty(),
        Value::Array(entries) => entries.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::matches;

    #[test]
    fn defaults_and_fields_of_others_do_not_matter() {
        let wanted = json!({"spec": {"ports": [{"name": "client", "port": 7400}]}, "labels": {}});
        let live = json!({"spec": {"ports": [{"name": "client", "port": 7400, "protocol": "TCP"}],
            "clusterIP": "10.0.0.1"}});
        assert!(matches(&wanted, &live));
    }

    #[test]
    fn a_changed_value_a_missing_key_and_an_extra_entry_do() {
        let wanted = json!({"replicas": 3, "args": ["--config"]});
        for live in [
            json!({"replicas": 2, "args": ["--config"]}),
            json!({"replicas": 3}),
            json!({"replicas": 3, "args": ["--config", "--more"]}),
        ] {
            assert!(!matches(&wanted, &live), "{live}");
        }
    }
}
