//! Who watches the machine of this node: how many, how they are woken, and when they must go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::watch;

use crate::config::WatchSettings;
use crate::driver::{Refusal, Standing};
use crate::host::Quarantine;
use crate::machine::History;

/// What watchers share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Watching(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: WatchSettings,
    history: History,
    /// The last revision that watchers were told of.
    revision: watch::Sender<u64>,
    quarantine: watch::Sender<Option<Quarantine>>,
    standing: watch::Receiver<Standing>,
    watchers: AtomicUsize,
}

/// One who watches; counted until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    watching: Watching,
    /// Changes after there may be more to read.
    pub revision: watch::Receiver<u64>,
    /// Changes when this server is quarantined.
    pub quarantine: watch::Receiver<Option<Quarantine>>,
    /// Who leads.
    pub standing: watch::Receiver<Standing>,
}

impl Watching {
    /// Nobody watches yet.
    pub fn new(settings: WatchSettings, standing: watch::Receiver<Standing>) -> Self {
        Self(Arc::new(Inner {
            settings,
            history: History::new(settings.bounds()),
            revision: watch::Sender::new(0),
            quarantine: watch::Sender::new(None),
            standing,
            watchers: AtomicUsize::new(0),
        }))
    }

    /// Bounds.
    pub fn settings(&self) -> &WatchSettings {
        &self.0.settings
    }

    /// What the machine writes, and watchers read.
    pub fn history(&self) -> &History {
        &self.0.history
    }

    /// How many watch.
    pub fn count(&self) -> usize {
        self.0.watchers.load(Relaxed)
    }

    /// One more who watches.
    ///
    /// # Errors
    /// There are `watch.watchersMax` already, or this server is quarantined.
    pub fn join(&self) -> Result<Watcher, Refusal> {
        if let Some(why) = &*self.0.quarantine.borrow() {
            return Err(Refusal::Quarantined(why.clone()));
        }
        let max = self.settings().watchers_max;
        let one_more = |count| (count < max).then_some(count + 1);
        match self.0.watchers.fetch_update(Relaxed, Relaxed, one_more) {
            Err(_) => Err(Refusal::QueueFull {
                what: "list of watchers",
                max,
            }),
            Ok(_) => Ok(Watcher {
                watching: self.clone(),
                revision: self.0.revision.subscribe(),
                quarantine: self.0.quarantine.subscribe(),
                standing: self.0.standing.clone(),
            }),
        }
    }

    /// After a turn: wakes watchers if anything changed. Costs a load if there are none.
    pub fn wake(&self) {
        if self.count() > 0 {
            let now = self.0.history.revision();
            let wake = |told: &mut u64| std::mem::replace(told, now) != now;
            self.0.revision.send_if_modified(wake);
        }
    }

    /// This server is quarantined, or not yet.
    pub fn set_quarantine(&self, why: Option<&Quarantine>) {
        let changed = |told: &mut Option<Quarantine>| {
            let changed = told.as_ref() != why;
            if changed {
                *told = why.cloned();
            }
            changed
        };
        self.0.quarantine.send_if_modified(changed);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.watching.0.watchers.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use kontiki_raft::{Role, Term};

    use super::*;

    #[test]
    fn watchers_are_bounded_and_woken_by_changes() {
        let settings = WatchSettings {
            watchers_max: 1,
            ..WatchSettings::default()
        };
        let standing = Standing {
            role: Role::Joiner,
            term: Term(0),
            leader: None,
        };
        let (_standing, seen) = watch::channel(standing);
        let watching = Watching::new(settings, seen);
        let watcher = watching.join().expect("room");
        let full = watching.join().expect_err("full");
        assert_eq!(full.to_string(), "the list of watchers is full (1)");
        watching.wake();
        assert!(!watcher.revision.has_changed().expect("it lives"));
        watching.history().write().push_nothing();
        watching.wake();
        assert!(watcher.revision.has_changed().expect("it lives"));
        drop(watcher);
        let _ = watching.join().expect("room again");
        watching.set_quarantine(Some(&"broken".into()));
        let gone = watching.join().expect_err("quarantined");
        assert_eq!(gone, Refusal::Quarantined("broken".into()));
    }
}
