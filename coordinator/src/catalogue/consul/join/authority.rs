//! Which authority gives machines' Consul clients their certificates. Servers that lost all their data
//! have another one, and no client of before has a certificate that they take.

use std::time::Duration;

use calvin_consul::{Client, Error};
use tokio::time::Instant;

/// How often it is looked at without a reason.
const LOOK: Duration = Duration::from_secs(15);
/// Looks that may fail before machines are told to join without it: it is no secret, and what a datacenter
/// that does not say it is good for must not keep them out for ever.
const LOOKS_MAX: u32 = 10;

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Authority {
    trust_domain: Option<String>,
    read: Option<Instant>,
    failed: u32,
}

impl Authority {
    /// Has it looked at again: the servers may have been begun anew.
    pub(super) fn doubt(&mut self) {
        self.read = None;
    }

    /// What machines are told of it; nothing where they are to wait for that. One that is told otherwise
    /// later has its Consul client start again.
    pub(super) fn told(&self) -> Option<&str> {
        match &self.trust_domain {
            Some(known) => Some(known),
            None if self.failed >= LOOKS_MAX => Some(""),
            None => None,
        }
    }

    /// Looks at it, where that is due.
    pub(super) async fn look(&mut self, client: &Client) {
        if self.read.is_none_or(|read| read.elapsed() >= LOOK) {
            self.is(client.trust_domain().await);
        }
    }

    fn is(&mut self, found: Result<Option<String>, Error>) {
        match found {
            Ok(found) => {
                let found = found.unwrap_or_default();
                if self.trust_domain.as_ref().is_some_and(|it| *it != found) {
                    tracing::warn!(
                        "the datacenter has another authority: its servers were begun anew, and \
                         machines start their Consul clients again"
                    );
                }
                self.trust_domain = Some(found);
                self.read = Some(Instant::now());
            }
            Err(error) => {
                self.failed = self.failed.saturating_add(1);
                tracing::debug!(%error, "the datacenter's authority could not be read");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use calvin_consul::Reason;

    use super::*;

    fn fails() -> Result<Option<String>, Error> {
        let reason = Reason::TimedOut { limit: LOOK };
        Err(Error {
            tried: "read it".into(),
            reason,
        })
    }

    #[tokio::test]
    async fn machines_wait_for_it_and_not_for_ever_and_what_is_known_outlives_a_failure() {
        let mut unknown = Authority::default();
        for _ in 0..LOOKS_MAX {
            assert_eq!(unknown.told(), None);
            unknown.is(fails());
        }
        assert_eq!(unknown.told(), Some(""));

        let mut known = Authority::default();
        known.is(Ok(Some("one".into())));
        (0..LOOKS_MAX).for_each(|_| known.is(fails()));
        assert_eq!(known.told(), Some("one"));
        known.is(Ok(Some("two".into())));
        assert_eq!(known.told(), Some("two"));
        // A datacenter that gives out none.
        known.is(Ok(None));
        assert_eq!(known.told(), Some(""));
    }
}
