//! What a fleet's kind means, and how long nobody of an exclusive one was active.

use super::{time::span, wait::LABEL};
use crate::cli::{
    style::{Canvas, Tone, tame},
    view::{FleetView, GapView, RolloutView},
};

/// `, exclusive` in a line that is short of room; nothing for the usual kind.
pub(crate) fn note(fleet: &FleetView) -> String {
    match fleet.kind.as_deref() {
        None | Some("service") => String::new(),
        Some(other) => format!(", {}", tame(other)),
    }
}

/// What the kind means for who may be at work, as a sentence.
pub(crate) fn meaning(fleet: &FleetView) -> Option<String> {
    let kind = fleet.kind.as_deref()?;
    let means = match kind {
        "service" => ": its instances are interchangeable, and all of them serve",
        "exclusive" => ": never two of its instances are at work at once",
        "quorum" => {
            ": its members vote, and one is replaced at a time, while every other is healthy"
        }
        // A newer coordinator may know more.
        _ => "",
    };
    Some(format!("Its kind is {}{means}.", tame(kind)))
}

/// `nobody was active for 1.2s`.
pub(crate) fn gap(gap: &GapView) -> String {
    let length = span(gap.length_ms);
    if gap.over {
        format!("nobody was active for {length}")
    } else {
        format!("nobody is active, for {length} so far")
    }
}

/// The line of a rollout's gap, if it has one.
pub(crate) fn gap_line(rollout: &RolloutView, canvas: Canvas) -> String {
    let Some(measured) = &rollout.gap else {
        return String::new();
    };
    let tone = if measured.over { Tone::Dim } else { Tone::Warn };
    let sentence = format!("{} ({})", gap(measured), tame(&rollout.id));
    canvas.labelled(LABEL, "  gap", tone, &sentence)
}
