//! A host on a thread of its own.

use std::sync::mpsc as std_mpsc;
use std::thread;

use tokio::sync::mpsc;

use super::{Done, Host, Job};

/// Jobs given and not done; the driver keeps to it, so a channel of this length is never full.
pub const JOBS_MAX: usize = 8192;

/// Gives jobs to a host on a thread of its own, and hands back what they came to.
#[derive(Debug)]
pub struct Worker<R> {
    jobs: std_mpsc::SyncSender<Job<R>>,
}

impl<R: Send + 'static> Worker<R> {
    /// Starts the thread. It ends when the worker is dropped and its last job is done.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn start(mut host: Host) -> std::io::Result<(Self, mpsc::Receiver<Done<R>>)> {
        let (jobs, taken) = std_mpsc::sync_channel(JOBS_MAX);
        let (done, results) = mpsc::channel(JOBS_MAX);
        let body = move || {
            for job in taken {
                if done.blocking_send(host.run(job)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("machine".into()).spawn(body)?;
        Ok((Self { jobs }, results))
    }

    /// Gives it a job. `false`: it has more than [`JOBS_MAX`], or its thread is gone.
    pub fn give(&self, job: Job<R>) -> bool {
        self.jobs.try_send(job).is_ok()
    }
}
