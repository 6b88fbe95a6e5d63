//! What a member of a quorum knows of its voters. It is no check: it does not make anybody healthy or
//! unhealthy, it is only told. A run that failed takes back what was known, and so does time: who
//! changes members must not rest on what is no longer so.

use std::time::Duration;

use calvin_model::QuorumReport;

use crate::{input::QuorumOutcome, lifecycle::Lifecycle, report::bounded};

/// The newest word, or why there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Quorum {
    said: Option<(QuorumReport, Duration)>,
    trouble: Option<String>,
}

impl Quorum {
    fn stale_at(&self, stale_after: Option<Duration>) -> Option<Duration> {
        let (_, at) = self.said.as_ref()?;
        Some(*at + stale_after?)
    }
}

impl Lifecycle {
    pub(crate) fn quorum_ran(&mut self, outcome: QuorumOutcome) {
        self.quorum = match outcome {
            QuorumOutcome::Said(report) => Quorum {
                said: Some((report, self.now)),
                trouble: None,
            },
            QuorumOutcome::Failed(trouble) => Quorum {
                said: None,
                trouble: Some(bounded(format!("quorum: {trouble}"))),
            },
        };
    }

    /// Forgets a word that is too old.
    pub(crate) fn expire_quorum(&mut self) {
        let stale = self.quorum_stale_at();
        if stale.is_some_and(|at| at <= self.now) {
            self.quorum = Quorum {
                said: None,
                trouble: Some("quorum: its command has not ended for too long".to_owned()),
            };
        }
    }

    pub(crate) fn quorum_stale_at(&self) -> Option<Duration> {
        self.quorum.stale_at(self.spec.quorum_stale_after)
    }

    pub(crate) fn quorum_now(&self) -> Option<QuorumReport> {
        let (report, at) = self.quorum.said?;
        Some(QuorumReport {
            age: self.now.saturating_sub(at),
            ..report
        })
    }

    pub(crate) fn quorum_trouble(&self) -> Option<String> {
        self.quorum.trouble.clone()
    }
}
