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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use kontiki_raft::ServerId;

    use super::*;
    use crate::address_book::ServerRef;

    #[test]
    fn effects_that_wait_are_bounded_and_dropped_ones_are_counted() {
        let me = ServerRef::unknown(ServerId(1));
        let metrics = Arc::new(Metrics::new(&me, "kv"));
        let counted = |outcome: &str, count: usize| {
            let line = format!("kontiki_effects_total{{outcome=\"{outcome}\"}} {count}\n");
            metrics.render().contains(&line)
        };
        let mut effects = EffectThread::new(metrics.clone());
        let (begun, has_begun) = channel();
        let (release, released) = channel::<()>();
        effects.run(Box::new(move || {
            begun.send(()).map_err(|error| error.to_string())?;
            released.recv().map_err(|error| error.to_string())
        }));
        has_begun.recv().expect("the first is run");
        for _ in 1..EFFECTS_MAX {
            effects.run(Box::new(|| Ok(())));
        }
        let (end, has_ended) = channel();
        let is_over = end.clone();
        effects.run(Box::new(move || {
            is_over.send(()).map_err(|error| error.to_string())
        }));
        assert!(counted("dropped", 0));
        effects.run(Box::new(|| Ok(())));
        assert!(counted("dropped", 1));
        release.send(()).expect("it waits");
        has_ended.recv().expect("the last that waited is run");
        effects.run(Box::new(move || {
            end.send(()).map_err(|error| error.to_string())
        }));
        has_ended.recv().expect("there is room again");
    }
}
