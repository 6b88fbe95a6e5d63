//! What was changed, each line after the environment's name: nobody should have to wonder where.

use crate::cli::{
    style::{Canvas, Tone, tame, width},
    view::ChangeView,
};

/// What would be changed, said before it: nobody may take a dry run for the deed.
pub(crate) fn dry_run(view: &ChangeView, canvas: Canvas) -> String {
    let first = said(
        &view.environment,
        "dry run, nothing is changed yet:",
        canvas,
    );
    first + &change(view, canvas)
}

/// What was changed.
pub(crate) fn change(change: &ChangeView, canvas: Canvas) -> String {
    let mut text = String::new();
    for line in &change.lines {
        text.push_str(&said(&change.environment, line, canvas));
    }
    if change.lines.is_empty() {
        text.push_str(&said(&change.environment, "nothing to change", canvas));
    }
    if let Some(next) = &change.next {
        text.push_str(&canvas.labelled(6, "next:", Tone::Dim, next));
    }
    text
}

/// `[prod] line`.
pub(crate) fn said(environment: &str, line: &str, canvas: Canvas) -> String {
    let prefix = format!("[{environment}]");
    canvas.labelled(width(&prefix) + 1, &prefix, Tone::Bold, &tame(line))
}
