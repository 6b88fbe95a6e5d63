//! A rollout as it goes: a view of a few lines that is drawn again and again on a terminal, and
//! one line for each change in a pipe.

use std::time::Duration;

use super::{
    instance, kind, orders, phase, status,
    time::span,
    wait::{self, LABEL},
};
use crate::cli::{
    style::{Canvas, Tone, tame, width},
    view::{InstanceView, RolloutView},
};

/// Longest row of dots; a larger set is drawn as a bar of this length.
const DOTS_MAX: usize = 40;

/// The view for a terminal, of at most `lines_max` lines.
pub(crate) fn frame(
    environment: &str,
    rollout: &RolloutView,
    canvas: Canvas,
    lines_max: usize,
) -> String {
    let wave = if rollout.waves > 1 {
        let canaries = if rollout.canary { " (canaries)" } else { "" };
        format!(", wave {} of {}{canaries}", rollout.wave, rollout.waves)
    } else {
        String::new()
    };
    let by = rollout
        .started_by
        .as_ref()
        .map_or(String::new(), |by| format!(", by {by}"));
    let mut text = canvas.labelled(
        width(environment) + 3,
        &format!("[{environment}]"),
        Tone::Bold,
        &format!(
            "{}: {}{wave}; {} so far{by}",
            rollout.id,
            status::images(rollout),
            span(rollout.total_ms)
        ),
    );
    text.push_str(&format!("  {}\n", way(rollout, canvas)));
    for set in [Set::Blue, Set::Green] {
        text.push_str(&set_line(rollout, set, canvas));
    }
    if let Some(reason) = &rollout.reason {
        text.push_str(&canvas.labelled(LABEL, "  why", Tone::Bad, &tame(reason)));
    }
    text.push_str(&orders::of_rollout(rollout, canvas));
    text.push_str(&kind::gap_line(rollout, canvas));
    text.push_str(&wait::lines(canvas, &rollout.waiting, &rollout.blocked));
    if rollout.waiting.len() > 1
        && let Some(next) = wait::next_deadline(&rollout.waiting)
        && let (Some(left_ms), Some(then)) = (next.left_ms, &next.then)
    {
        let sentence = format!("in {}, then {}", span(left_ms), tame(then));
        text.push_str(&canvas.labelled(LABEL, "  deadline", Tone::Warn, &sentence));
    }
    text.split_inclusive('\n').take(lines_max).collect()
}

/// Stands above a picture that may be true no longer: nothing in it counts on.
pub(crate) fn last_heard(silent: Duration, canvas: Canvas) -> String {
    let seconds = silent.as_secs();
    let sentence = format!("last heard {seconds}s ago; what follows is as of then");
    format!("{}\n", canvas.paint.tone(Tone::Bad, &sentence))
}

fn way(rollout: &RolloutView, canvas: Canvas) -> String {
    let way = phase::way(&rollout.phase);
    match (way.find('['), way.find(']')) {
        (Some(from), Some(to)) => format!(
            "{}{}{}",
            &way[..from],
            canvas.paint.tone(Tone::Bold, &way[from..=to]),
            canvas.paint.tone(Tone::Dim, &way[to + 1..])
        ),
        _ => way,
    }
}

/// The two sets of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    /// Serves at the beginning.
    Blue,
    /// Is to take over.
    Green,
}

impl Set {
    const fn name(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }

    const fn tone(self) -> Tone {
        match self {
            Self::Blue => Tone::Blue,
            Self::Green => Tone::Good,
        }
    }

    fn image(self, rollout: &RolloutView) -> &str {
        match self {
            Self::Blue => rollout.from.as_deref().unwrap_or("-"),
            Self::Green => &rollout.to,
        }
    }

    fn members(self, rollout: &RolloutView) -> Vec<&InstanceView> {
        let name = Some(self.name());
        rollout
            .instances
            .iter()
            .filter(|instance| instance.set.as_deref() == name)
            .collect()
    }
}

/// How many of a set there are, are healthy, and are found under the service's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tally {
    all: usize,
    healthy: usize,
    found: usize,
}

fn tally(members: &[&InstanceView]) -> Tally {
    let healthy = members.iter().filter(|one| one.class == "healthy").count();
    let found = members
        .iter()
        .filter(|one| matches!(one.catalogue.as_deref(), Some("active" | "entered")))
        .count();
    Tally {
        all: members.len(),
        healthy,
        found,
    }
}

