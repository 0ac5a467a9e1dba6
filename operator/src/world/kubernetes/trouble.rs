//! Why a pod does not start, in words that stay the same while the reason does: they are part of a
//! status, and Kubernetes' own change with every attempt.

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};

use crate::objects;

/// Bytes of the scheduler's message that are kept; it has a clause for every kind of obstacle.
const MESSAGE_MAX: usize = 200;

/// What keeps the node's container from running, or the pod from a machine.
pub(super) fn of(status: &PodStatus) -> Option<String> {
    let mut containers = status.container_statuses.iter().flatten();
    let node = containers.find(|container| container.name == objects::CONTAINER);
    node.and_then(waiting).or_else(|| unschedulable(status))
}

fn waiting(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?.waiting.as_ref()?;
    let image = &container.image;
    match state.reason.as_deref()? {
        "ContainerCreating" | "PodInitializing" => None,
        // The one while it is tried, the other in between.
        "ErrImagePull" | "ImagePullBackOff" => Some(format!("image {image} cannot be pulled")),
        "InvalidImageName" => Some(format!("image {image:?} is no name of an image")),
        "ErrImageNeverPull" => Some(format!(
            "image {image} is not there, and imagePullPolicy is Never"
        )),
        "CrashLoopBackOff" => Some(match exit_code(container) {
            Some(code) => format!("it ends again and again, last with exit status {code}"),
            None => "it ends again and again".to_owned(),
        }),
        other => Some(other.to_owned()),
    }
}

fn exit_code(container: &ContainerStatus) -> Option<i32> {
    let last = container.last_state.as_ref()?.terminated.as_ref()?;
    Some(last.exit_code)
}

fn unschedulable(status: &PodStatus) -> Option<String> {
    let mut conditions = status.conditions.iter().flatten();
    let scheduled = conditions.find(|condition| condition.type_ == "PodScheduled")?;
    if scheduled.status != "False" || scheduled.reason.as_deref() != Some("Unschedulable") {
        return None;
    }
    let mut message = scheduled.message.clone().unwrap_or_default();
    message.truncate(message.floor_char_boundary(MESSAGE_MAX));
    Some(format!("no Kubernetes node takes it: {message}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(status: Value) -> Option<String> {
        of(&serde_json::from_value(status).unwrap())
    }

    fn node(reason: &str, last: Value) -> Option<String> {
        let waiting = json!({"waiting": {"reason": reason, "message": "attempt 7"}});
        said(json!({"containerStatuses": [
            {"name": "sidecar", "image": "other", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ImagePullBackOff"}}},
            {"name": "node", "image": "bank:3", "imageID": "", "ready": false, "restartCount": 3,
                "state": waiting, "lastState": last},
        ]}))
    }

    #[test]
    fn attempts_and_the_pauses_between_them_read_the_same() {
        let pull = node("ErrImagePull", json!({}));
        assert_eq!(pull.as_deref(), Some("image bank:3 cannot be pulled"));
        assert_eq!(node("ImagePullBackOff", json!({})), pull);
    }

    #[test]
    fn a_program_that_ends_again_and_again_says_how() {
        let last = json!({"terminated": {"exitCode": 78}});
        let text = node("CrashLoopBackOff", last).unwrap();
        assert_eq!(text, "it ends again and again, last with exit status 78");
    }

    #[test]
    fn what_starts_or_runs_is_in_no_trouble() {
        assert_eq!(node("ContainerCreating", json!({})), None);
        assert_eq!(said(json!({})), None);
        assert_eq!(
            said(
                json!({"containerStatuses": [{"name": "node", "image": "bank:3", "imageID": "",
                "ready": true, "restartCount": 1, "state": {"running": {}}}]})
            ),
            None
        );
    }

    #[test]
    fn a_pod_that_finds_no_room_says_why() {
        let condition = |status: &str, reason: &str| {
            said(
                json!({"conditions": [{"type": "PodScheduled", "status": status,
                "reason": reason, "message": "0/3 nodes are available: 3 Insufficient memory."}]}),
            )
        };
        assert_eq!(
            condition("False", "Unschedulable").as_deref(),
            Some("no Kubernetes node takes it: 0/3 nodes are available: 3 Insufficient memory.")
        );
        assert_eq!(condition("False", "SchedulingGated"), None);
        assert_eq!(condition("True", ""), None);
    }
}
