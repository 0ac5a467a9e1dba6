//! Going down without harm.

use std::time::{Duration, Instant};

use kontiki_raft::Role;
use tokio::signal::unix::{SignalKind, signal};

use crate::driver::{Input, Refusal};
use crate::handle::{Failure, Handle};

/// Resolves on SIGTERM or SIGINT.
///
/// # Errors
/// The signals cannot be watched.
pub fn signals() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping");
    })
}

/// Refuses new requests from here on, health first, and if this server leads, hands leadership to
/// another and waits until it leads. Gives up after `limits.stop_timeout_milliseconds`: the others
/// then elect one by themselves.
pub async fn hand_over(handle: &Handle) {
    handle.begin_stopping();
    // One turn of the runtime, so that health says so before anything else happens.
    tokio::task::yield_now().await;
    if handle.standing().role != Role::Leader {
        return;
    }
    let deadline = Instant::now() + Duration::from_millis(handle.limits.stop_timeout_milliseconds);
    let target = None;
    loop {
        let wait = deadline.saturating_duration_since(Instant::now());
        let answer = handle.ask_always(wait, |reply| Input::Transfer { target, reply });
        match answer.await {
            Ok(_) => return tracing::info!("handed leadership over"),
            // To one that did not take it, within an election timeout: another may.
            Err(Failure::Refused(Refusal::TransferFailed)) if Instant::now() < deadline => {}
            // Deposed meanwhile: there is nothing to hand over.
            Err(_) if handle.standing().role != Role::Leader => return,
            Err(failure) => {
                return tracing::warn!(%failure, "goes without handing leadership over");
            }
        }
    }
}
