//! Waiting on a condition, with a deadline and what was seen instead.

use std::{fmt::Debug, time::Duration};

use tokio::time::{Instant, sleep};

/// Longest wait for anything: far above what Consul needs, because the machine may be busy. The longest
/// of all is a round of anti-entropy: a minute, and up to another one at random.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(50);

/// Looks again and again until `look` finds what it looks for, and panics with what it last saw when
/// that takes too long. `look` gives `Err(what it saw instead)` as long as it found nothing.
pub(crate) async fn until<T, E: Debug>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(
                start.elapsed() < LIMIT,
                "waited {LIMIT:?} for {what}; last seen: {seen:?}"
            ),
        }
        sleep(LOOK).await;
    }
}
