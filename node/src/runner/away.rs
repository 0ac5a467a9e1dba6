//! A host that does its work elsewhere: on a thread of its own, or, for one long job, on a borrowed one.

use tokio::sync::mpsc;

use crate::driver::Input;
use crate::handle::{Handle, Reply};
use crate::host::{Done, Host, Job};

/// The next job that the machine's thread has done; never, if it has none.
pub(super) async fn next_done(
    done: &mut Option<mpsc::Receiver<Done<Reply>>>,
) -> Option<Done<Reply>> {
    match done {
        Some(done) => done.recv().await,
        None => std::future::pending().await,
    }
}

/// Has a long job done off the node thread, and brings the host back.
pub(super) async fn go_away(handle: Handle, mut host: Box<Host>, job: Job<Reply>) {
    let work = move || {
        let done = host.run(job);
        Input::Back(host, done)
    };
    match tokio::task::spawn_blocking(work).await {
        // The node may have ended meanwhile.
        Ok(back) => drop(handle.submit_from_peer(back).await),
        Err(error) => tracing::error!(%error, "the machine is lost"),
    }
}
