//! `rollout explain`: told as a person would. What it is doing and why, what it waits for, since
//! when, until when, what happens then, which rule holds it, what happened so far, what to type.

use jiff::tz::TimeZone;

use super::{
    history, instance, kind, orders,
    phase::{self, Retreat},
    status,
    time::span,
    wait,
};
use crate::cli::{
    style::{Canvas, Tone, tame},
    view::{FleetView, HistoryLineView, RolloutView},
};

/// Tells what a fleet's newest rollout does, or did.
pub(crate) fn explain(
    fleet: &FleetView,
    lines: &[HistoryLineView],
    now_ms: u64,
    zone: &TimeZone,
    canvas: Canvas,
) -> String {
    let mut text = String::new();
    match &fleet.rollout {
        Some(rollout) => text.push_str(&rollout_paragraphs(rollout, canvas)),
        None => {
            text.push_str(&canvas.paragraph(0, &format!("{} never had a rollout.", fleet.name)))
        }
    }
    let mut now = format!("{} of {} instances serve now.", fleet.serving, fleet.wanted);
    if let Some(meaning) = kind::meaning(fleet) {
        now.push_str(&format!(" {meaning}"));
    }
    text.push_str(&canvas.paragraph(0, &now));
    text.push_str(&troubles(fleet, canvas));
    if let Some(rollout) = &fleet.rollout {
        text.push_str(&orders::of_rollout(rollout, canvas));
        text.push_str(&kind::gap_line(rollout, canvas));
    }
    text.push_str(&orders::of_fleet(fleet, now_ms, canvas));
    text.push_str(&waits(fleet, canvas));
    if !lines.is_empty() {
        text.push_str(&heading("What happened", canvas));
        text.push_str(&history::lines(lines, zone, canvas));
    }
    text.push_str(&heading("What you can do", canvas));
    for (command, what) in choices(fleet) {
        text.push_str(&canvas.paragraph(2, &format!("{command}  ({what})")));
    }
    text
}

fn rollout_paragraphs(rollout: &RolloutView, canvas: Canvas) -> String {
    let way = match &rollout.from {
        Some(from) => format!("from {from} to {}", rollout.to),
        None => format!("to {}, the fleet's first image", rollout.to),
    };
    let by = rollout
        .started_by
        .as_ref()
        .map_or(String::new(), |by| format!(" by {by}"));
    let took = span(rollout.total_ms);
    let first = if rollout.ended {
        format!("{} went {way}, started{by}; it took {took}.", rollout.id)
    } else {
        format!("{} goes {way}, started{by} {took} ago.", rollout.id)
    };
    let mut text = canvas.paragraph(0, &first);
    let wave = if rollout.waves > 1 {
        format!(" of wave {} of {}", rollout.wave, rollout.waves)
    } else {
        String::new()
    };
    let name = phase::words(&rollout.phase);
    let meaning = phase::parse(&rollout.phase).map_or(
        "a phase that this version of calvin does not know",
        phase::meaning,
    );
    let sentence = if rollout.ended {
        format!("It is {name}, since {}: {meaning}.", span(rollout.phase_ms))
    } else {
        format!(
            "It is in the phase {name}{wave} since {}: {meaning}.",
            span(rollout.phase_ms)
        )
    };
    text.push_str(&canvas.paragraph(0, &sentence));
    if let Some(reason) = &rollout.reason {
        text.push_str(&canvas.paragraph(0, &format!("Why: {}.", tame(reason))));
    }
    if rollout.failures > 0 {
        let failed = format!("{} of its new instances failed so far.", rollout.failures);
        text.push_str(&canvas.paragraph(0, &failed));
    }
    text
}

fn troubles(fleet: &FleetView, canvas: Canvas) -> String {
    let mut text = String::new();
    for one in fleet
        .instances
        .iter()
        .filter(|one| instance::in_trouble(one))
    {
        let mut sentence = format!("{}.", instance::trouble(one));
        if let Some(waits) = &one.waits {
            let joint = if waits.what.starts_with("to ") {
                ""
            } else {
                "for "
            };
            sentence.push_str(&format!(" It waits {joint}{}.", wait::sentence(waits)));
        }
        if let Some(rests) = one.rests_on.as_ref().and_then(wait::rests_on) {
            sentence.push_str(&format!(" That rests on {rests}."));
        }
        text.push_str(&canvas.labelled(4, "  !", Tone::Bad, &sentence));
    }
    text
}

