//! What people ordered that still holds, in sentences and tables.

use jiff::tz::TimeZone;

use super::time::{minute, span};
use crate::cli::{
    style::{Canvas, Tone, tame},
    table::{Cell, Table},
    view::{FreezeView, FreezesView, OrderView, ZoneView},
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