fn set_line(rollout: &RolloutView, set: Set, canvas: Canvas) -> String {
    let members = set.members(rollout);
    if members.is_empty() {
        return String::new();
    }
    let Tally {
        all,
        healthy,
        found,
    } = tally(&members);
    let label = format!("  {}", set.name());
    let pad = " ".repeat(LABEL.saturating_sub(label.len()));
    let dots = if all > DOTS_MAX {
        bar(healthy, all, canvas)
    } else {
        let dots = members.iter().map(|one| {
            let (dot, tone) = instance::mark(&one.class);
            canvas.paint.tone(tone, &dot.to_string())
        });
        dots.collect()
    };
    format!(
        "{}{pad}{}  {dots}  {healthy} of {all} healthy, {found} found by clients\n",
        canvas.paint.tone(set.tone(), &label),
        set.image(rollout)
    )
}

fn bar(healthy: usize, all: usize, canvas: Canvas) -> String {
    let full = healthy * DOTS_MAX / all.max(1);
    format!(
        "{}{}",
        canvas.paint.tone(Tone::Good, &"█".repeat(full)),
        canvas.paint.tone(Tone::Dim, &"░".repeat(DOTS_MAX - full))
    )
}

/// What a pipe is told of a state: one line, the same as long as nothing of note changed.
pub(crate) fn line(environment: &str, rollout: &RolloutView) -> String {
    let mut text = format!(
        "[{environment}] {} {}",
        rollout.id,
        phase::words(&rollout.phase)
    );
    if rollout.waves > 1 {
        text.push_str(&format!(" (wave {} of {})", rollout.wave, rollout.waves));
    }
    for set in [Set::Blue, Set::Green] {
        let members = set.members(rollout);
        if !members.is_empty() {
            let Tally {
                all,
                healthy,
                found,
            } = tally(&members);
            text.push_str(&format!(
                "; {} {} {healthy}/{all} healthy, {found} found",
                set.name(),
                set.image(rollout)
            ));
        }
    }
    for blocked in &rollout.blocked {
        text.push_str(&format!(
            "; held: {} [{}]",
            tame(&blocked.what),
            tame(&blocked.rule)
        ));
    }
    text
}

/// How a rollout ended, after the environment's name.
pub(crate) fn ending(environment: &str, rollout: &RolloutView, canvas: Canvas) -> String {
    let after = span(rollout.total_ms);
    let reason = rollout
        .reason
        .as_ref()
        .map_or(String::new(), |reason| format!(": {}", tame(reason)));
    let gap = rollout
        .gap
        .as_ref()
        .map_or(String::new(), |gap| format!("; {}", kind::gap(gap)));
    let (tone, sentence) = match rollout.phase.as_str() {
        "done" => (
            Tone::Good,
            format!(
                "{} is done after {after}: {} serves{gap}",
                rollout.id, rollout.to
            ),
        ),
        "rolled_back" => (
            Tone::Warn,
            format!(
                "{} was rolled back after {after}, {} serves{reason}{gap}",
                rollout.id,
                rollout.from.as_deref().unwrap_or("the old image")
            ),
        ),
        other => (
            Tone::Bad,
            format!(
                "{} ended as {} after {after}{reason}",
                rollout.id,
                phase::words(other)
            ),
        ),
    };
    let prefix = format!("[{environment}]");
    canvas.labelled(width(&prefix) + 1, &prefix, tone, &sentence)
}

/// The same rollout `elapsed` later, if nothing happened: spans grow and times left shrink.
pub(crate) fn advanced(mut rollout: RolloutView, elapsed: Duration) -> RolloutView {
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    rollout.phase_ms = rollout.phase_ms.saturating_add(elapsed_ms);
    rollout.total_ms = rollout.total_ms.saturating_add(elapsed_ms);
    if let Some(gap) = rollout.gap.as_mut().filter(|gap| !gap.over) {
        gap.length_ms = gap.length_ms.saturating_add(elapsed_ms);
    }
    for waiting in &mut rollout.waiting {
        waiting.since_ms = waiting.since_ms.saturating_add(elapsed_ms);
        waiting.left_ms = waiting.left_ms.map(|left| left.saturating_sub(elapsed_ms));
    }
    rollout
}
