//! Windows, as the world shows them: its only time zone is UTC.

use std::collections::BTreeMap;

use calvin_model::FleetName;
use calvin_planner::{LocalTime, WindowObserved, windows_at};

use super::World;

impl World {
    /// Whether windows are open, in UTC.
    pub(crate) fn windows(&self) -> BTreeMap<FleetName, WindowObserved> {
        let with = self.fleets.iter();
        let with = with.filter(|(_, state)| !state.spec.replace.windows.is_empty());
        with.map(|(name, state)| {
            let seen = windows_at(&state.spec.replace.windows, self.ms, |zone, at| {
                (zone == "UTC").then(|| LocalTime::utc(at))
            });
            (name.clone(), seen)
        })
        .collect()
    }
}
