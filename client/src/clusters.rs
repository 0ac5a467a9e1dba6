//! What a client tells its caller when the cluster behind its endpoints was replaced by another.

use tokio::sync::watch;

/// The cluster behind a client's endpoints was lost and replaced by another one (`StartEmpty`, or a
/// `RaftCluster` that was deleted and created again). Its data is gone, its sessions as well: writes are
/// applied exactly once again from here on, in sessions of the present cluster. A write that was
/// *unknown* in the former cluster stays so, and the client never sends it to the present one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterChange {
    /// Id of the cluster in which this client's session was before.
    pub former: String,
    /// Id of the cluster in which its session is now.
    pub present: String,
    /// How many changes this client has seen, this one included.
    pub count: u64,
}

/// Waits for changes of the cluster; see [`Client::cluster_changes`](crate::Client::cluster_changes).
#[derive(Debug, Clone)]
pub struct ClusterChanges(watch::Receiver<Seen>);

impl ClusterChanges {
    /// The next change. If there were several since the last call, the last one of them, whose `count`
    /// tells how many. `None`: the client and all its clones are gone, or it goes without sessions.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<ClusterChange> {
        loop {
            self.0.changed().await.ok()?;
            // A first session is opened in a cluster without a change.
            let change = self.0.borrow_and_update().change.clone();
            if change.is_some() {
                return change;
            }
        }
    }
}

/// The cluster of the last session, and how it came to be that one.
#[derive(Debug, Clone, Default)]
struct Seen {
    cluster_id: String,
    change: Option<ClusterChange>,
}

/// Remembers in which cluster sessions were opened, and tells whoever waits for a change.
#[derive(Debug, Default)]
pub(crate) struct Clusters(watch::Sender<Seen>);

impl Clusters {
    /// A session was opened in this cluster.
    pub fn opened_in(&self, cluster_id: &str) {
        self.0.send_if_modified(|seen| {
            if seen.cluster_id == cluster_id {
                return false;
            }
            let former = std::mem::replace(&mut seen.cluster_id, cluster_id.to_owned());
            if former.is_empty() {
                return false;
            }
            let count = seen.change.as_ref().map_or(0, |change| change.count);
            seen.change = Some(ClusterChange {
                former,
                present: cluster_id.to_owned(),
                count: count + 1,
            });
            true
        });
    }

    /// The last change.
    pub fn last(&self) -> Option<ClusterChange> {
        self.0.borrow().change.clone()
    }

    /// Of what comes from here on.
    pub fn subscribe(&self) -> ClusterChanges {
        ClusterChanges(self.0.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_cluster_is_no_change_and_each_other_is_one() {
        let clusters = Clusters::default();
        let mut changes = clusters.subscribe();
        for cluster in ["a", "a", "b", "b", "c"] {
            clusters.opened_in(cluster);
        }
        let expected = ClusterChange {
            former: "b".to_owned(),
            present: "c".to_owned(),
            count: 2,
        };
        assert_eq!(clusters.last(), Some(expected.clone()));
        assert_eq!(changes.next().await, Some(expected));
        drop(clusters);
        assert_eq!(changes.next().await, None);
    }
}
