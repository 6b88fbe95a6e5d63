//! The list of all tokens: when it is asked for, and what it says. It finds what a crash left behind, whose
//! token is lost, and whose has lost a policy. No token that is missing waits for it: it may be longer than
//! what Consul sends in time.

use std::{collections::BTreeSet, time::Duration};

use calvin_consul::Error;
use tokio::time::Instant;

use super::{About, Joiner, Joining};
use crate::catalogue::consul::tokens::instance_of;

/// Between two lists of all tokens. It may be long: 10,000 tokens are 10 MB.
const LIST: Duration = Duration::from_secs(600);
/// The same while a token that was found cannot be judged or taken back.
const LIST_SOON: Duration = Duration::from_secs(30);
/// Pause after a list that failed; doubled with each further one, up to `LIST`.
const LIST_FAILED: Duration = Duration::from_secs(5);

/// When all tokens are listed.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// There was a list in this run.
    had: bool,
    /// When the next one is due; at once where it is none.
    next: Option<Instant>,
    /// Why the last one failed, and the pause after it.
    failed: Option<(Error, Duration)>,
}

impl Listing {
    fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    /// Whether there was a list in this run.
    pub(super) fn had(&self) -> bool {
        self.had
    }

    /// What it said was noted.
    fn noted(&mut self) {
        self.had = true;
    }

    fn done(&mut self, again: Duration, now: Instant) {
        self.next = Some(now + again);
        self.failed = None;
    }

    fn failed(&mut self, error: Error, now: Instant) {
        let longer = |(_, pause): &(Error, Duration)| (*pause * 2).min(LIST);
        let pause = self.failed.as_ref().map_or(LIST_FAILED, longer);
        self.next = Some(now + pause);
        self.failed = Some((error, pause));
    }

    /// Something else says that there is something to be found.
    pub(super) fn at_once(&mut self) {
        self.next = None;
    }

    /// The same, where that may go on for a while. One that fails has a pause of its own.
    pub(super) fn soon(&mut self, now: Instant) {
        if self.failed.is_none() {
            self.next = self.next.map(|next| next.min(now + LIST_SOON));
        }
    }
}

impl Joiner {
    /// Lists the tokens when it is time.
    pub(super) async fn look_at_list(&mut self, known: &Joining) {
        if self.progress.listing.is_due(Instant::now()) {
            let listed = self.list(known).await;
            let now = Instant::now();
            match listed {
                Ok(again) => self.progress.listing.done(again, now),
                Err(error) => self.progress.listing.failed(error, now),
            }
        }
        // It fails until the next one, however much else works.
        match &self.progress.listing.failed {
            Some((error, _)) => self.shared.failed(&About::Tokens, error),
            None => self.shared.works(&About::Tokens),
        }
    }

    /// Finds the tokens that are there, and among them those of nobody and those without a policy. Says when
    /// to list again.
    async fn list(&mut self, known: &Joining) -> Result<Duration, Error> {
        let tokens = self.client.tokens().await?;
        let mut again = LIST;
        let mut have = BTreeSet::new();
        let mut failed = None;
        self.progress.bare.clear();
        // What their policies say is looked at anew as well.
        self.doubt_rights();
        for token in &tokens {
            let Some(instance) = instance_of(&self.common.environment, token) else {
                continue;
            };
            // One that somebody else made with our words is not ours to take back.
            if self.identity.consul_token(&instance).accessor != token.accessor {
                continue;
            }
            self.note(&instance, token);
            if known.get(&instance).is_some_and(|one| !one.revoked) {
                have.insert(instance);
                continue;
            }
            if known.contains_key(&instance) || self.progress.ever.contains(&instance) {
                self.shared.owes(instance);
                continue;
            }
            if failed.is_some() {
                continue;
            }
            match self.client.node_lives(instance.as_str()).await {
                Ok(false) => self.shared.owes(instance),
                Ok(true) => {
                    tracing::debug!(%instance, "a token of a machine without a record stays, because the machine lives");
                    again = LIST_SOON;
                }
                // What else the list says holds all the same.
                Err(error) => failed = Some(error),
            }
        }
        self.progress.found(have);
        self.progress.listing.noted();
        if !self.progress.lost.is_empty() {
            tracing::warn!(
                tokens = self.progress.lost.len(),
                "tokens of machines were gone from Consul: they are made again"
            );
        }
        failed.map_or(Ok(again), Err)
    }
}

#[cfg(test)]
mod tests {
    use calvin_consul::Reason;

    use super::*;

    fn error() -> Error {
        Error {
            tried: "list the tokens".to_owned(),
            reason: Reason::TooLarge {
                text: "list".to_owned(),
            },
        }
    }

    #[test]
    fn a_list_that_fails_is_asked_for_ever_more_seldom() {
        let mut listing = Listing::default();
        let start = Instant::now();
        let mut failed = Vec::new();
        for second in 0..3600 {
            let now = start + Duration::from_secs(second);
            if listing.is_due(now) {
                listing.failed(error(), now);
                failed.push(second);
            }
            // As where tokens cannot be made.
            listing.soon(now);
        }
        assert_eq!(
            failed,
            [0, 5, 15, 35, 75, 155, 315, 635, 1235, 1835, 2435, 3035]
        );
        assert!(listing.failed.is_some() && !listing.had());
        // Servers that came back empty are another matter.
        listing.at_once();
        assert!(listing.is_due(start));
    }

    #[test]
    fn a_list_is_due_again_after_its_time_and_sooner_when_something_is_amiss() {
        let mut listing = Listing::default();
        let start = Instant::now();
        assert!(listing.is_due(start));
        listing.failed(error(), start);
        listing.done(LIST, start);
        assert!(listing.failed.is_none());
        assert!(!listing.is_due(start + LIST - Duration::from_secs(1)));
        assert!(listing.is_due(start + LIST));
        for second in 0..29 {
            let now = start + Duration::from_secs(second);
            listing.soon(now);
            assert!(!listing.is_due(now));
        }
        assert!(listing.is_due(start + LIST_SOON));
        listing.done(LIST, start);
        listing.at_once();
        assert!(listing.is_due(start));
    }
}
