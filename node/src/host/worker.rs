//! A host on a thread of its own.

use std::sync::mpsc as std_mpsc;
use std::thread;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Done, Host, Job};

/// Jobs given and not done; the driver keeps to it, so a channel of this length is never full.
pub const JOBS_MAX: usize = 8192;

/// Gives jobs to a host on a thread of its own, and hands back what they came to.
#[derive(Debug)]
pub struct Worker<R> {
    jobs: std_mpsc::SyncSender<Job<R>>,
    ended: CancellationToken,
}

impl<R: Send + 'static> Worker<R> {
    /// Starts the thread. It ends when the worker is dropped and its last job is done.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn start(mut host: Host) -> std::io::Result<(Self, mpsc::Receiver<Done<R>>)> {
        let (jobs, taken) = std_mpsc::sync_channel(JOBS_MAX);
        let (done, results) = mpsc::channel(JOBS_MAX);
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let body = move || {
            let _ended = guard;
            for job in taken {
                // Nobody waits any more: all that is left is to tell the machine that it ends.
                if done.is_closed() && !matches!(job, Job::Stop(_)) {
                    continue;
                }
                drop(done.blocking_send(host.run(job)));
            }
        };
        thread::Builder::new().name("machine".into()).spawn(body)?;
        Ok((Self { jobs, ended }, results))
    }

    /// Gives no more jobs, and waits until those given are done.
    pub async fn finish(self) {
        let Self { jobs, ended } = self;
        drop(jobs);
        ended.cancelled().await;
    }

    /// Gives it a job. `false`: it has more than [`JOBS_MAX`], or its thread is gone.
    pub fn give(&self, job: Job<R>) -> bool {
        self.jobs.try_send(job).is_ok()
    }
}
