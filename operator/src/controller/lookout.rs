//! Watching clusters at rest: a short question to each leader, and nothing to the API server.
//!
//! A leader that does not answer, leads no more, serves no more, is quarantined, has lost sight of a
//! server or applies another version of its machine makes the cluster be looked at in full. Leaders are asked every second, and less often when there are
//! many of them, so that an operator at rest stays cheap.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kontiki_api::RaftCluster;
use kontiki_plan::{Inventory, Observation, Role, ServerId, ServerView};
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::inventory::view;

/// Questions in a second, at most, over time.
const QUESTIONS_PER_SECOND_MAX: u32 = 100;
/// Questions at once.
const QUESTIONS_AT_ONCE_MAX: usize = 32;
/// Time between two questions to one leader, at least.
const INTERVAL: Duration = Duration::from_secs(1);

/// The clusters at rest.
#[derive(Default)]
pub struct Lookout {
    watched: Mutex<HashMap<ObjectRef<RaftCluster>, Watched>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Watched {
    /// Peer address of the leader.
    address: String,
    glance: Glance,
}

/// What must stay the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Glance {
    server: ServerId,
    leads: bool,
    serving: bool,
    quarantined: bool,
    term: u64,
    configuration_index: u64,
    machine_version: Option<u32>,
    reachable: BTreeMap<ServerId, bool>,
}

impl Glance {
    fn of(view: &ServerView) -> Self {
        let progress = view.progress.iter();
        Self {
            server: view.server,
            leads: view.role == Role::Leader,
            serving: view.serving,
            quarantined: view.quarantine.is_some(),
            term: view.term,
            configuration_index: view.configuration.index,
            machine_version: view.machine_version,
            reachable: progress
                .map(|(id, progress)| (*id, progress.reachable))
                .collect(),
        }
    }
}

impl Lookout {
    /// Watches `cluster`, which was just seen as `inventory`. Without a leader there is nobody to
    /// ask, and it is not watched.
    pub fn watch(&self, cluster: ObjectRef<RaftCluster>, inventory: &Inventory) {
        let instances = inventory
            .nodes
            .iter()
            .filter_map(|node| node.instance.as_ref());
        let mut leaders = instances.filter_map(|instance| match &instance.observation {
            Observation::Seen(view) if view.role == Role::Leader => Some(Watched {
                address: instance.peer_address.clone(),
                glance: Glance::of(view),
            }),
            _ => None,
        });
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        match leaders.next() {
            Some(leader) => watched.insert(cluster, leader),
            None => watched.remove(&cluster),
        };
    }

    /// Watches `cluster` no more.
    pub fn forget(&self, cluster: &ObjectRef<RaftCluster>) {
        self.watched
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(cluster);
    }

    /// Asks until `shutdown`, and sends every cluster that is not as it was to `notice`. It is not
    /// watched any more then, until it has been looked at.
    pub async fn run(
        &self,
        admin: &Admin,
        notice: mpsc::Sender<ObjectRef<RaftCluster>>,
        shutdown: CancellationToken,
    ) {
        loop {
            let round: Vec<_> = {
                let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
                watched
                    .iter()
                    .map(|(key, watched)| (key.clone(), watched.clone()))
                    .collect()
            };
            let wait = interval(round.len());
            let ask = |(key, watched): (ObjectRef<RaftCluster>, Watched)| async move {
                let same = is_as_it_was(admin, &watched).await;
                (!same).then_some((key, watched))
            };
            let changed = futures::stream::iter(round.into_iter().map(ask))
                .buffer_unordered(QUESTIONS_AT_ONCE_MAX)
                .filter_map(|changed| async move { changed });
            let round = changed.for_each(|(key, watched)| {
                self.notice(&notice, key, &watched);
                std::future::ready(())
            });
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = async { round.await; tokio::time::sleep(wait).await } => {}
            }
        }
    }

    fn notice(
        &self,
        notice: &mpsc::Sender<ObjectRef<RaftCluster>>,
        key: ObjectRef<RaftCluster>,
        asked: &Watched,
    ) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        // A reconcile may have looked meanwhile, and watches something else now.
        if watched.get(&key) == Some(asked) && notice.try_send(key.clone()).is_ok() {
            watched.remove(&key);
        }
    }
}

/// Time between two rounds over `clusters`.
fn interval(clusters: usize) -> Duration {
    let clusters = u32::try_from(clusters).unwrap_or(u32::MAX);
    INTERVAL.max(Duration::from_secs(1) * clusters / QUESTIONS_PER_SECOND_MAX)
}

async fn is_as_it_was(admin: &Admin, watched: &Watched) -> bool {
    let Ok(status) = admin.status(&watched.address).await else {
        return false;
    };
    view::view(&status).is_ok_and(|view| Glance::of(&view) == watched.glance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_clusters_are_asked_less_often() {
        assert_eq!(interval(0), Duration::from_secs(1));
        assert_eq!(interval(100), Duration::from_secs(1));
        assert_eq!(interval(500), Duration::from_secs(5));
    }

    #[tokio::test]
    async fn a_leader_that_does_not_answer_is_noticed_once() {
        let lookout = Lookout::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let glance = Glance {
            server: ServerId(1),
            leads: true,
            serving: true,
            quarantined: false,
            term: 1,
            configuration_index: 1,
            machine_version: None,
            reachable: BTreeMap::new(),
        };
        let key = ObjectRef::new("demo").within("default");
        lookout
            .watched
            .lock()
            .unwrap()
            .insert(key.clone(), Watched { address, glance });
        let (notice, mut noticed) = mpsc::channel(4);
        let shutdown = CancellationToken::new();
        let admin = Admin::default();
        let wait = async {
            let first = noticed.recv().await;
            shutdown.cancel();
            first
        };
        let ((), first) = tokio::join!(lookout.run(&admin, notice, shutdown.clone()), wait);
        assert_eq!(first, Some(key));
        assert!(lookout.watched.lock().unwrap().is_empty());
    }
}
