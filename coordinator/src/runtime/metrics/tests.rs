//! The text of `/metrics`, read as a scraper reads it.

use std::{sync::Arc, time::Duration};

use calvin_engine::{
    Held,
    ports::{CatalogueDebt, CatalogueWord, Revision},
};
use calvin_model::{Epoch, FleetSpec, RunId};
use calvin_planner::{Blocked, FleetReport, FleetState, InstanceReport, Moment};

use super::*;

/// A picture of an environment without a fleet.
fn view() -> View {
    View {
        recovery: None,
        number: 1,
        epoch: Epoch {
            number: 7,
            run: "00".parse::<RunId>().unwrap(),
        },
        moment: Moment { ms: 5_000 },
        up: Duration::from_secs(60),
        wall_ms: 1_795_426_990_000,
        revision: Revision(3),
        held: None,
        breaches: 0,
        breaches_by_rule: Arc::default(),
        environment: Arc::default(),
        rules: Arc::default(),
        fleets: Arc::default(),
        gone: Arc::default(),
        reports: Arc::default(),
        observed: Arc::default(),
        catalogue: Arc::default(),
        notices: Arc::default(),
    }
}

/// Each sample by its name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "it has an end");
    let mut samples = BTreeMap::new();
    let mut described = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let name = comment.split(' ').nth(1).unwrap_or_default();
            described.push(name.to_owned());
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let family = name.split('{').next().unwrap();
        assert!(
            described
                .iter()
                .any(|known| family.starts_with(known.as_str()) && !known.is_empty()),
            "{family} is not described"
        );
        let before = samples.insert(name.to_owned(), value.parse().unwrap());
        assert_eq!(before, None, "{name} is there twice");
    }
    samples
}

#[test]
fn every_rule_and_phase_is_there_before_anything_happened() {
    let samples = samples(&text(&view(), &pass_times()).unwrap());
    for rule in InvariantId::ALL {
        assert_eq!(
            samples[&format!("calvin_breaches_total{{rule=\"{rule}\"}}")],
            0.0
        );
        assert_eq!(samples[&format!("calvin_holds{{rule=\"{rule}\"}}")], 0.0);
    }
    for phase in Phase::ALL {
        assert_eq!(
            samples[&format!("calvin_rollouts{{phase=\"{phase}\"}}")],
            0.0
        );
    }
    assert_eq!(samples["calvin_deciding"], 1.0);
    assert_eq!(samples["calvin_epoch"], 7.0);
    assert_eq!(samples["calvin_sessions"], 0.0);
}

#[test]
fn what_is_seen_and_held_and_broken_is_counted() {
    let spec = "name = \"web\"\nimage = \"web@1.0\"\ncount = 3\n";
    let state = FleetState::new(FleetSpec::parse("web.toml", spec).unwrap());
    let rule = InvariantId::UnknownNeverKills;
    let mut report = FleetReport {
        serving: 2,
        wanted: 3,
        blocked: vec![Blocked {
            what: "a repair".to_owned(),
            rule: rule.to_string(),
            fact: "nothing is known".to_owned(),
        }],
        ..FleetReport::default()
    };
    let judged = InstanceReport {
        class: InstanceClass::Unknown,
        text: String::new(),
        since: Duration::ZERO,
        waits: None,
        rests_on: calvin_planner::RestsOn::default(),
    };
    report.instances.insert("web-1".parse().unwrap(), judged);
    let name: calvin_model::FleetName = "web".parse().unwrap();
    let mut view = view();
    view.fleets = Arc::new(BTreeMap::from([(name.clone(), state)]));
    view.reports = Arc::new(BTreeMap::from([(name, report)]));
    view.breaches_by_rule = Arc::new(BTreeMap::from([(rule, 4)]));
    view.catalogue = Arc::new(CatalogueWord {
        faults: Vec::new(),
        debts: vec![CatalogueDebt {
            instance: "web-2".parse().unwrap(),
            since_wall_ms: 0,
        }],
    });
    view.held = Some(Held {
        reason: "its disk is full".to_owned(),
        since_wall_ms: 0,
        tries: 1,
        stopped: false,
    });
    let passes = pass_times();
    passes.observe(0.02);
    passes.observe(0.2);
    let samples = samples(&text(&view, &passes).unwrap());
    for (name, value) in [
        ("calvin_fleet_serving{fleet=\"web\"}", 2.0),
        ("calvin_fleet_wanted{fleet=\"web\"}", 3.0),
        ("calvin_instances{class=\"unknown\"}", 1.0),
        ("calvin_instances{class=\"healthy\"}", 0.0),
        ("calvin_holds{rule=\"UnknownNeverKills\"}", 1.0),
        ("calvin_breaches_total{rule=\"UnknownNeverKills\"}", 4.0),
        ("calvin_deciding", 0.0),
        ("calvin_catalogue_debts", 1.0),
        ("calvin_catalogue_faults", 0.0),
        ("calvin_pass_seconds_count", 2.0),
        ("calvin_pass_seconds_bucket{le=\"0.1\"}", 1.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name} in {samples:#?}");
    }
}

#[test]
fn who_is_absent_is_not_counted_as_registered() {
    let report = |registered, fault: Option<&str>| ConsulReport {
        registered,
        fault: fault.map(str::to_owned),
    };
    for (report, counted) in [
        (report(Some(CatalogueRole::Active), None), "yes"),
        (report(Some(CatalogueRole::Standby), None), "yes"),
        (report(Some(CatalogueRole::Absent), None), "absent"),
        (report(None, None), "no"),
        (report(Some(CatalogueRole::Active), Some("no client")), "no"),
    ] {
        assert_eq!(registered(&report), counted, "{report:?}");
    }
}
