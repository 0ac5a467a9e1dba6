//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks again until `check` answers with a value. An error counts as "not yet", since servers and
/// pods may be away for a moment; the last one is told when `limit` has passed.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut check: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut last = String::from("it did not hold");
    loop {
        match tokio::time::timeout_at(deadline.into(), check()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            bail!(
                "waited {} s in vain until {what}; last seen: {last}",
                limit.as_secs()
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// As [`until`], for a condition that is true or an error that says what is still missing.
pub async fn until_ok(
    what: &str,
    limit: Duration,
    mut check: impl AsyncFnMut() -> Result<()>,
) -> Result<()> {
    until(what, limit, async || check().await.map(Some)).await
}
