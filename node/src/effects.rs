//! What machines want done besides answering: run in order, on a thread of its own, so that whatever
//! it waits for holds nobody up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use crate::machine::Effect;
use crate::metrics::{Effected, Metrics};

/// Effects that wait; past it they are dropped, and counted: an effect is run at most once.
const EFFECTS_MAX: usize = 1024;

/// Runs effects. Its thread is started by the first one, since most machines have none.
#[derive(Debug)]
pub struct EffectThread {
    metrics: Arc<Metrics>,
    queue: Option<SyncSender<Effect>>,
}

impl EffectThread {
    /// Counts into these metrics.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            queue: None,
        }
    }

    /// Queues an effect.
    pub fn run(&mut self, effect: Effect) {
        if self.queue.is_none() {
            self.queue = start(self.metrics.clone());
        }
        let queued = self.queue.as_ref().map(|queue| queue.try_send(effect));
        if !matches!(queued, Some(Ok(()))) {
            tracing::warn!(max = EFFECTS_MAX, "an effect is dropped: too many wait");
            self.metrics.count_effect(Effected::Dropped);
        }
    }
}

fn start(metrics: Arc<Metrics>) -> Option<SyncSender<Effect>> {
    let (queue, waiting) = sync_channel::<Effect>(EFFECTS_MAX);
    let body = move || {
        for effect in waiting {
            let result = catch_unwind(AssertUnwindSafe(effect));
            let result = result.unwrap_or_else(|_| Err("it panicked".into()));
            match result {
                Ok(()) => metrics.count_effect(Effected::Done),
                Err(error) => {
                    tracing::warn!(%error, "an effect failed; the write stands");
                    metrics.count_effect(Effected::Failed);
                }
            }
        }
    };
    let started = thread::Builder::new().name("effects".into()).spawn(body);
    match started {
        Ok(_) => Some(queue),
        Err(error) => {
            tracing::error!(%error, "cannot start a thread for effects");
            None
        }
    }
}
