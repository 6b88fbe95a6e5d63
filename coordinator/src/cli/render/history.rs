//! Lines of the history, under the day they belong to.

use jiff::tz::TimeZone;

use super::time::{clock, day};
use crate::cli::{
    style::{Canvas, Tone, tame},
    view::HistoryLineView,
};

/// Columns of the time of day.
const LABEL: usize = 12;

/// What the coordinator says in its own name, which needs no mention.
const OURS: [&str; 2] = ["planner", "engine"];

/// The lines, oldest first; times in `zone`.
pub(crate) fn lines(lines: &[HistoryLineView], zone: &TimeZone, canvas: Canvas) -> String {
    let mut text = String::new();
    let mut today = String::new();
    for line in lines {
        let date = day(line.wall_ms, zone);
        if date != today {
            text.push_str(&canvas.paint.tone(Tone::Bold, &date));
            text.push('\n');
            today = date;
        }
        text.push_str(&one(line, zone, canvas));
    }
    if lines.is_empty() {
        text.push_str("nothing happened yet\n");
    }
    text
}

fn one(line: &HistoryLineView, zone: &TimeZone, canvas: Canvas) -> String {
    let label = format!("  {}", clock(line.wall_ms, zone));
    let mut sentence = tame(&line.text);
    let fleet = line.fleet.as_deref().unwrap_or_default();
    let subject = line.instance.as_deref().unwrap_or(fleet);
    if !subject.is_empty() && !sentence.contains(subject) {
        sentence = format!("{subject}: {sentence}");
    }
    if !OURS.contains(&line.who.as_str()) && !sentence.contains(&line.who) {
        sentence.push_str(&format!(" [{}]", tame(&line.who)));
    }
    canvas.labelled(LABEL, &label, Tone::Dim, &sentence)
}
