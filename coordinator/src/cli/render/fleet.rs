//! The table of fleets, and one fleet with its file and instances.

use super::{instance, phase, status, time::span, wait};
use crate::cli::{
    style::{Canvas, Tone},
    table::Table,
    view::{FleetView, RolloutView, ShownFleetView},
};

/// The table of fleets.
pub(crate) fn table(fleets: &[FleetView], canvas: Canvas) -> String {
    if fleets.is_empty() {
        return "no fleet yet; make one with: calvin fleet apply FLEET.toml\n".to_owned();
    }
    let mut table = Table::new(0, ["FLEET", "IMAGE", "SERVING", "ROLLOUT"]);
    for fleet in fleets {
        table.row([
            fleet.name.as_str().into(),
            fleet.image.as_deref().unwrap_or("-").into(),
            format!("{}/{}", fleet.serving, fleet.wanted).into(),
            fleet
                .rollout
                .as_ref()
                .map_or_else(|| "-".to_owned(), rollout_words)
                .into(),
        ]);
    }
    table.render(canvas)
}

/// One fleet with its instances and its file as applied.
pub(crate) fn detail(fleet: &ShownFleetView, canvas: Canvas) -> String {
    let mut text = String::new();
    if let Some(fleet) = &fleet.status {
        text.push_str(&format!(
            "{}  {}\n",
            canvas.paint.tone(Tone::Bold, &fleet.name),
            status::summary(fleet)
        ));
        text.push_str(&wait::lines(canvas, &fleet.waiting, &fleet.blocked));
        if !fleet.instances.is_empty() {
            text.push('\n');
            text.push_str(&instance::table(canvas, 0, &fleet.instances));
        }
        text.push('\n');
    }
    text.push_str(
        &canvas
            .paint
            .tone(Tone::Dim, "# as applied, with every default filled in"),
    );
    text.push('\n');
    text.push_str(fleet.toml.trim_end());
    text.push('\n');
    text
}

/// The table of each fleet's newest rollout.
pub(crate) fn rollouts(fleets: &[FleetView], canvas: Canvas) -> String {
    let mut table = Table::new(0, ["ROLLOUT", "IMAGES", "BY", "STATE"]);
    let mut any = false;
    for rollout in fleets.iter().filter_map(|fleet| fleet.rollout.as_ref()) {
        any = true;
        table.row([
            rollout.id.as_str().into(),
            status::images(rollout).into(),
            rollout.started_by.as_deref().unwrap_or("-").into(),
            state(rollout).into(),
        ]);
    }
    if any {
        table.render(canvas)
    } else {
        "no rollout yet; plan one with: calvin rollout plan FLEET\n".to_owned()
    }
}

fn rollout_words(rollout: &RolloutView) -> String {
    let target = if rollout.ended {
        String::new()
    } else {
        format!(" to {}", rollout.to)
    };
    format!("{}{target}: {}", rollout.id, state(rollout))
}

/// `soaking for 12s`, `done 3h ago`.
fn state(rollout: &RolloutView) -> String {
    let span = span(rollout.phase_ms);
    let phase = phase::words(&rollout.phase);
    if rollout.ended {
        format!("{phase} {span} ago")
    } else {
        format!("{phase} for {span}")
    }
}
