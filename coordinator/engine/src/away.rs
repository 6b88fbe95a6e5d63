//! What the history says of time in which nothing was decided: no coordinator ran, or its store
//! could not be written.
//!
//! Who was away cannot have noted when it went. The newest commit is the last sign of it, and one
//! comes at least every five seconds, so the beginning is known to within that.

use calvin_model::HumanDuration;
use calvin_planner::{Event, EventKind, wall::instant};

use crate::{
    commit::CHECKPOINT_INTERVAL,
    hold::Held,
    ports::{HistoryLine, Stored},
};

/// Who says so.
const ENGINE: &str = "engine";

/// What a run that takes epoch `number` says of the time before it. Nothing, where there was no
/// run before, or it noted no time.
pub(crate) fn back(stored: &Stored, number: u64, wall_ms: u64) -> Option<HistoryLine> {
    if stored.epoch.is_none() || stored.wall_ms == 0 {
        return None;
    }
    let last = instant(stored.wall_ms);
    let sign = if stored.recovering.is_some() {
        format!(
            "this store, a copy or a restored one, was written last at {last}, and what a coordinator decided elsewhere after that is not in this history"
        )
    } else {
        let more = HumanDuration(CHECKPOINT_INTERVAL);
        format!("the one before wrote last at {last}, and may have run up to {more} longer")
    };
    let text = match spent(stored.wall_ms, wall_ms) {
        Some(away) => format!(
            "the coordinator was away for {away}, and is back at {} with epoch {number}: {sign}",
            instant(wall_ms)
        ),
        None => format!(
            "the coordinator was away for nobody knows how long, because the clock was set back meanwhile, and is back at {} with epoch {number}: {sign}",
            instant(wall_ms)
        ),
    };
    Some(line(wall_ms, text))
}

/// What a run says of the time in which it could commit nothing. Nothing, where that was shorter
/// than from one commit to the next.
pub(crate) fn held(held: &Held, wall_ms: u64) -> Option<HistoryLine> {
    let lasted_ms = wall_ms.checked_sub(held.since_wall_ms)?;
    if u128::from(lasted_ms) < CHECKPOINT_INTERVAL.as_millis() {
        return None;
    }
    let away = spent(held.since_wall_ms, wall_ms)?;
    let text = format!(
        "the coordinator decided nothing for {away}, from {} to {}: {}",
        instant(held.since_wall_ms),
        instant(wall_ms),
        held.reason
    );
    Some(line(wall_ms, text))
}

/// Whole seconds from one moment of the wall clock to another; `None` where it was set back.
fn spent(from_ms: u64, to_ms: u64) -> Option<HumanDuration> {
    let ms = to_ms.checked_sub(from_ms)?;
    Some(HumanDuration::from_secs(ms / 1_000))
}

fn line(wall_ms: u64, text: String) -> HistoryLine {
    HistoryLine {
        wall_ms,
        who: ENGINE.to_owned(),
        event: Event {
            fleet: None,
            instance: None,
            kind: EventKind::Away,
            text,
        },
    }
}
