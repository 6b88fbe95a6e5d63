//! When the tasks look again: every second, and at once when there are other instances.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use calvin_engine::View;
use calvin_model::FleetName;
use calvin_planner::FleetState;
use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior, interval},
};

/// Between two looks without news: sessions that ended, and what was tried and failed.
const LOOK: Duration = Duration::from_secs(1);

/// The looks of one task.
#[derive(Debug)]
pub(super) struct Rounds {
    views: watch::Receiver<Arc<View>>,
    due: Interval,
    fleets: Option<Arc<BTreeMap<FleetName, FleetState>>>,
}

impl Rounds {
    pub(super) fn new(views: watch::Receiver<Arc<View>>) -> Self {
        let mut due = interval(LOOK);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            views,
            due,
            fleets: None,
        }
    }

    /// The newest picture.
    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.views.borrow())
    }

    /// Waits until it is time for a look. None when the engine has ended. Dropping it loses nothing.
    pub(super) async fn next(&mut self) -> Option<()> {
        loop {
            tokio::select! {
                _ = self.due.tick() => return Some(()),
                changed = self.views.changed() => {
                    changed.ok()?;
                    // There is a new picture several times a second, and seldom another instance.
                    let now = Arc::clone(&self.views.borrow_and_update().fleets);
                    let same = self.fleets.as_ref().is_some_and(|before| Arc::ptr_eq(before, &now));
                    if !same {
                        self.fleets = Some(now);
                        return Some(());
                    }
                }
            }
        }
    }
}
