//! What a simulation found, as a table and as a picture of time.

use std::fmt::Write as _;

use super::time::span;
use crate::cli::{
    style::{Canvas, Tone, count},
    table::{Cell, Table},
    view::{FleetForecastView, ForecastView, ForecastsView, MomentView, SeedsView},
};

/// Columns before a picture.
const LABEL: usize = 10;
/// Widest picture: wider ones say no more.
const PICTURE_MAX: usize = 100;
/// Bars of growing height.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What the columns of a forecast are.
const COLUMNS: &str = "SERVING: the fewest that answered, of those wanted; GAP: time in which \
    none did; MACHINES: the most at one time; NOTICED: from when clients found the first new \
    instance, or else from the order, until the image was given up (where it leaks: from the first failure until a person \
    went back); BACK: from then until they \
    found no new one; FAILED: time for which they found instances that did not answer, added up \
    over these.";

/// What fleet files would do.
pub(crate) fn forecasts(view: &ForecastsView, canvas: Canvas) -> String {
    let mut text = String::new();
    let made = match view.in_flight {
        Some(many) => format!(", {many} at one time"),
        None => String::new(),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "simulated: a rollout from an older image, machines made in {}{made}",
        span(view.machine_takes_ms)
    );
    let fleets = view.turnouts.first().map_or(0, |first| first.fleets.len());
    for place in 0..fleets {
        text.push('\n');
        fleet(view, place, canvas, &mut text);
    }
    text.push('\n');
    text.push_str(&canvas.paragraph(0, COLUMNS));
    text.push_str(&answers(view, canvas));
    for turnout in &view.turnouts {
        for violation in &turnout.violations {
            let broken = canvas.paint.tone(Tone::Bad, "rule broken");
            let _ = writeln!(text, "\n{broken}: {}: {}", violation.rule, violation.text);
        }
    }
    text
}

/// Where a person was needed: without one it would have waited.
fn answers(view: &ForecastsView, canvas: Canvas) -> String {
    let mut text = String::new();
    for turnout in &view.turnouts {
        for answer in &turnout.answers {
            let said = format!(
                "{}: after {} a person was needed, who answered: {}",
                short(turnout),
                span(answer.at_ms),
                answer.text
            );
            text.push('\n');
            text.push_str(&canvas.paragraph(0, &said));
        }
    }
    text
}

fn fleet(view: &ForecastsView, place: usize, canvas: Canvas, text: &mut String) {
    let mut table = Table::new(
        2,
        [
            "NEW IMAGE",
            "TAKES",
            "WAVES",
            "SERVING",
            "GAP",
            "MACHINES",
            "NOTICED",
            "BACK",
            "FAILED",
        ],
    );
    let mut pictures = String::new();
    for turnout in &view.turnouts {
        let Some(fleet) = turnout.fleets.get(place) else {
            continue;
        };
        table.row(row(turnout, fleet));
        let _ = writeln!(pictures, "\n  {}", words(turnout));
        pictures.push_str(&picture(fleet, canvas));
    }
    if let Some(fleet) = view
        .turnouts
        .first()
        .and_then(|first| first.fleets.get(place))
    {
        let image = view.images.get(place).map_or("", String::as_str);
        let name = canvas.paint.tone(Tone::Bold, &fleet.fleet);
        let many = count(
            usize::try_from(fleet.count).unwrap_or(usize::MAX),
            "instance",
        );
        let _ = writeln!(text, "{name}  {many}, to {image}");
    }
    text.push_str(&table.render(canvas));
    text.push_str(&pictures);
}

fn row(turnout: &ForecastView, fleet: &FleetForecastView) -> [Cell; 9] {
    let takes = if turnout.ended {
        span(fleet.takes_ms)
    } else {
        format!(">{}", span(fleet.takes_ms))
    };
    let wanted = usize::try_from(fleet.count).unwrap_or(usize::MAX);
    let serving = format!("{}/{}", fleet.least_serving, fleet.count);
    let tone = if fleet.least_serving >= wanted {
        Tone::Normal
    } else {
        Tone::Warn
    };
    let or_dash = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), span);
    let failed = match fleet.not_answering_instance_ms {
        0 => "-".to_owned(),
        ms => span(ms),
    };
    [
        short(turnout).into(),
        takes.into(),
        fleet.waves.to_string().into(),
        Cell::new(tone, serving),
        match fleet.gap_ms {
            0 => "-".into(),
            ms => Cell::new(Tone::Bad, span(ms)),
        },
        fleet.most_machines.to_string().into(),
        or_dash(fleet.noticed_after_ms).into(),
        or_dash(fleet.back_after_ms).into(),
        failed.into(),
    ]
}

fn short(turnout: &ForecastView) -> &'static str {
    match turnout.turnout {
        "good" => "good",
        "never_healthy" => "never healthy",
        "bad_once_done" => "leaks",
        _ => "turns bad",
    }
}

fn words(turnout: &ForecastView) -> &'static str {
    match turnout.turnout {
        "good" => "where the new image is good",
        "never_healthy" => "where it never becomes healthy",
        "bad_once_done" => {
            "where it turns bad after its rollout is done, and a person goes back 5m later"
        }
        _ => "where it turns bad 10s after it is active",
    }
}

