//! What the catalogue says of itself, for the state of everything and of each fleet.

use calvin_engine::ports::{CatalogueDebt, CatalogueFault, CatalogueWord};
use calvin_model::FleetName;
use calvin_planner::wall::instant;
use calvin_proto::wire;

use super::answer::ms;

/// Instances named in one sentence.
const NAMED: usize = 3;

/// What it cannot do, and what it owes.
pub(super) fn notices(word: &CatalogueWord) -> Vec<String> {
    let fault = |fault: &CatalogueFault| {
        let what = since(&fault.what, fault.since_wall_ms);
        format!("{what}; {}", fault.advice)
    };
    let faults = word.faults.iter().map(fault);
    faults.chain(owed(&word.debts)).collect()
}

/// What a fleet waits for.
pub(super) fn waiting(word: &CatalogueWord, fleet: &FleetName) -> Vec<wire::Waiting> {
    let faults = word.faults_of(fleet);
    let waiting = faults.map(|fault| wire::Waiting {
        what: fault.what.clone(),
        since_ms: ms(fault.lasts),
        left_ms: None,
        then: String::new(),
    });
    waiting.collect()
}

/// A sentence with when it began to be so.
pub(super) fn since(what: &str, wall_ms: u64) -> String {
    format!("{what} (since {})", instant(wall_ms))
}

fn owed(debts: &[CatalogueDebt]) -> Option<String> {
    let first = debts.iter().map(|debt| debt.since_wall_ms).min()?;
    let named: Vec<&str> = debts
        .iter()
        .take(NAMED)
        .map(|debt| debt.instance.as_str())
        .collect();
    let rest = match debts.len().saturating_sub(NAMED) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    let what = format!(
        "the access of {}{rest} to the catalogue is to be taken back, and was not read back as gone yet",
        named.join(", ")
    );
    Some(format!("{}; it is tried until it was", since(&what, first)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// 2026-11-23 at half past noon.
    const NOON_MS: u64 = 1_795_437_000_000;

    fn word(faults: Vec<CatalogueFault>, debts: &[&str]) -> CatalogueWord {
        let debt = |instance: &&str| CatalogueDebt {
            instance: instance.parse().unwrap(),
            since_wall_ms: NOON_MS,
        };
        CatalogueWord {
            faults,
            debts: debts.iter().map(debt).collect(),
        }
    }

    #[test]
    fn the_fleet_that_waits_says_so_and_no_other_does() {
        let fault = CatalogueFault {
            fleets: ["web".parse().unwrap()].into(),
            what: "the role tags of fleet web cannot be changed".to_owned(),
            advice: "give the token its rule".to_owned(),
            lasts: Duration::from_secs(61),
            since_wall_ms: NOON_MS,
        };
        let word = word(vec![fault], &[]);
        let waits = waiting(&word, &"web".parse().unwrap());
        assert_eq!(waits.len(), 1);
        assert_eq!(waits[0].since_ms, 61_000);
        assert_eq!(waiting(&word, &"db".parse().unwrap()), []);
        let told = "the role tags of fleet web cannot be changed (since 2026-11-23T12:30:00Z); give the token its rule";
        assert_eq!(notices(&word), [told]);
    }

    #[test]
    fn debts_of_many_are_one_sentence() {
        let told = notices(&word(Vec::new(), &["web-a", "web-b", "web-c", "web-d"]));
        assert_eq!(told.len(), 1);
        let owed = "the access of web-a, web-b, web-c and 1 more to the catalogue";
        assert!(
            told[0].starts_with(owed) && told[0].contains("(since 2026-11-23T12:30:00Z)"),
            "{told:?}"
        );
        assert!(notices(&word(Vec::new(), &[])).is_empty());
    }
}
