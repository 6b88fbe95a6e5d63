//! Tells the log what fleets wait for, once: a report that says the same again, only later, is not
//! told again.

use calvin_planner::{FleetReport, Waiting};

/// What is new in a report, one sentence; nothing where it says the same as before.
pub(crate) fn news(before: Option<&FleetReport>, after: &FleetReport) -> Option<String> {
    if before.is_some_and(|before| says_the_same(before, after)) {
        return None;
    }
    let mut said = Vec::new();
    if let Some(first) = after.waiting.first() {
        let mut sentence = format!("waits for {}", first.what);
        if let Some((_, then)) = &first.until {
            sentence.push_str(&format!(", or {then}"));
        }
        if after.waiting.len() > 1 {
            sentence.push_str(&format!(" (and for {} more)", after.waiting.len() - 1));
        }
        said.push(sentence);
    }
    for blocked in &after.blocked {
        said.push(format!(
            "holds back {}, by {}: {}",
            blocked.what, blocked.rule, blocked.fact
        ));
    }
    if said.is_empty() {
        // The first report of a fleet that waits for nothing is no news.
        before?;
        said.push("waits for nothing any more".to_owned());
    }
    let serving = format!("{} of {} serve", after.serving, after.wanted);
    Some(format!("{serving}; {}", said.join("; ")))
}

/// Sentences tell durations and counts, which change as time goes by: how many things are waited
/// for, what comes of each, and what is held by which rule do not.
fn says_the_same(before: &FleetReport, after: &FleetReport) -> bool {
    fn then(waiting: &Waiting) -> Option<&str> {
        waiting.until.as_ref().map(|(_, then)| then.as_str())
    }
    before.phase == after.phase
        && before
            .waiting
            .iter()
            .map(then)
            .eq(after.waiting.iter().map(then))
        && before
            .blocked
            .iter()
            .map(|one| (&one.rule, &one.what))
            .eq(after.blocked.iter().map(|one| (&one.rule, &one.what)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use calvin_planner::Blocked;

    use super::*;

    fn report(waits_for: Duration) -> FleetReport {
        FleetReport {
            serving: 2,
            wanted: 3,
            waiting: vec![Waiting {
                what: format!("web-1 to be healthy, seen {waits_for:?} ago"),
                since: waits_for,
                until: Some((
                    Duration::from_secs(60) - waits_for,
                    "it goes back".to_owned(),
                )),
            }],
            blocked: vec![Blocked {
                what: "the switch".to_owned(),
                rule: "UnprovenNeverServes".to_owned(),
                fact: format!("as of {waits_for:?}"),
            }],
            ..FleetReport::default()
        }
    }

    #[test]
    fn a_report_that_says_the_same_later_is_not_told_again() {
        let (first, later) = (report(Duration::ZERO), report(Duration::from_secs(9)));
        let told = news(None, &first).unwrap();
        assert!(
            told.starts_with("2 of 3 serve; waits for web-1")
                && told.contains("UnprovenNeverServes"),
            "{told}"
        );
        assert_eq!(news(Some(&first), &later), None);
    }

    #[test]
    fn what_begins_and_ends_is_told_once() {
        let quiet = FleetReport::default();
        let busy = report(Duration::ZERO);
        assert_eq!(news(None, &quiet), None);
        assert!(news(Some(&quiet), &busy).is_some());
        let over = news(Some(&busy), &quiet).unwrap();
        assert!(over.ends_with("waits for nothing any more"), "{over}");
        let mut unheld = busy.clone();
        unheld.blocked.clear();
        assert!(news(Some(&busy), &unheld).is_some());
    }
}