/// Phases, what serves, and the two sets, over time.
fn picture(fleet: &FleetForecastView, canvas: Canvas) -> String {
    let columns = canvas
        .width
        .saturating_sub(LABEL + 4)
        .clamp(20, PICTURE_MAX);
    let most = fleet.most_machines.max(1);
    let moments: Vec<Vec<&MomentView>> = (0..columns)
        .map(|column| within(fleet, column, columns))
        .collect();
    let mut text = String::new();
    let mut line = |label: &str, tone: Tone, row: String| {
        let row = canvas.paint.tone(tone, row.trim_end());
        let text_line = format!("  {label:<LABEL$}{row}");
        text.push_str(text_line.trim_end());
        text.push('\n');
    };
    line("phase", Tone::Normal, phases(&moments));
    let bars = |of: &dyn Fn(&MomentView) -> usize, least: bool| {
        let bar = |moments: &Vec<&MomentView>| {
            let values = moments.iter().map(|moment| of(moment));
            let value = if least { values.min() } else { values.max() };
            BARS[(value.unwrap_or(0) * 8).div_ceil(most).min(8)]
        };
        moments.iter().map(bar).collect::<String>()
    };
    line("serving", Tone::Good, bars(&|moment| moment.serving, true));
    if fleet.not_answering_instance_ms > 0 {
        line(
            "failing",
            Tone::Bad,
            bars(&|moment| moment.not_answering, false),
        );
    }
    line("old", Tone::Blue, bars(&|moment| moment.old, false));
    line("new", Tone::Good, bars(&|moment| moment.new, false));
    let end = span(fleet.takes_ms);
    let gap = columns.saturating_sub(end.len() + 2);
    line("", Tone::Dim, format!("0s{}{end}", " ".repeat(gap)));
    let legend: Vec<String> = fleet
        .phases
        .iter()
        .map(|phase| {
            format!(
                "{} {} {}",
                letter(&phase.phase),
                phase.phase,
                span(phase.ms)
            )
        })
        .collect();
    text.push_str(&canvas.paragraph(2 + LABEL, &legend.join(", ")));
    text
}

/// The moments of one column: the one that lasts into it, and all that begin in it.
fn within(fleet: &FleetForecastView, column: usize, columns: usize) -> Vec<&MomentView> {
    let edge = |column: usize| {
        let share = u64::try_from(column).unwrap_or(0) * fleet.takes_ms;
        share / u64::try_from(columns).unwrap_or(1).max(1)
    };
    let (from, to) = (edge(column), edge(column + 1));
    let first = fleet
        .timeline
        .iter()
        .rposition(|moment| moment.at_ms <= from);
    let first = first.unwrap_or(0);
    let mut moments: Vec<&MomentView> = Vec::new();
    for (place, moment) in fleet.timeline.iter().enumerate().skip(first) {
        if place > first && moment.at_ms >= to {
            break;
        }
        moments.push(moment);
    }
    moments
}

/// A letter for each column: of its phases, one that no column before it has shown.
fn phases(columns: &[Vec<&MomentView>]) -> String {
    let mut row = String::new();
    let mut last: Option<&str> = None;
    for moments in columns {
        let mut here = moments.iter().filter_map(|moment| moment.phase.as_deref());
        let new = here.clone().find(|phase| Some(*phase) != last);
        let shown = new.or_else(|| here.next());
        row.push(shown.map_or(' ', letter));
        last = shown;
    }
    row
}

fn letter(phase: &str) -> char {
    match phase {
        "switching" => 'w',
        "settling" => 't',
        "rolling_back" => 'x',
        other => other.chars().next().unwrap_or('?'),
    }
}

/// What many seeds came to.
pub(crate) fn seeds(view: &SeedsView, canvas: Canvas) -> String {
    let mut text = String::new();
    let seeds = usize::try_from(view.seeds).unwrap_or(usize::MAX);
    let what = match (view.faults.len(), view.faults.as_slice()) {
        (0, _) => "nothing going wrong".to_owned(),
        (1..=3, some) => format!("{} going wrong", some.join(", ")),
        (many, _) => format!("{many} kinds of things going wrong"),
    };
    let verdict = if view.broken == 0 {
        canvas.paint.tone(Tone::Good, "no rule was broken")
    } else {
        let broken = format!("{} broke a rule", view.broken);
        canvas.paint.tone(Tone::Bad, &broken)
    };
    let _ = writeln!(text, "{}, {what}: {verdict}", count(seeds, "seed"));
    let each = |number: u64| number / view.seeds.max(1);
    let facts = [
        (
            "simulated",
            format!(
                "{} of {} instances",
                span(view.simulated_ms),
                view.instances
            ),
        ),
        (
            "in",
            format!(
                "{}, {} seeds/s on {}",
                span(view.took_ms),
                view.seeds_per_second,
                count(view.threads, "thread")
            ),
        ),
        (
            "each",
            format!(
                "{} of virtual time, {} passes of {} coordinators, {} troubles",
                span(each(view.simulated_ms)),
                each(view.passes),
                each(view.coordinator_runs),
                each(view.happened)
            ),
        ),
    ];
    for (label, fact) in facts {
        text.push_str(&canvas.labelled(2 + LABEL, &format!("  {label}"), Tone::Dim, &fact));
    }
    for failure in &view.failures {
        let seed = failure
            .seed
            .map_or_else(String::new, |seed| format!("  seed {seed}"));
        let what = format!(
            "{} after {}: {}",
            failure.rule,
            span(failure.at_ms),
            failure.text
        );
        text.push_str(&canvas.labelled(16, &seed, Tone::Bad, &what));
    }
    if let Some(shortest) = &view.shortest {
        let _ = writeln!(
            text,
            "\nthe shortest run that breaks {} (seed {}, {} tried):\n",
            shortest.rule, shortest.seed, shortest.tries
        );
        text.push_str(&shortest.trace);
        if let Some(command) = &shortest.command {
            let _ = writeln!(text, "\nto run it again:\n  {command} --trace");
        }
    }
    text
}
