//! How a node is told to end, and how it says that it has.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::{CancellationToken, DropGuard};

/// The ways to end a node, and what is known of its end. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Ending(Arc<Tokens>);

#[derive(Debug, Default)]
struct Tokens {
    /// Hand leadership over, answer what is pending, end.
    stop: CancellationToken,
    /// End.
    kill: CancellationToken,
    /// Why, if somebody said so.
    reason: OnceLock<String>,
    /// No turn is taken any more, so nothing that waits is answered.
    over: CancellationToken,
    /// The thread is gone.
    ended: CancellationToken,
}

impl Ending {
    /// Hands leadership over, answers what is pending, then ends. The first reason counts.
    pub fn stop(&self, reason: Option<String>) {
        if let Some(reason) = reason {
            drop(self.0.reason.set(reason));
        }
        self.0.stop.cancel();
    }

    /// Ends at once; the machine, and whoever waits, is told why.
    pub fn end(&self, reason: String) {
        drop(self.0.reason.set(reason));
        self.0.kill.cancel();
    }

    /// Ends at once, as in a crash: the machine is told nothing.
    pub fn abandon(&self) {
        self.0.kill.cancel();
    }

    /// Why it ends or has ended, if somebody said so.
    pub fn reason(&self) -> Option<&str> {
        self.0.reason.get().map(String::as_str)
    }

    /// Whether it was told to end, one way or the other.
    pub fn is_told(&self) -> bool {
        self.0.stop.is_cancelled() || self.0.kill.is_cancelled()
    }

    /// When it is told to stop.
    pub async fn stopped(&self) {
        self.0.stop.cancelled().await;
    }

    /// When it is told to end at once.
    pub async fn killed(&self) {
        self.0.kill.cancelled().await;
    }

    /// When no turn is taken any more.
    pub async fn over(&self) {
        self.0.over.cancelled().await;
    }

    /// When its thread is gone.
    pub async fn ended(&self) {
        self.0.ended.cancelled().await;
    }

    /// Dropped by the thread after its last turn.
    pub(crate) fn over_guard(&self) -> DropGuard {
        self.0.over.clone().drop_guard()
    }

    /// Dropped by the thread at its end.
    pub(crate) fn ended_guard(&self) -> DropGuard {
        self.0.ended.clone().drop_guard()
    }
}
