//! What the catalogue cannot do, and what is still open of who is gone.

use calvin_engine::{View, ports::CatalogueWord};
use calvin_proto::wire;

use super::{check, named};
use crate::api::operator::word;

const NAME: &str = "catalogue";

/// One check for each thing that it cannot do, and one for what is not taken back yet.
pub(super) fn catalogue(view: &View) -> Vec<wire::DoctorCheck> {
    let CatalogueWord { faults, debts } = &*view.catalogue;
    let faults = faults.iter().map(|fault| {
        check(
            NAME,
            false,
            word::since(&fault.what, fault.since_wall_ms),
            &fault.advice,
        )
    });
    let mut checks: Vec<_> = faults.collect();
    if !debts.is_empty() {
        let ids: Vec<_> = debts.iter().map(|debt| &debt.instance).collect();
        let found = format!(
            "access of who is gone is not taken back yet: {}",
            named(&ids)
        );
        let advice =
            "it is tried until it was read back as gone; what holds it up is said here, too";
        checks.push(check(NAME, false, found, advice));
    }
    if checks.is_empty() {
        let found = "nothing of what it is asked for fails, and nothing is owed".to_owned();
        checks.push(check(NAME, true, found, ""));
    }
    checks
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use calvin_engine::ports::{CatalogueDebt, CatalogueFault};

    use super::{super::tests::began, *};

    #[test]
    fn what_it_cannot_do_is_named_with_the_rule_and_what_is_owed_with_whose_it_is() {
        let mut view = began(Duration::from_secs(60));
        let well = catalogue(&view);
        assert!(well.len() == 1 && well[0].ok, "{well:?}");
        let fault = CatalogueFault {
            fleets: ["web".parse().unwrap()].into(),
            what: "the role tags of fleet web cannot be changed in Consul: it lacks a rule"
                .to_owned(),
            advice: "give it the rule".to_owned(),
            lasts: Duration::from_secs(61),
            since_wall_ms: 0,
        };
        let debt = CatalogueDebt {
            instance: "web-a".parse().unwrap(),
            since_wall_ms: 0,
        };
        view.catalogue = Arc::new(CatalogueWord {
            faults: vec![fault],
            debts: vec![debt],
        });
        let checks = catalogue(&view);
        assert!(checks.iter().all(|check| !check.ok), "{checks:?}");
        assert!(
            checks[0]
                .found
                .ends_with("it lacks a rule (since 1970-01-01T00:00:00Z)"),
            "{checks:?}"
        );
        assert_eq!(checks[0].advice, "give it the rule");
        assert!(checks[1].found.contains("web-a"), "{checks:?}");
    }
}
