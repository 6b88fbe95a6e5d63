//! What a plan changes, as one commit.

use calvin_planner::{Event, FleetState, Moment, Next, PLANNER, Plan};

use crate::ports::{Batch, HistoryLine};

/// What the plan changes, as one commit.
pub(crate) fn batch_of(plan: &Plan, moment: Moment, wall_ms: u64) -> Batch {
    let line = |event: &Event| HistoryLine {
        wall_ms,
        who: PLANNER.to_owned(),
        event: event.clone(),
    };
    let mut batch = Batch {
        moment,
        environment: plan.environment.as_deref().cloned(),
        ..Batch::default()
    };
    for event in &plan.events {
        tracing::info!(kind = ?event.kind, "{}", event.text);
        batch.history.push(line(event));
    }
    for (name, fleet) in &plan.fleets {
        match &fleet.next {
            Next::Same => {}
            Next::Change(state) => {
                batch
                    .fleets
                    .insert(name.clone(), Some(FleetState::clone(state)));
            }
            Next::Remove => {
                batch.fleets.insert(name.clone(), None);
            }
        }
        for event in &fleet.events {
            tracing::info!(fleet = %name, kind = ?event.kind, "{}", event.text);
            batch.history.push(line(event));
        }
    }
    batch
}
