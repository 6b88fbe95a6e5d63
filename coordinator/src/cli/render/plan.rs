//! What a rollout would do, and what is in its way: a reason for each instance, what it costs at its
//! peak, how long it may take, the way back from each phase, and the command that starts exactly
//! this.

use super::{phase, time::span};
use crate::cli::{
    style::{Canvas, Tone, count},
    table::{Cell, Table},
    view::{PlanStepView, PlanView},
};

/// Columns of the labels.
const LABEL: usize = 12;

/// The plan.
pub(crate) fn plan(plan: &PlanView, canvas: Canvas) -> String {
    let images = match &plan.from {
        Some(from) => format!("{from} -> {}", plan.to),
        None => format!("{} for the first time", plan.to),
    };
    let mut text = format!(
        "{} {}: {images}; nothing is changed yet\n",
        canvas
            .paint
            .tone(Tone::Bold, &format!("[{}]", plan.environment)),
        plan.fleet
    );
    if let Some(nothing) = &plan.nothing {
        text.push_str(&canvas.labelled(
            LABEL,
            "  nothing",
            Tone::Dim,
            &format!("to do: {nothing}"),
        ));
        return text;
    }
    for remark in &plan.remarks {
        text.push_str(&canvas.labelled(LABEL, "  but now", Tone::Warn, remark));
    }
    text.push('\n');
    text.push_str(&steps(plan, canvas));
    text.push('\n');
    let line =
        |label: &str, value: &str| canvas.labelled(LABEL, &format!("  {label}"), Tone::Dim, value);
    let machines = format!(
        "{} beyond the count at the peak, in {}",
        count(
            usize::try_from(plan.peak_extra).unwrap_or(usize::MAX),
            "machine"
        ),
        count(usize::try_from(plan.waves).unwrap_or(usize::MAX), "wave")
    );
    text.push_str(&line("peak", &machines));
    let duration = format!(
        "{} at the shortest; given up after {} at the latest",
        span(plan.duration_min_ms),
        span(plan.duration_max_ms)
    );
    text.push_str(&line("takes", &duration));
    text.push_str(&line(
        "way back",
        "from each phase, until the old machines are deleted:",
    ));
    text.push_str(&ways_back(plan, canvas));
    text.push_str(&line("plan", &plan.plan));
    if let Some(next) = &plan.next {
        text.push_str(&canvas.labelled(LABEL, "  start it", Tone::Bold, next));
    }
    text
}

/// Phases with the same way back stand together.
fn ways_back(plan: &PlanView, canvas: Canvas) -> String {
    let mut groups: Vec<(Vec<String>, &str)> = Vec::new();
    for way in &plan.ways_back {
        let phase = phase::words(&way.phase);
        match groups.last_mut() {
            Some((phases, text)) if *text == way.text => phases.push(phase),
            Some(_) | None => groups.push((vec![phase], &way.text)),
        }
    }
    let mut text = String::new();
    for (phases, way) in groups {
        let sentence = format!("{}: {way}", phases.join(", "));
        text.push_str(&canvas.labelled(6, "    -", Tone::Dim, &sentence));
    }
    text
}

/// A row for each instance that there is; those that are yet to be made have no names, and stand
/// together where they have the same reason.
fn steps(plan: &PlanView, canvas: Canvas) -> String {
    let mut table = Table::new(2, ["WAVE", "ACTION", "INSTANCE", "WHY"]);
    let same = |one: &PlanStepView, other: &PlanStepView| {
        one.instance.is_none()
            && other.instance.is_none()
            && (one.wave, &one.action, &one.reason) == (other.wave, &other.action, &other.reason)
    };
    for steps in plan.steps.chunk_by(same) {
        // A chunk is never empty.
        let Some(step) = steps.first() else { continue };
        let tone = match step.action.as_str() {
            "create" => Tone::Good,
            "replace" => Tone::Blue,
            _ => Tone::Dim,
        };
        let instance = match &step.instance {
            Some(instance) => instance.clone(),
            None => format!("({} new)", steps.len()),
        };
        let wave = if step.wave == 0 {
            "-".to_owned()
        } else {
            step.wave.to_string()
        };
        table.row([
            wave.into(),
            Cell::new(tone, step.action.as_str()),
            instance.into(),
            step.reason.as_str().into(),
        ]);
    }
    table.render(canvas)
}
