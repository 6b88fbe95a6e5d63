//! Bad input, as people are told of it: each contradiction with the keys that contradict. From the
//! file, or the order, to the text on standard error, through the real parts in between.

use std::{collections::BTreeMap, fmt::Write as _};

use calvin_model::{Digest, FleetSpec, image::ImageRef, image::Work};
use calvin_planner::{
    Build, Command, CommandInput, EnvironmentRules, EnvironmentState, FleetState, FreezeScope,
    Moment, ProviderRules, command,
};
use tonic::Status;

use super::{
    failure::{Failure, Page},
    golden::assert_text,
    screen::Format,
};
use crate::api::operator::OperatorError;

/// A file that contradicts itself in nothing, to which each case adds.
const GOOD: &str = "name = \"web\"\nimage = \"web@2.0\"\n";

/// What is added, one contradiction each.
const FILES: [&str; 23] = [
    "count = 0",
    "count = 2\n[replace]\nsurge = 0\nunavailable = 0",
    "count = 2\n[repair]\nmin_serving = 3",
    "count = 4\n[replace]\nsurge = 0\nunavailable = 1\n[repair]\nmin_serving = 4",
    "count = 3\nzones = [\"a\", \"b\"]\n[replace]\ncanary = 2",
    "count = 3\nzones = [\"a\", \"a\"]",
    "count = 3\n[replace]\nmin_healthy = \"5m\"\nhealthy_deadline = \"1m\"",
    "count = 3\n[replace]\nhealthy_deadline = \"5m\"\nprogress_deadline = \"1m\"",
    "count = 3\n[replace]\napprove = [\"switch\"]\napprovals = 0",
    "count = 3\n[replace]\napprove = [\"switch\"]\napproval_timeout = \"0s\"",
    "count = 3\n[replace]\napprove = [\"switch\", \"switch\"]",
    "count = 3\n[replace]\napprove = [\"retire\"]\nsurge = 0\nunavailable = 1",
    "count = 3\n[repair]\nimage_failures = 0",
    "count = 3\n[repair.meltdown]\ncount = 0",
    "count = 3\n[budget]\nin_flight = 0",
    "count = 3\n[budget]\ndeletions = 0",
    "count = 3\nuses = { licences = 0 }",
    "count = 3\nafter = [\"web\"]",
    "count = 2\nkind = \"exclusive\"",
    "count = 3\nkind = \"quorum\"\n[replace]\nunavailable = 1",
    "count = 3\nkind = \"several\"",
    "count = 3\n[replace]\nwindows = [\"mon 05:00-04:00\"]",
    "count = 3\n[replace]\nbaek = \"1m\"",
];

/// What the environment contradicts.
const MISFITS: [&str; 6] = [
    "count = 2\nzones = [\"a\", \"x\"]",
    "count = 2\nuses = { licences = 20 }",
    "count = 2\nuses = { seats = 1 }",
    "count = 2\nafter = [\"db\"]",
    "count = 1\nkind = \"exclusive\"",
    "count = 3\nkind = \"quorum\"",
];

/// What a person reads who tried `tried`.
fn told(tried: &str, error: OperatorError) -> String {
    let failure = Failure::answered(format!("[prod] {tried}"), &Status::from(error));
    failure.report(Format::Table, Page::Lines)
}

fn section(text: &mut String, given: &str, said: &str) {
    for line in given.lines() {
        writeln!(text, "| {line}").unwrap();
    }
    writeln!(text, "{said}").unwrap();
}

#[test]
fn a_file_that_contradicts_itself_is_refused_with_its_keys() {
    let mut text = String::new();
    for more in FILES {
        let toml = format!("{GOOD}{more}\n");
        let error = FleetSpec::parse("web.toml", &toml).unwrap_err();
        section(
            &mut text,
            more,
            &told("could not apply web.toml", error.into()),
        );
    }
    assert_text("refused_files", &text);
}

fn build() -> Build {
    Build {
        image: ImageRef {
            tag: "web@2.0".parse().unwrap(),
            digest: format!("sha256:{}", "0".repeat(64))
                .parse::<Digest>()
                .unwrap(),
        },
        work: Work::Boot,
        services: true,
        quorum: false,
    }
}

fn ordered(
    order: &Command,
    fleets: &BTreeMap<calvin_model::FleetName, FleetState>,
) -> OperatorError {
    let zones = ["a", "b"].map(|zone| zone.parse().unwrap()).to_vec();
    let rules = EnvironmentRules {
        providers: [("process".to_owned(), ProviderRules { zones })].into(),
        limits: [("licences".parse().unwrap(), 10)].into(),
        ..EnvironmentRules::default()
    };
    let input = CommandInput {
        now: Moment::default(),
        wall_ms: 1_795_426_990_000,
        environment: &EnvironmentState::default(),
        rules: &rules,
        fleets,
        windows: &BTreeMap::new(),
        gone: &BTreeMap::new(),
    };
    command(&input, order, "alice").unwrap_err().into()
}

#[test]
fn a_file_that_does_not_fit_the_environment_is_refused_with_both_keys() {
    let mut text = String::new();
    for more in MISFITS {
        let spec = FleetSpec::parse("web.toml", &format!("{GOOD}{more}\n")).unwrap();
        let order = Command::ApplyFleet {
            spec: Box::new(spec),
            build: build(),
        };
        let error = ordered(&order, &BTreeMap::new());
        section(&mut text, more, &told("could not apply web.toml", error));
    }
    assert_text("refused_misfits", &text);
}

#[test]
fn an_order_that_contradicts_itself_is_refused_with_what_it_lacks() {
    let freeze = |until_wall_ms, reason: &str| Command::Freeze {
        fleet: None,
        scope: FreezeScope::All,
        until_wall_ms,
        reason: reason.to_owned(),
    };
    let spec = format!("{GOOD}count = 3\n[repair]\nmin_serving = 3\n");
    let spec = FleetSpec::parse("web.toml", &spec).unwrap();
    let name = spec.name.clone();
    let fleets = BTreeMap::from([(name.clone(), FleetState::new(spec))]);
    let cases = [
        ("freeze the environment", freeze(None, "sale")),
        ("freeze the environment", freeze(Some(1_000), "sale")),
        (
            "scale fleet web to 2",
            Command::Scale {
                fleet: name,
                count: 2,
            },
        ),
    ];
    let mut text = String::new();
    for (what, order) in cases {
        let error = ordered(&order, &fleets);
        section(&mut text, what, &told(&format!("could not {what}"), error));
    }
    assert_text("refused_orders", &text);
}