fn waits(fleet: &FleetView, canvas: Canvas) -> String {
    let mut text = String::new();
    if !fleet.waiting.is_empty() {
        text.push_str(&heading("It waits for", canvas));
    }
    for waiting in &fleet.waiting {
        let mut sentence = format!("{}, since {}", tame(&waiting.what), span(waiting.since_ms));
        match (waiting.left_ms, &waiting.then) {
            (Some(left), Some(then)) => {
                sentence.push_str(&format!(
                    ". At most {} more; then {}",
                    span(left),
                    tame(then)
                ));
            }
            (Some(left), None) => sentence.push_str(&format!(". At most {} more", span(left))),
            (None, Some(then)) => sentence.push_str(&format!(". Then {}", tame(then))),
            (None, None) => {}
        }
        text.push_str(&canvas.labelled(4, "  -", Tone::Dim, &format!("{sentence}.")));
    }
    if !fleet.blocked.is_empty() {
        text.push_str(&heading("It holds back", canvas));
    }
    for blocked in &fleet.blocked {
        let sentence = format!(
            "{}, because {}. The rule: {}.",
            tame(&blocked.what),
            tame(&blocked.fact),
            tame(&blocked.rule)
        );
        text.push_str(&canvas.labelled(4, "  -", Tone::Warn, &sentence));
    }
    if let Some(next) = wait::next_deadline(&fleet.waiting)
        && fleet.waiting.len() > 1
        && let Some(left_ms) = next.left_ms
    {
        let sentence = format!("The next deadline is in {}.", span(left_ms));
        text.push_str(&canvas.paragraph(0, &sentence));
    }
    text
}

fn heading(title: &str, canvas: Canvas) -> String {
    format!("\n{}\n", canvas.paint.tone(Tone::Bold, title))
}

/// What a person may type now, and what it does.
fn choices(fleet: &FleetView) -> Vec<(String, &'static str)> {
    let name = &fleet.name;
    let Some(rollout) = &fleet.rollout else {
        return vec![(
            format!("calvin rollout plan {name}"),
            "what a rollout would do",
        )];
    };
    let mut choices = Vec::new();
    if !rollout.ended {
        choices.push((
            format!("calvin rollout watch {name}"),
            "follow it to its end",
        ));
        match phase::parse(&rollout.phase).map(phase::retreat) {
            Some(Retreat::Abort) => {
                choices.push((
                    format!("calvin rollout abort {name}"),
                    "give it up before the switch",
                ));
            }
            Some(Retreat::Rollback) if rollout.from.is_some() => {
                choices.push((
                    format!("calvin rollout rollback {name}"),
                    "go back to the old image",
                ));
            }
            Some(Retreat::Rollback | Retreat::None) | None => {}
        }
    }
    if rollout.ended && rollout.phase == "done" && rollout.from.is_some() {
        choices.push((
            format!("calvin undo {name}"),
            "roll out the image that served before",
        ));
    }
    if rollout.ended && rollout.phase != "done" {
        choices.push((
            format!(
                "calvin rollout plan {name} {}",
                status_image(fleet, rollout)
            ),
            "what another try would do",
        ));
    }
    if let Some(one) = fleet.instances.iter().find(|one| instance::in_trouble(one)) {
        choices.push((
            format!("calvin instance console {}", one.id),
            "what its machine printed",
        ));
    }
    choices.push((
        format!("calvin rollout history {name}"),
        "everything that was decided",
    ));
    choices
}

fn status_image<'a>(fleet: &'a FleetView, rollout: &'a RolloutView) -> &'a str {
    fleet.image_applied.as_deref().unwrap_or(&rollout.to)
}

/// The same for `rollout status FLEET`, short.
pub(crate) fn short(fleet: &FleetView, canvas: Canvas) -> String {
    let mut text = format!(
        "{}  {}\n",
        canvas.paint.tone(Tone::Bold, &fleet.name),
        status::summary(fleet)
    );
    if let Some(rollout) = &fleet.rollout {
        if !rollout.ended {
            text.push_str(&format!("  {}\n", phase::way(&rollout.phase)));
        }
        if let Some(reason) = &rollout.reason {
            text.push_str(&canvas.labelled(wait::LABEL, "  why", Tone::Bad, &tame(reason)));
        }
        text.push_str(&kind::gap_line(rollout, canvas));
    }
    text.push_str(&wait::lines(canvas, &fleet.waiting, &fleet.blocked));
    if !fleet.instances.is_empty() {
        text.push_str(&instance::table(canvas, 2, &fleet.instances));
    }
    text
}
