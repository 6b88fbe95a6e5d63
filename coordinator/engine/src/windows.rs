//! Whether fleets' windows are open, remembered until that changes: to find out when it does, a
//! week is looked through, and that is not done again in each pass.

use std::{collections::BTreeMap, time::Duration};

use calvin_model::{FleetName, fleet::Window};
use calvin_planner::{FleetState, WindowObserved, windows_at};

use crate::ports::Clock;

/// The longest that an answer is remembered: a time zone database that is mended is seen by then.
const REMEMBERED_MS: u64 = 3_600_000;

/// What was found out.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    known: BTreeMap<FleetName, Known>,
}

#[derive(Debug)]
struct Known {
    windows: Vec<Window>,
    /// The wall clock, when it was found out.
    at_ms: u64,
    /// The wall clock up to which it is true.
    until_ms: u64,
    open: bool,
    changes_ms: Option<u64>,
}

impl Known {
    fn find(windows: &[Window], wall_ms: u64, clock: &dyn Clock) -> Self {
        let found = windows_at(windows, wall_ms, |zone, at| clock.local(zone, at));
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let changes_ms = found
            .changes_in
            .map(|after| wall_ms.saturating_add(ms(after)));
        let remembered = wall_ms.saturating_add(REMEMBERED_MS);
        Self {
            windows: windows.to_vec(),
            at_ms: wall_ms,
            until_ms: changes_ms.map_or(remembered, |changes| changes.min(remembered)),
            open: found.open,
            changes_ms,
        }
    }

    /// Whether it still is true. A wall clock that was set back makes it guesswork.
    fn holds(&self, windows: &[Window], wall_ms: u64) -> bool {
        self.windows == windows && (self.at_ms..self.until_ms).contains(&wall_ms)
    }
}

impl Windows {
    /// Of every fleet that has windows.
    pub(crate) fn look(
        &mut self,
        fleets: &BTreeMap<FleetName, FleetState>,
        clock: &dyn Clock,
    ) -> BTreeMap<FleetName, WindowObserved> {
        let wall_ms = clock.wall_ms();
        let windows_of = |name: &FleetName| {
            let windows = &fleets.get(name)?.spec.replace.windows;
            (!windows.is_empty()).then_some(windows)
        };
        self.known.retain(|name, known| {
            windows_of(name).is_some_and(|windows| known.holds(windows, wall_ms))
        });
        let mut seen = BTreeMap::new();
        for name in fleets.keys() {
            let Some(windows) = windows_of(name) else {
                continue;
            };
            let known = self
                .known
                .entry(name.clone())
                .or_insert_with(|| Known::find(windows, wall_ms, clock));
            let left = |at: u64| Duration::from_millis(at.saturating_sub(wall_ms));
            let observed = WindowObserved {
                open: known.open,
                changes_in: known.changes_ms.map(left),
            };
            seen.insert(name.clone(), observed);
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use calvin_model::FleetSpec;
    use calvin_planner::LocalTime;

    use super::*;

    #[derive(Debug, Default)]
    struct Wall {
        ms: Cell<u64>,
        asked: Cell<u32>,
    }

    impl Clock for Wall {
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }

        fn wall_ms(&self) -> u64 {
            self.ms.get()
        }

        fn local(&self, zone: &str, wall_ms: u64) -> Option<LocalTime> {
            self.asked.set(self.asked.get() + 1);
            (zone == "UTC").then(|| LocalTime::utc(wall_ms))
        }
    }

    const HOUR: u64 = 3_600_000;

    fn fleets(windows: &str) -> BTreeMap<FleetName, FleetState> {
        let text = format!(
            "name = \"web\"\nimage = \"web@1.0\"\ncount = 1\n[replace]\nwindows = [{windows}]"
        );
        let spec = FleetSpec::parse("web.toml", &text).unwrap();
        BTreeMap::from([(spec.name.clone(), FleetState::new(spec))])
    }

    #[test]
    fn what_is_known_is_found_out_again_only_when_it_may_have_changed() {
        let clock = Wall::default();
        let mut windows = Windows::default();
        // The clock begins on a Thursday, at midnight.
        let fleets = fleets("\"thu 02:00-03:00 UTC\"");
        let web = fleets.keys().next().unwrap();
        let mut at = |ms: u64| {
            clock.ms.set(ms);
            clock.asked.set(0);
            let seen = windows.look(&fleets, &clock)[web];
            (seen.open, seen.changes_in, clock.asked.get() > 0)
        };
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3_600));
        assert_eq!(at(0), (false, hours(2), true));
        let half = Some(Duration::from_secs(5_400));
        assert_eq!(at(HOUR / 2), (false, half, false));
        assert_eq!(at(2 * HOUR), (true, hours(1), true));
        assert_eq!(at(3 * HOUR), (false, hours(7 * 24 - 1), true));
        assert_eq!(at(HOUR), (false, hours(1), true), "it was set back");
    }

    #[test]
    fn other_windows_are_looked_at_anew_and_none_are_not_told_of() {
        let clock = Wall::default();
        let mut windows = Windows::default();
        let open = windows.look(&fleets("\"thu 00:00-01:00 UTC\""), &clock);
        assert!(open.values().all(|seen| seen.open) && open.len() == 1);
        let closed = windows.look(&fleets("\"fri 00:00-01:00 UTC\""), &clock);
        assert!(closed.values().all(|seen| !seen.open));
        assert!(windows.look(&fleets(""), &clock).is_empty());
        assert!(windows.known.is_empty());
    }
}
