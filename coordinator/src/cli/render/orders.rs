//! What people ordered that still holds, in sentences and tables.

use jiff::tz::TimeZone;

use super::{
    time::{minute, span},
    wait::LABEL,
};
use crate::cli::{
    style::{Canvas, Tone, tame},
    table::{Cell, Table},
    view::{FleetView, FreezeView, FreezesView, GateView, OrderView, RolloutView, ZoneView},
};

/// `by alice 3h20m ago: the sale`.
pub(crate) fn by(order: &OrderView, now_ms: u64) -> String {
    let ago = span(now_ms.saturating_sub(order.wall_ms));
    format!("by {} {ago} ago: {}", tame(&order.by), tame(&order.reason))
}

/// `nothing new starts; by alice 3h20m ago: the sale; ends in 40m`.
pub(crate) fn freeze(freeze: &FreezeView, now_ms: u64) -> String {
    let scope = match freeze.scope.as_str() {
        "new" => "nothing new starts".to_owned(),
        "all" => "nothing is made, replaced or deleted".to_owned(),
        other => format!("scope {}", tame(other)),
    };
    let order = freeze
        .order
        .as_ref()
        .map_or_else(String::new, |order| format!(", {}", by(order, now_ms)));
    let end = match freeze.until_wall_ms {
        Some(until) => format!("ends in {}", span(until.saturating_sub(now_ms))),
        None => "until somebody ends it".to_owned(),
    };
    format!("{scope}{order}; {end}")
}

/// What people said about a rollout, a line for each, with what to type.
pub(crate) fn of_rollout(rollout: &RolloutView, canvas: Canvas) -> String {
    let mut text = String::new();
    let mut line = |label: &str, tone: Tone, sentence: &str| {
        text.push_str(&canvas.labelled(LABEL, label, tone, sentence));
    };
    if rollout.ended {
        return text;
    }
    let fleet = &rollout.fleet;
    if let Some(order) = &rollout.emergency {
        let said = format!("soak, waves and windows are skipped, {}", said_by(order));
        line("  urgent", Tone::Warn, &said);
    }
    if let Some(pause) = &rollout.paused {
        let by = pause.order.as_ref().map_or_else(String::new, said_by);
        let left = span(pause.left_ms);
        let said =
            format!("{by}; goes back in {left} unless you type: calvin rollout resume {fleet}");
        line("  paused", Tone::Warn, &said);
    }
    if let Some(gate) = &rollout.gate {
        line("  asks", Tone::Warn, &asks(gate, rollout));
    }
    if let Some(order) = &rollout.promoted {
        line("  promoted", Tone::Dim, &said_by(order));
    }
    text
}

/// `1 of 2 approved the switch (bob); ...`.
fn asks(gate: &GateView, rollout: &RolloutView) -> String {
    let names: Vec<String> = gate.approved.iter().map(|one| tame(&one.by)).collect();
    let names = match names.as_slice() {
        [] => String::new(),
        names => format!(" ({})", names.join(", ")),
    };
    let who = match (gate.approver.as_str(), &rollout.started_by) {
        ("other", Some(starter)) => format!("anybody but {}", tame(starter)),
        ("other", None) => "another than who started it".to_owned(),
        _ => "any operator".to_owned(),
    };
    format!(
        "{} of {} approved the {}{names}; {who} may type: calvin rollout approve {}; goes back in {}",
        gate.approved.len(),
        gate.needed,
        tame(&gate.gate),
        rollout.fleet,
        span(gate.left_ms)
    )
}

