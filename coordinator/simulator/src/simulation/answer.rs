//! What only a person ends: a guard that holds the repairs of a fleet for as long as what it serves
//! fails. The operator waits, in case it passes, and then answers for the repairs.

use std::{collections::BTreeMap, time::Duration};

use calvin_engine::View;
use calvin_model::FleetName;
use calvin_planner::{Blocked, Command, InvariantId};

/// How long a guard holds before a person comes to look.
const PATIENCE: Duration = Duration::from_secs(30);

/// Since when a guard holds the repairs of which fleet.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeMap<FleetName, Duration>);

impl Held {
    /// Looks, and says what is to be ordered.
    pub(super) fn look(&mut self, view: &View, now: Duration) -> Vec<Command> {
        self.0.retain(|name, _| is_held(view, name));
        for name in view.fleets.keys().filter(|name| is_held(view, name)) {
            self.0.entry(name.clone()).or_insert(now);
        }
        let (due, held) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(_, since)| now >= *since + PATIENCE);
        self.0 = held;
        let due: BTreeMap<FleetName, Duration> = due;
        let resume = |fleet| Command::ResumeRepairs {
            fleet,
            reason: "looked at".to_owned(),
        };
        due.into_keys().map(resume).collect()
    }

    /// Whether a guard holds anything that nobody answered for yet.
    pub(super) fn is_any(&self) -> bool {
        !self.0.is_empty()
    }
}

fn is_held(view: &View, fleet: &FleetName) -> bool {
    let guards =
        [InvariantId::MeltdownHolds, InvariantId::DistrustHolds].map(|rule| rule.to_string());
    let holds = |blocked: &Blocked| guards.contains(&blocked.rule);
    let report = view.reports.get(fleet);
    report.is_some_and(|report| report.blocked.iter().any(holds))
}
