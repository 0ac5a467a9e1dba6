//! Sessions: a client numbers its writes, so that one can be sent again until its outcome is known
//! and is applied once all the same. `docs/sessions.md` is the protocol.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use kontiki_proto::reason;
use kontiki_proto::v1::{CloseSessionRequest, InSession, OpenSessionRequest};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Error;
use crate::client::data;
use crate::clusters::Clusters;
use crate::router::{Kind, Router};

/// The session of a client and its clones; opened when the first write needs one, and another once
/// that has expired, or once its cluster has been replaced by another.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    /// Held while one is opened, so that writes that begin together open one.
    current: tokio::sync::Mutex<Option<Arc<Session>>>,
    /// Told whenever a session is opened in another cluster than the one before.
    clusters: Clusters,
}

#[derive(Debug)]
struct Session {
    id: u64,
    /// The cluster that it is of. Another one gives out the same ids.
    cluster_id: String,
    /// How far above the acknowledged sequence a sequence may be.
    window_max: u64,
    state: Mutex<State>,
    /// A write has ended.
    freed: Notify,
}

#[derive(Debug)]
struct State {
    /// The sequence given out last.
    last: u64,
    in_flight: BTreeSet<u64>,
}

impl State {
    /// Everything through here has ended.
    fn acknowledged(&self) -> u64 {
        self.in_flight
            .first()
            .map_or(self.last, |oldest| oldest - 1)
    }
}

/// The place of one write in the client's session. A write that is sent again in the same place is
/// applied once. When it is dropped, the write has ended: it is not sent again, and its reply may be
/// forgotten.
#[derive(Debug)]
pub struct Place {
    session: Arc<Session>,
    sequence: u64,
}

impl Place {
    /// As it goes with a request, now.
    pub(crate) fn in_session(&self) -> InSession {
        let state = self.session.state.lock().expect("no holder panics");
        InSession {
            session: self.session.id,
            sequence: self.sequence,
            acknowledged: state.acknowledged(),
            cluster_id: self.session.cluster_id.clone(),
        }
    }

    /// The cluster that the write's session is of. A write that is in doubt is in doubt there: no other
    /// cluster can tell what became of it.
    pub fn cluster_id(&self) -> &str {
        &self.session.cluster_id
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.session.state.lock().expect("no holder panics");
        state.in_flight.remove(&self.sequence);
        drop(state);
        self.session.freed.notify_waiters();
    }
}

impl Session {
    fn try_place(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.state.lock().expect("no holder panics");
        let sequence = state.last + 1;
        if sequence > state.acknowledged() + self.window_max {
            return None;
        }
        state.last = sequence;
        state.in_flight.insert(sequence);
        let session = Arc::clone(self);
        Some(Place { session, sequence })
    }
}

impl Sessions {
    /// A place for a new write, once there is a session with room in its window.
    ///
    /// # Errors
    /// [`Error::Failed`]: nothing was sent that would be applied.
    pub async fn place(&self, router: &Router, deadline: Instant) -> Result<Place, Error> {
        let session = self.open(router, deadline).await?;
        loop {
            let freed = session.freed.notified();
            tokio::pin!(freed);
            // Before the look at the window, so that nothing is missed in between.
            freed.as_mut().enable();
            if let Some(place) = session.try_place() {
                return Ok(place);
            }
            if tokio::time::timeout_at(deadline, freed).await.is_err() {
                let max = session.window_max;
                return Err(Error::Failed {
                    reason: reason::SESSION_WINDOW_FULL.to_owned(),
                    message: format!("the oldest write of a window of {max} has not ended yet"),
                    endpoint: router.target().to_string(),
                    attempts: 0,
                });
            }
        }
    }

    async fn open(&self, router: &Router, deadline: Instant) -> Result<Arc<Session>, Error> {
        let mut current = self.current.lock().await;
        if let Some(session) = &*current {
            return Ok(Arc::clone(session));
        }
        // Opened twice, one of them expires: so it may be asked for like a read.
        let opened = router
            .call_by(deadline, Kind::Read, |channel| async move {
                data(channel).open_session(OpenSessionRequest {}).await
            })
            .await?;
        let session = Arc::new(Session {
            id: opened.session,
            cluster_id: opened.cluster_id,
            window_max: u64::from(opened.window_max.max(1)),
            state: Mutex::new(State {
                last: 0,
                in_flight: BTreeSet::new(),
            }),
            freed: Notify::new(),
        });
        self.clusters.opened_in(&session.cluster_id);
        *current = Some(Arc::clone(&session));
        Ok(session)
    }

    /// The next write begins another session. Those in flight go on in this one.
    pub async fn leave(&self, place: &Place) {
        let mut current = self.current.lock().await;
        if current
            .as_ref()
            .is_some_and(|session| Arc::ptr_eq(session, &place.session))
        {
            *current = None;
        }
    }

    /// What was seen of clusters so far.
    pub fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// Closes the session, if one is open, instead of leaving it to expire.
    pub async fn close(&self, router: &Router) -> Result<(), Error> {
        let Some(session) = self.current.lock().await.take() else {
            return Ok(());
        };
        let request = CloseSessionRequest {
            session: session.id,
            cluster_id: session.cluster_id.clone(),
        };
        let deadline = Instant::now() + router.options().timeout;
        let closed = router
            .call_by(deadline, Kind::Read, |channel| {
                let request = request.clone();
                async move { data(channel).close_session(request).await }
            })
            .await;
        match closed {
            // It went with its cluster.
            Err(error) if error.reason() == Some(reason::WRONG_CLUSTER) => Ok(()),
            closed => closed.map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(window_max: u64) -> Arc<Session> {
        Arc::new(Session {
            id: 9,
            cluster_id: "c1".to_owned(),
            window_max,
            state: Mutex::new(State {
                last: 0,
                in_flight: BTreeSet::new(),
            }),
            freed: Notify::new(),
        })
    }

    #[test]
    fn what_has_ended_is_acknowledged_and_what_is_in_flight_holds_the_window() {
        let session = session(3);
        let mut places: Vec<Place> = (0..3).map(|_| session.try_place().unwrap()).collect();
        assert!(session.try_place().is_none(), "the window is full");
        let sent = |place: &Place| {
            let sent = place.in_session();
            (sent.session, sent.sequence, sent.acknowledged)
        };
        assert_eq!(sent(&places[2]), (9, 3, 0));
        // The oldest holds the window, whatever ends after it.
        drop(places.pop());
        drop(places.pop());
        assert!(session.try_place().is_none());
        drop(places.pop());
        let place = session.try_place().unwrap();
        assert_eq!(sent(&place), (9, 4, 3));
        let next = session.try_place().unwrap();
        drop(place);
        assert_eq!(sent(&next), (9, 5, 4));
    }
}
