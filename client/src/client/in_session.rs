//! Writes in the client's session, and what it tells about its cluster.

use kontiki_proto::reason;
use kontiki_proto::v1::InSession;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::Client;
use crate::Error;
use crate::backoff::Backoff;
use crate::clusters::{ClusterChange, ClusterChanges, Clusters};
use crate::revision::Revision;
use crate::router::Kind;
use crate::session::Place;

/// Which cluster a write is meant for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meant {
    /// Whichever is there when it is applied.
    AnyCluster,
    /// The one that its revision is of; empty: the one that it is begun in.
    OneCluster(String),
}

impl Meant {
    pub(super) fn by(at: Option<Revision>) -> Self {
        at.map_or(Self::AnyCluster, |at| Self::OneCluster(at.cluster_id))
    }
}

impl Client {
    /// Sends a write in the session, or once if this client goes without.
    pub(super) async fn send_write<T, F, Fut>(&self, mut meant: Meant, send: F) -> Result<T, Error>
    where
        F: Fn(Channel, Option<InSession>) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let Some(sessions) = &self.sessions else {
            return self
                .router
                .call(Kind::Write, |channel| send(channel, None))
                .await;
        };
        let deadline = Instant::now() + self.router.options().timeout;
        let mut backoff = Backoff::new();
        loop {
            let place = sessions.place(&self.router, deadline).await?;
            if let Meant::OneCluster(cluster_id) = &mut meant {
                if cluster_id.is_empty() {
                    place.cluster_id().clone_into(cluster_id);
                } else if place.cluster_id() != cluster_id {
                    return Err(self.replaced(cluster_id, place.cluster_id()));
                }
            }
            let result = self
                .router
                .call_by(deadline, Kind::InSession, |channel| {
                    send(channel, Some(place.in_session()))
                })
                .await;
            let Err(error) = result else {
                return result;
            };
            if error.is_unknown() {
                // The session may be gone; another costs a write, and this one holds nothing up.
                sessions.leave(&place).await;
                return Err(error);
            }
            if !matches!(
                error.reason(),
                Some(reason::SESSION_EXPIRED | reason::WRONG_CLUSTER)
            ) {
                return Err(error);
            }
            // No attempt was ever unknown, so none was applied: it is as good as new.
            sessions.leave(&place).await;
            let pause = backoff.pause();
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// A write with a condition met another cluster than the one that it was begun in.
    fn replaced(&self, former: &str, present: &str) -> Error {
        Error::Failed {
            reason: reason::WRONG_CLUSTER.to_owned(),
            message: format!(
                "the condition is of cluster {former}, which was replaced by cluster {present}: revisions \
                 of the one mean nothing in the other; read the key anew"
            ),
            endpoint: self.router.target().to_string(),
            attempts: 0,
        }
    }

    /// Changes of the cluster that this client and its clones write to, from here on. A client that writes
    /// in sessions notices when the session that it opens next is of another cluster than the last; one
    /// that goes without sessions notices nothing.
    pub fn cluster_changes(&self) -> ClusterChanges {
        match &self.sessions {
            Some(sessions) => sessions.clusters().subscribe(),
            None => Clusters::default().subscribe(),
        }
    }

    /// The last change of the cluster, if this client has seen any: see [`Client::cluster_changes`].
    pub fn cluster_change(&self) -> Option<ClusterChange> {
        self.sessions.as_ref()?.clusters().last()
    }

    /// A place for one write in the session, for
    /// [`WriteStream::submit_in`](crate::WriteStream::submit_in): submitted again in the same place, on
    /// this stream or another, it is applied once. `None` if this client goes without sessions.
    ///
    /// # Errors
    /// [`Error::Failed`] if no session can be opened, or its window stays full.
    pub async fn place(&self) -> Result<Option<Place>, Error> {
        let Some(sessions) = &self.sessions else {
            return Ok(None);
        };
        let deadline = Instant::now() + self.router.options().timeout;
        sessions.place(&self.router, deadline).await.map(Some)
    }

    /// The session of this place is over: the next write or [`Client::place`] begins another. To be
    /// called when a stream has answered `SESSION_EXPIRED` or `WRONG_CLUSTER`. A command whose outcome in
    /// this place was unknown stays unknown then: submitted in another place, it may be applied twice.
    pub async fn leave_session(&self, place: &Place) {
        if let Some(sessions) = &self.sessions {
            sessions.leave(place).await;
        }
    }

    /// Closes the session, if one is open. Not needed: a session that is not used expires. The next
    /// write opens another.
    ///
    /// # Errors
    /// [`Error::Failed`]: it will expire.
    pub async fn close_session(&self) -> Result<(), Error> {
        match &self.sessions {
            Some(sessions) => sessions.close(&self.router).await,
            None => Ok(()),
        }
    }
}
