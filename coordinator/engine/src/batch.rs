//! What a plan changes, as one commit.

use calvin_planner::{Event, Moment, Next, PLANNER, Plan};

use crate::ports::{Batch, HistoryLine};

/// Takes what the plan changes out of it, as one commit: what it does, and what it says, is left.
pub(crate) fn batch_of(plan: &mut Plan, moment: Moment, wall_ms: u64) -> Batch {
    let line = |event: Event| HistoryLine {
        wall_ms,
        who: PLANNER.to_owned(),
        event,
    };
    let mut batch = Batch {
        moment,
        environment: plan.environment.take().map(|changed| *changed),
        ..Batch::default()
    };
    for event in plan.events.drain(..) {
        tracing::info!(kind = ?event.kind, "{}", event.text);
        batch.history.push(line(event));
    }
    for (name, fleet) in &mut plan.fleets {
        match std::mem::take(&mut fleet.next) {
            Next::Same => {}
            Next::Change(state) => {
                batch.fleets.insert(name.clone(), Some(*state));
            }
            Next::Remove => {
                batch.fleets.insert(name.clone(), None);
            }
        }
        for event in fleet.events.drain(..) {
            tracing::info!(fleet = %name, kind = ?event.kind, "{}", event.text);
            batch.history.push(line(event));
        }
    }
    batch
}
