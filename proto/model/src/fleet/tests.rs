//! Tests of what `FLEET.toml` takes and refuses.

use super::*;

fn parse(text: &str) -> Result<FleetSpec, String> {
    let text = format!("name = \"web\"\nimage = \"web@1.0\"\n{text}\n");
    FleetSpec::parse("web.toml", &text).map_err(|error| error.to_string())
}

#[test]
fn a_fleet_needs_only_name_image_and_count() {
    let spec = parse("count = 5").unwrap();
    assert_eq!(spec.replace, ReplacePolicy::default());
    assert_eq!(spec.replace.surge.of(spec.count), 5);
    assert_eq!(spec.min_serving(), 5);
}

#[test]
fn all_that_there_is_to_say_is_read_and_written_again() {
    let text = "count = 5\nkind = \"service\"\nzones = [\"a\", \"b\"]\nafter = [\"db\"]\n\
                [uses]\nlicences = 1\n\
                [replace]\nsurge = 2\nunavailable = \"20%\"\ncanary = 1\ncanary_soak = \"10m\"\n\
                approve = [\"switch\", \"retire\"]\napprovals = 2\napprover = \"other\"\n\
                approval_timeout = \"2h\"\nwindows = [\"mon-fri 09:00-16:00 Europe/Berlin\"]\n\
                [repair]\nrepair_after = \"1m\"\nmin_serving = 3\nimage_failures = 2\n\
                [repair.meltdown]\ncount = 2\npercent = 40\nwindow = \"5m\"\n\
                [budget]\nin_flight = 2\ndeletions = 4\nwindow = \"1h\"";
    let spec = parse(text).unwrap();
    assert_eq!(spec.min_serving(), 3);
    assert_eq!(spec.zones.len(), 2);
    let again = toml::to_string(&spec).unwrap();
    assert_eq!(FleetSpec::parse("again.toml", &again).unwrap(), spec);
}

#[test]
fn keys_that_contradict_are_both_named() {
    let table = [
        (
            "count = 5\n[replace]\nmin_healthy = \"10m\"",
            ["healthy_deadline", "min_healthy"],
        ),
        (
            "count = 5\n[replace]\nsurge = 0\nunavailable = 0",
            ["surge", "unavailable"],
        ),
        (
            "count = 3\n[replace]\nsurge = 0\nunavailable = \"20%\"",
            ["surge", "unavailable"],
        ),
        (
            "count = 3\n[repair]\nmin_serving = 4",
            ["min_serving", "count"],
        ),
        (
            "count = 3\n[replace]\nsurge = 0\nunavailable = 1\n[repair]\nmin_serving = 3",
            ["min_serving", "unavailable"],
        ),
        ("count = 3\n[replace]\ncanary = 4", ["canary", "count"]),
        ("count = 3\nkind = \"exclusive\"", ["kind", "count"]),
        (
            "count = 3\nkind = \"quorum\"\n[replace]\nunavailable = 1",
            ["kind", "unavailable"],
        ),
        (
            "count = 3\n[replace]\napprovals = 0",
            ["approvals", "approve"],
        ),
        (
            "count = 3\n[replace]\nsurge = 0\nunavailable = 1\napprove = [\"retire\"]",
            ["approve", "surge"],
        ),
        (
            "count = 3\n[replace]\napprove = [\"switch\"]\napproval_timeout = \"0s\"",
            ["approval_timeout", "approve"],
        ),
    ];
    for (text, keys) in table {
        let error = parse(text).unwrap_err();
        for key in keys {
            assert!(error.contains(key), "{text}: {error}");
        }
        assert!(error.contains("web.toml:"), "{text}: {error}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for text in [
        "count = 0",
        "count = 10001",
        "count = 3\nafter = [\"web\"]",
        "count = 3\nzones = [\"a\", \"a\"]",
        "count = 3\n[replace]\napprove = [\"switch\", \"switch\"]",
        "count = 3\n[budget]\nin_flight = 0",
        "count = 3\n[uses]\nlicences = 0",
        "count = 3\n[repair]\nimage_failures = 0",
        "count = 3\n[repair.meltdown]\ncount = 0",
        "count = 3\n[repair.meltdown]\npercent = 101",
        "count = 3\n[replace]\nsurge = \"101%\"",
        "count = 3\n[replace]\nwindows = [\"always\"]",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn one_that_makes_room_first_may_miss_what_it_takes() {
    let spec = parse("count = 3\n[replace]\nsurge = 0\nunavailable = 1").unwrap();
    assert_eq!(spec.min_serving(), 2);
    let alone = parse("count = 1\n[replace]\nsurge = 0\nunavailable = 1").unwrap();
    assert_eq!(alone.min_serving(), 0);
}
