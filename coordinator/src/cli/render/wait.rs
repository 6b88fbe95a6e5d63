//! What is waited for and what is held back: the sentences that every view shares.

use super::time::span;
use crate::cli::{
    style::{Canvas, Tone, count, tame},
    view::{BlockedView, RestsOnView, WaitingView},
};

/// Columns of the labels before each sentence.
pub(crate) const LABEL: usize = 11;

/// Things waited for that are told; the rest is counted. The most pressing come first, and three
/// of two lines each leave room on a screen of 24.
const SHOWN: usize = 3;

/// `web-abc is unhealthy: http answers 503 (for 12s; 48s left, then it is rolled back)`.
pub(crate) fn sentence(waiting: &WaitingView) -> String {
    let mut text = tame(&waiting.what);
    text.push_str(&format!(" (for {}", span(waiting.since_ms)));
    if let Some(left_ms) = waiting.left_ms {
        text.push_str(&format!("; {} left", span(left_ms)));
    }
    if let Some(then) = &waiting.then {
        let joint = if waiting.left_ms.is_some() {
            ", then "
        } else {
            "; then "
        };
        text.push_str(joint);
        text.push_str(&tame(then));
    }
    text.push(')');
    text
}

/// One line for each thing that is waited for and each that is held back.
pub(crate) fn lines(canvas: Canvas, waiting: &[WaitingView], blocked: &[BlockedView]) -> String {
    let mut text = String::new();
    for item in waiting.iter().take(SHOWN) {
        text.push_str(&canvas.labelled(LABEL, "  waits", Tone::Dim, &sentence(item)));
    }
    if waiting.len() > SHOWN {
        let rest = format!("and for {}", count(waiting.len() - SHOWN, "more thing"));
        text.push_str(&canvas.labelled(LABEL, "  waits", Tone::Dim, &rest));
    }
    for item in blocked {
        let sentence = format!(
            "{}: {} [{}]",
            tame(&item.what),
            tame(&item.fact),
            tame(&item.rule)
        );
        text.push_str(&canvas.labelled(LABEL, "  held", Tone::Warn, &sentence));
    }
    text
}

/// The deadline that comes first.
pub(crate) fn next_deadline(waiting: &[WaitingView]) -> Option<&WaitingView> {
    waiting
        .iter()
        .filter(|item| item.left_ms.is_some())
        .min_by_key(|item| item.left_ms)
}

/// `its agent 0.4s ago, its provider's list 4s ago`; nothing where nothing was seen.
pub(crate) fn rests_on(rests: &RestsOnView) -> Option<String> {
    let sources = [
        ("its agent", rests.agent_age_ms),
        ("its provider's list", rests.list_age_ms),
        ("a probe", rests.probe_age_ms),
    ];
    let said: Vec<String> = sources
        .into_iter()
        .filter_map(|(source, age)| Some(format!("{source} {} ago", span(age?))))
        .collect();
    (!said.is_empty()).then(|| said.join(", "))
}
