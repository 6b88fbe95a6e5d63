//! What a coordinator that recovers has found, for a person who must decide at three in the
//! morning; and what a backup holds.

use super::time::span;
use crate::cli::{
    style::{Canvas, Tone, count, tame},
    view::{BackupView, FindingView, RecoveryView},
};

/// Columns of the labels.
const LABEL: usize = 17;

/// The plan, with what blocks it first.
pub(crate) fn recovery(view: &RecoveryView, canvas: Canvas) -> String {
    let heading = canvas
        .paint
        .tone(Tone::Bold, &format!("[{}]", tame(&view.environment)));
    let Some(reason) = &view.reason else {
        return format!("{heading} does not recover: there is nothing to approve\n");
    };
    let since = span(view.wall_ms.saturating_sub(view.since_wall_ms));
    let verdict = canvas.paint.tone(Tone::Bad, "recovering");
    let mut text = format!("{heading} {verdict} for {since}\n");
    let mut line = |label: &str, tone, what: &str| {
        text.push_str(&canvas.labelled(LABEL, label, tone, &tame(what)));
    };
    line("because", Tone::Dim, reason);
    line(
        "until then",
        Tone::Dim,
        "it makes, deletes and tells nothing; what runs goes on",
    );
    let numbers = format!(
        "epoch {} was seen, {} is taken",
        view.epoch_seen, view.epoch_next
    );
    line("numbers", Tone::Dim, &numbers);
    for wait in &view.waits {
        line("waits for", Tone::Warn, wait);
    }
    let mut fleet = "";
    let (blocking, rest): (Vec<_>, Vec<_>) =
        view.findings.iter().partition(|finding| finding.blocks);
    for finding in &blocking {
        text.push_str(&self::finding(finding, canvas));
    }
    for finding in rest {
        if finding.fleet != fleet {
            fleet = &finding.fleet;
            text.push_str(&format!(
                "{}\n",
                canvas
                    .paint
                    .tone(Tone::Bold, &format!("fleet {}", tame(fleet)))
            ));
        }
        text.push_str(&self::finding(finding, canvas));
    }
    text.push_str(&next(view, blocking.len(), canvas));
    text
}

fn finding(finding: &FindingView, canvas: Canvas) -> String {
    let tone = match finding.verdict.as_str() {
        _ if finding.blocks => Tone::Bad,
        "adopt" | "keep" => Tone::Good,
        "change" | "missing" => Tone::Blue,
        _ => Tone::Warn,
    };
    let label = format!("  {}", finding.verdict.replace('_', " "));
    let whom = match &finding.instance {
        Some(instance) => format!("{instance}: "),
        None => String::new(),
    };
    let sentence = format!("{whom}{}; {}", finding.found, finding.then);
    canvas.labelled(LABEL, &tame(&label), tone, &tame(&sentence))
}

fn next(view: &RecoveryView, blocking: usize, canvas: Canvas) -> String {
    let Some(plan) = &view.plan else {
        return canvas.labelled(
            LABEL,
            "type",
            Tone::Bold,
            "calvin recover show, in a moment",
        );
    };
    let mut text = String::new();
    if blocking > 0 {
        let sentence = format!(
            "{} the plan: do what is said of each, then look again",
            match blocking {
                1 => "1 thing blocks".to_owned(),
                more => format!("{more} things block"),
            }
        );
        text.push_str(&canvas.labelled(LABEL, "blocked", Tone::Bad, &sentence));
    } else if !view.waits.is_empty() {
        let sentence = "look again in a moment: what is waited for may change the plan";
        text.push_str(&canvas.labelled(LABEL, "too early", Tone::Warn, sentence));
    }
    text.push_str(&canvas.labelled(
        LABEL,
        "first",
        Tone::Bold,
        "be sure that no other coordinator of this environment runs or can start",
    ));
    let command = format!("calvin recover approve {plan} --reason \"...\"");
    text.push_str(&canvas.labelled(LABEL, "then type", Tone::Bold, &command));
    text
}

/// What a backup holds.
pub(crate) fn backup(view: &BackupView, canvas: Canvas) -> String {
    let mut text = String::new();
    let mut line = |label: &str, tone, what: &str| {
        text.push_str(&canvas.labelled(LABEL, label, tone, &tame(what)));
    };
    line("backup", Tone::Good, &format!("{} is whole", view.file));
    let environment = match view.environment.as_str() {
        "" => "unknown: it holds no CA",
        known => known,
    };
    line("environment", Tone::Dim, environment);
    let made = format!("{} ago, by {}", span(view.age_ms), view.made_by);
    line("made", Tone::Dim, &made);
    let epoch = view.epoch.map_or("none".to_owned(), |it| it.to_string());
    line("epoch", Tone::Dim, &epoch);
    for fleet in &view.fleets {
        let image = fleet.image.as_deref().unwrap_or("no image yet");
        let mut what = format!(
            "{}: {image}, {}",
            fleet.name,
            count(fleet.instances, "instance")
        );
        if let Some(rollout) = &fleet.rollout {
            what.push_str(&format!(", {rollout} under way"));
        }
        line("fleet", Tone::Dim, &what);
    }
    let history = usize::try_from(view.history_lines).unwrap_or(usize::MAX);
    let rest = format!(
        "{} of history, whose chain holds; {}, {}, {}",
        count(history, "line"),
        count(view.images, "image"),
        count(view.operators, "operator"),
        count(view.cas, "CA"),
    );
    line("holds", Tone::Dim, &rest);
    if view.exposed {
        let file = &view.file;
        let warning = format!(
            "others may read it, and it holds the keys of the CAs: chmod 600 {file}; if anybody could have read it, rotate the CA"
        );
        line("look", Tone::Bad, &warning);
    }
    text
}
