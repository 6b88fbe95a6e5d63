//! What an approval did, for who gave it and for the history.

use calvin_model::{FleetName, InstanceId};
use calvin_planner::{Event, EventKind};

use super::{Approval, Difference, Verdict};
use crate::ports::HistoryLine;

/// What was done, for who approved it.
pub(super) fn summary(difference: &Difference) -> Vec<String> {
    let mut lines = vec![format!(
        "the coordinator decides again, in epoch {}, above every number that was seen",
        difference.epoch_next
    )];
    let mut say = |verdict: Verdict, what: &str| {
        let count = difference.count(verdict);
        if count > 0 {
            lines.push(format!("{count} {what}"));
        }
    };
    say(Verdict::Adopt, "taken into their fleets as they serve");
    say(Verdict::Keep, "kept as they are");
    say(Verdict::Missing, "missing, and left to the ordinary repair");
    say(
        Verdict::Forget,
        "on record, not there and not needed: forgotten",
    );
    say(Verdict::Stray, "there without serving: left alone");
    let blocked = difference.blocked().count();
    if blocked > 0 {
        lines.push(format!("{blocked} that blocked the plan: left alone"));
    }
    lines
}

/// A line for each fleet, and one for each instance and change of it.
pub(super) fn history(
    difference: &Difference,
    approval: &Approval,
    who: &str,
    wall_ms: u64,
) -> Vec<HistoryLine> {
    let line =
        |fleet: Option<&FleetName>, instance: Option<InstanceId>, text: String| HistoryLine {
            wall_ms,
            who: who.to_owned(),
            event: Event {
                fleet: fleet.cloned(),
                instance,
                kind: EventKind::Command,
                text,
            },
        };
    let mut history = Vec::new();
    let approved = format!(
        "{who}: approved the recovery plan {}, epoch {} follows {}: {}",
        difference.id, difference.epoch_next, difference.epoch_seen, approval.reason
    );
    if difference.fleets.is_empty() {
        history.push(line(None, None, approved.clone()));
    }
    for name in difference.fleets.keys() {
        history.push(line(Some(name), None, approved.clone()));
        let of_fleet = difference
            .findings
            .iter()
            .filter(|one| one.fleet == *name && one.verdict != Verdict::Keep);
        for finding in of_fleet {
            let text = format!("recovered: {finding}");
            history.push(line(Some(name), finding.instance.clone(), text));
        }
    }
    history
}
