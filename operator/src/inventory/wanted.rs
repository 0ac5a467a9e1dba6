//! What is wanted, from the resource to what the planner reads.

use std::borrow::Cow;
use std::time::Duration;

use kontiki_api::{OnTotalLoss, RaftClusterSpec};
use kontiki_plan::{self as plan, Wanted};

/// The least state limit that a node takes, in bytes.
const STATE_LIMIT_MIN: u64 = 8 << 20;

/// A value that the rules of the resource refuse; an object that was stored before a rule was there
/// may still have it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("spec.{field} is {value}, but must be {must}")]
pub struct Invalid {
    /// Path below `spec`.
    pub field: &'static str,
    /// What it says.
    pub value: String,
    /// What would be right.
    pub must: Cow<'static, str>,
}

/// Parses the spec.
///
/// # Errors
/// A number out of its bounds.
pub fn wanted(spec: &RaftClusterSpec) -> Result<Wanted, Invalid> {
    let replicas = bounded("replicas", spec.replicas, 9, "between 1 and 9")?;
    let most = i32::try_from(replicas).unwrap_or(9);
    let (majority, timeout) = (
        spec.raft.min_majority,
        spec.raft.election_timeout_milliseconds,
    );
    let min_majority = bounded("raft.minMajority", majority, most, "between 1 and replicas")?;
    let field = "raft.electionTimeoutMilliseconds";
    let timeout = bounded(field, timeout, 600_000, "between 1 and 600000")?;
    let heartbeat = spec.raft.heartbeat_milliseconds;
    if i64::from(timeout) < 2 * i64::from(heartbeat) {
        return Err(Invalid {
            field,
            value: timeout.to_string(),
            must: format!("at least twice raft.heartbeatMilliseconds, which is {heartbeat}").into(),
        });
    }
    check_state_limit(spec)?;
    Ok(Wanted {
        replicas,
        min_majority,
        election_timeout: Duration::from_millis(u64::from(timeout)),
        paused: spec.paused,
        machine: spec.state_machine.kind.machine().map(str::to_owned),
        on_total_loss: match spec.recovery.on_total_loss {
            OnTotalLoss::Halt => plan::OnTotalLoss::Halt,
            OnTotalLoss::StartEmpty => plan::OnTotalLoss::StartEmpty,
        },
    })
}

/// No node starts with a limit that is too little, or more than its container's memory.
fn check_state_limit(spec: &RaftClusterSpec) -> Result<(), Invalid> {
    let Some(limit) = &spec.state_limit else {
        return Ok(());
    };
    let invalid = |must: Cow<'static, str>| Invalid {
        field: "stateLimit",
        value: limit.clone(),
        must,
    };
    let bytes = kontiki_api::bytes(limit).filter(|bytes| *bytes >= STATE_LIMIT_MIN);
    let bytes = bytes.ok_or_else(|| {
        invalid("a quantity of bytes without a fraction, such as 512Mi, of at least 8Mi".into())
    })?;
    let resources = spec.pod_template.resources.as_ref();
    let memory = resources.and_then(|resources| resources.limits.as_ref()?.get("memory"));
    match memory {
        // A quantity that is not understood here is the API server's to judge.
        Some(memory) if kontiki_api::bytes(&memory.0).is_some_and(|memory| memory < bytes) => {
            let memory = &memory.0;
            Err(invalid(
                format!(
                    "at most podTemplate.resources.limits.memory, which is {memory}; 40 % of it is usual"
                )
                .into(),
            ))
        }
        _ => Ok(()),
    }
}

fn bounded(field: &'static str, value: i32, most: i32, must: &'static str) -> Result<u32, Invalid> {
    let invalid = || Invalid {
        field,
        value: value.to_string(),
        must: must.into(),
    };
    match u32::try_from(value) {
        Ok(number) if number >= 1 && value <= most => Ok(number),
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(replicas: i32, min_majority: i32) -> RaftClusterSpec {
        let text = format!(
            "{{replicas: {replicas}, stateMachine: {{kind: Kv}}, storage: {{mode: Memory}}, \
             raft: {{minMajority: {min_majority}}}}}"
        );
        serde_yaml::from_str(&text).unwrap()
    }

    #[test]
    fn a_valid_spec_is_read() {
        let wanted = wanted(&spec(3, 2)).unwrap();
        assert_eq!((wanted.replicas, wanted.min_majority), (3, 2));
        assert_eq!(wanted.election_timeout, Duration::from_secs(1));
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        for (replicas, min_majority, field) in [
            (0, 1, "replicas"),
            (10, 1, "replicas"),
            (3, 4, "raft.minMajority"),
        ] {
            assert_eq!(
                wanted(&spec(replicas, min_majority)).unwrap_err().field,
                field
            );
        }
    }

    #[test]
    fn settings_that_cannot_work_together_name_both() {
        let mut slow = spec(3, 1);
        slow.raft.heartbeat_milliseconds = 501;
        assert_eq!(
            wanted(&slow).unwrap_err().to_string(),
            "spec.raft.electionTimeoutMilliseconds is 1000, but must be at least twice \
             raft.heartbeatMilliseconds, which is 501"
        );
        let mut large = spec(3, 1);
        large.state_limit = Some("2Gi".into());
        large.pod_template = serde_yaml::from_str("{resources: {limits: {memory: 1Gi}}}").unwrap();
        assert_eq!(
            wanted(&large).unwrap_err().to_string(),
            "spec.stateLimit is 2Gi, but must be at most podTemplate.resources.limits.memory, which is \
             1Gi; 40 % of it is usual"
        );
        large.state_limit = Some("1Gi".into());
        assert!(wanted(&large).is_ok());
    }

    #[test]
    fn a_state_limit_that_no_node_would_take_is_named() {
        for (limit, is_valid) in [
            ("8Mi", true),
            ("1Gi", true),
            ("8388608", true),
            ("8M", false),
            ("1.5Gi", false),
        ] {
            let mut spec = spec(3, 1);
            spec.state_limit = Some(limit.to_owned());
            let refused = wanted(&spec).err();
            assert_eq!(refused.is_none(), is_valid, "{limit}");
            if let Some(refused) = refused {
                let text = refused.to_string();
                assert!(text.starts_with("spec.stateLimit is ") && text.contains(limit));
            }
        }
    }
}