/// What people said about a fleet, a line for each, with what ends it.
pub(crate) fn of_fleet(fleet: &FleetView, now_ms: u64, canvas: Canvas) -> String {
    let mut text = String::new();
    let mut line = |label: &str, tone: Tone, sentence: &str| {
        text.push_str(&canvas.labelled(LABEL, label, tone, sentence));
    };
    if let Some(one) = &fleet.freeze {
        let said = format!(
            "{}, or with: calvin unfreeze {}",
            freeze(one, now_ms),
            fleet.name
        );
        line("  frozen", Tone::Warn, &said);
    }
    if let Some(order) = &fleet.pin {
        let said = format!(
            "no rollout starts, {}; ends with: calvin fleet unpin {}",
            by(order, now_ms),
            fleet.name
        );
        line("  pinned", Tone::Warn, &said);
    }
    if let Some(window) = &fleet.window {
        match (window.open, window.changes_ms) {
            (false, Some(left)) => line(
                "  window",
                Tone::Dim,
                &format!("closed; opens in {}", span(left)),
            ),
            (false, None) => line("  window", Tone::Dim, "closed for more than eight days"),
            (true, Some(_) | None) => {}
        }
    }
    for one in &fleet.instances {
        if let Some(order) = &one.protected {
            let said = format!(
                "{}, {}; ends with: calvin instance unprotect {}",
                tame(&one.id),
                by(order, now_ms),
                one.id
            );
            line("  protects", Tone::Warn, &said);
        }
    }
    text
}

/// `says alice: the sale`, where the time is told elsewhere.
fn said_by(order: &OrderView) -> String {
    if order.reason.is_empty() {
        return format!("says {}", tame(&order.by));
    }
    format!("says {}: {}", tame(&order.by), tame(&order.reason))
}

/// The table of freezes.
pub(crate) fn freezes(freezes: &FreezesView, zone: &TimeZone, canvas: Canvas) -> String {
    if freezes.freezes.is_empty() {
        return "nothing is frozen\n".to_owned();
    }
    let mut table = Table::new(0, ["FROZEN", "SCOPE", "SINCE", "UNTIL", "BY", "WHY"]);
    for one in &freezes.freezes {
        let fleet = one.fleet.as_deref().unwrap_or("everything");
        let order = one.freeze.order.as_ref();
        let until = one.freeze.until_wall_ms;
        table.row([
            fleet.into(),
            one.freeze.scope.as_str().into(),
            order
                .map_or_else(|| "-".to_owned(), |order| minute(order.wall_ms, zone))
                .into(),
            until
                .map_or_else(|| "-".to_owned(), |until| minute(until, zone))
                .into(),
            tame(order.map_or("-", |order| order.by.as_str())).into(),
            tame(order.map_or("-", |order| order.reason.as_str())).into(),
        ]);
    }
    let mut text = table.render(canvas);
    for one in &freezes.freezes {
        let command = match &one.fleet {
            Some(fleet) => format!("calvin unfreeze {fleet}"),
            None => "calvin unfreeze".to_owned(),
        };
        text.push_str(&canvas.labelled(6, "next:", Tone::Dim, &format!("to end it: {command}")));
    }
    text
}

/// The table of zones.
pub(crate) fn zones(zones: &[ZoneView], zone: &TimeZone, canvas: Canvas) -> String {
    if zones.is_empty() {
        return "no zone is known; name them in calvin.toml, and in fleets as zones = [...]\n"
            .to_owned();
    }
    let headings = ["ZONE", "PROVIDERS", "HEALTHY", "FLEETS", "STATE"];
    let mut table = Table::new(0, headings);
    for one in zones {
        let state = match &one.lost {
            Some(order) => Cell::new(
                Tone::Bad,
                format!(
                    "lost, says {} since {}: {}",
                    tame(&order.by),
                    minute(order.wall_ms, zone),
                    tame(&order.reason)
                ),
            ),
            None => Cell::new(Tone::Good, "ok"),
        };
        table.row([
            one.name.as_str().into(),
            some(&one.providers).into(),
            format!("{}/{}", one.healthy, one.instances).into(),
            some(&one.fleets).into(),
            state,
        ]);
    }
    table.render(canvas)
}

fn some(names: &[String]) -> String {
    if names.is_empty() {
        return "-".to_owned();
    }
    names.join(", ")
}
