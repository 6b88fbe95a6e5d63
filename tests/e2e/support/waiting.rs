//! Waiting on a condition, with a deadline and what was seen instead.

use std::{fmt::Debug, time::Duration};

use tokio::time::{Instant, sleep};

/// Longest wait for anything: far above what the fleets of the tests allow themselves, because the
/// machine may be busy with other tests, and agents that lost their coordinator again and again pause
/// for ten seconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Pause between two looks.
pub(crate) const LOOK: Duration = Duration::from_millis(25);

/// Looks again and again until `look` finds what it looks for, and panics with what it last saw
/// when that takes too long. `look` gives `Err(what it saw instead)` as long as it found nothing.
pub(crate) async fn until<T, E: Debug>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => {
                assert!(
                    start.elapsed() < LIMIT,
                    "waited {LIMIT:?} for {what}; last seen: {seen:?}"
                );
            }
        }
        sleep(LOOK).await;
    }
}
