//! The lock in words for people: what is waited for, or wrong.

use std::time::Duration;

use calvin_consul::exclusive::{LEASE, RENEW_EVERY};
use calvin_model::FleetName;

use super::{Facts, Gate, Hold, Lock};
use crate::workload::WorkloadOrder;

/// A renewal that fails for a moment is nothing to be told.
const QUIET: Duration = RENEW_EVERY.saturating_mul(2);

impl Lock {
    /// What there is to be told of it, in words. `refused` is why its session is not on disk.
    pub(super) fn words(
        &self,
        facts: &Facts,
        fleet: &FleetName,
        refused: Option<&str>,
        now: Duration,
    ) -> Option<String> {
        if facts.wanted != Some(WorkloadOrder::Start) {
            return None;
        }
        match facts.gate {
            Gate::Free => return None,
            Gate::Unknown => {
                return Some(format!(
                    "waits for the coordinator to say whether fleet {fleet} is exclusive"
                ));
            }
            Gate::Locked => {}
        }
        let hold = self.session.as_ref().map(|session| &session.hold);
        match hold {
            Some(Hold::Not {
                by: Some(by),
                free: false,
                ..
            }) => Some(format!(
                "waits for the lock of fleet {fleet}, which {by} holds"
            )),
            Some(Hold::Not { .. }) => Some(format!("waits for the lock of fleet {fleet}")),
            Some(Hold::Held { .. }) => {
                let left = self.lease().unwrap_or_default().saturating_sub(now);
                let trouble = self.session.as_ref()?.trouble.as_deref();
                let Some(trouble) = trouble.filter(|_| left + QUIET < LEASE) else {
                    return refused.map(|why| {
                        format!(
                            "holds the lock of fleet {fleet} with a session that is not on disk: an \
                             agent that is started again has to ask Consul for it: {why}"
                        )
                    });
                };
                Some(if left.is_zero() {
                    format!(
                        "its work stopped when its lease was over, because the lock of fleet \
                         {fleet} could not be renewed: {trouble}"
                    )
                } else {
                    format!("the lock of fleet {fleet} could not be renewed: {trouble}")
                })
            }
            Some(Hold::Unknown | Hold::Released) | None => {
                let renewal = self.session.as_ref();
                let renewal = renewal.and_then(|session| session.trouble.as_deref());
                let trouble = self.trouble.as_deref().or(renewal)?;
                Some(format!(
                    "the lock of fleet {fleet} could not be taken: {trouble}"
                ))
            }
        }
    }
}
