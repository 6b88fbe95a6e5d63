//! What could not be done, and when it is tried again.

use std::time::{Duration, Instant};

use calvin_planner::{FaultKind, ProviderFault};

use super::state::Failure;

/// First pause; doubles. A host that is out of memory or disk needs more than a moment.
const RETRY_MIN: Duration = Duration::from_millis(500);
/// Longest pause: what an operator who has repaired the cause waits for at most.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// The cause may go away.
    Later,
    /// It cannot: the image is another, for instance.
    Never,
}

/// The last of some failures in a row.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    message: String,
    tries: u32,
    at: Instant,
    pub(super) retry: Retry,
    kind: FaultKind,
}

impl Fault {
    /// The fault after `before`.
    pub(super) fn after(
        before: Option<&Self>,
        failure: Failure,
        now: Instant,
        random: f64,
    ) -> Self {
        let tries = before.map_or(0, |fault| fault.tries).saturating_add(1);
        // 2^6 of the first pause is above the longest.
        let doubled = RETRY_MIN * (1 << (tries - 1).min(6));
        let pause = doubled.min(RETRY_MAX).mul_f64(0.5 + random / 2.0);
        Self {
            message: failure.message,
            tries,
            at: now + pause,
            retry: failure.retry,
            kind: failure.kind,
        }
    }

    /// When it is tried again; `None` when it is not.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.retry {
            Retry::Later => Some(self.at),
            Retry::Never => None,
        }
    }

    /// As the engine sees it.
    pub(super) fn seen(&self, now: Instant) -> ProviderFault {
        ProviderFault {
            message: self.message.clone(),
            tries: self.tries,
            retry_in: self.at.saturating_duration_since(now),
            permanent: self.retry == Retry::Never,
            kind: self.kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_tries_are_counted() {
        let now = Instant::now();
        let mut fault: Option<Fault> = None;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let failure = Failure {
                message: "x".to_owned(),
                retry: Retry::Later,
                kind: FaultKind::Quota,
            };
            let next = Fault::after(fault.as_ref(), failure, now, 1.0);
            pauses.push(next.seen(now).retry_in.as_millis());
            fault = Some(next);
        }
        assert_eq!(
            pauses,
            [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]
        );
        let seen = fault.unwrap().seen(now);
        assert_eq!((seen.tries, seen.kind), (9, FaultKind::Quota));
    }
}
