//! Who may use whom, and who must stay pure.

use std::collections::BTreeSet;

use crate::graph::{Graph, root};

/// What each package may use of the workspace. What is not here must not be used.
const ARROWS: [(&str, &[&str]); 10] = [
    ("calvin-model", &[]),
    ("calvin-consul", &["calvin-model"]),
    ("calvin-proto", &["calvin-model"]),
    ("calvin-planner", &["calvin-model"]),
    ("calvin-engine", &["calvin-model", "calvin-planner"]),
    ("calvin-lifecycle", &["calvin-model"]),
    (
        "calvin-simulator",
        &[
            "calvin-engine",
            "calvin-lifecycle",
            "calvin-model",
            "calvin-planner",
            "calvin-proto",
        ],
    ),
    (
        "calvin-coordinator",
        &[
            "calvin-consul",
            "calvin-engine",
            "calvin-model",
            "calvin-planner",
            "calvin-proto",
            "calvin-simulator",
        ],
    ),
    (
        "calvin-agent",
        &[
            "calvin-consul",
            "calvin-lifecycle",
            "calvin-model",
            "calvin-proto",
        ],
    ),
    ("calvin-tests", &[]),
];

/// What a pure crate must not reach, by any way.
const IMPURE: [&str; 18] = [
    "async-std",
    "chrono",
    "futures-executor",
    "getrandom",
    "h2",
    "hyper",
    "jiff",
    "mio",
    "prost",
    "rand",
    "rand_core",
    "ring",
    "rustls",
    "smol",
    "socket2",
    "time",
    "tokio",
    "tonic",
];

#[test]
fn every_package_uses_only_those_that_it_may() {
    let graph = Graph::load();
    let known: BTreeSet<_> = ARROWS.iter().map(|(package, _)| *package).collect();
    assert_eq!(
        graph.members(),
        known,
        "a package of the workspace has no row in ARROWS"
    );
    for (package, allowed) in ARROWS {
        let used = graph.own_dependencies(package);
        let strange: Vec<_> = used.iter().filter(|name| !allowed.contains(name)).collect();
        assert!(strange.is_empty(), "{package} uses {strange:?}");
    }
}

#[test]
fn agent_and_coordinator_never_see_each_other() {
    let graph = Graph::load();
    let agent = graph.reached("calvin-agent");
    for package in [
        "calvin-coordinator",
        "calvin-planner",
        "calvin-engine",
        "calvin-simulator",
    ] {
        assert!(!agent.contains(package), "the agent reaches {package}");
    }
    assert!(!graph.reached("calvin-coordinator").contains("calvin-agent"));
}

#[test]
fn what_decides_reaches_no_runtime_network_clock_or_random_source() {
    let graph = Graph::load();
    for package in ["calvin-model", "calvin-planner", "calvin-lifecycle"] {
        let reached = graph.reached(package);
        let impure: Vec<_> = IMPURE
            .iter()
            .filter(|name| reached.contains(*name))
            .collect();
        assert!(impure.is_empty(), "{package} reaches {impure:?}");
    }
}

#[test]
fn the_engine_reaches_no_runtime_and_no_network() {
    let reached = Graph::load();
    let reached = reached.reached("calvin-engine");
    let impure: Vec<_> = IMPURE
        .iter()
        .filter(|name| reached.contains(*name))
        .collect();
    assert!(impure.is_empty(), "calvin-engine reaches {impure:?}");
}

#[test]
fn pure_crates_forbid_clocks_environment_and_unordered_maps_to_clippy() {
    for folder in [
        "proto/model",
        "coordinator/planner",
        "coordinator/engine",
        "coordinator/simulator",
        "agent/lifecycle",
    ] {
        let path = root().join(folder).join("clippy.toml");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let rules: toml::Table = text.parse().expect("clippy.toml is TOML");
        for (key, forbidden) in [
            ("disallowed-methods", "std::time::Instant::now"),
            ("disallowed-methods", "std::time::SystemTime::now"),
            ("disallowed-methods", "std::env::var"),
            ("disallowed-methods", "std::thread::sleep"),
            ("disallowed-types", "std::collections::HashMap"),
            ("disallowed-types", "std::collections::HashSet"),
        ] {
            let listed = rules[key]
                .as_array()
                .expect("a list")
                .iter()
                .any(|rule| rule.get("path").and_then(toml::Value::as_str) == Some(forbidden));
            assert!(listed, "{path:?} does not forbid {forbidden}");
        }
    }
}

#[test]
fn there_is_one_crypto_provider() {
    let graph = Graph::load();
    assert_eq!(
        graph.count("ring"),
        1,
        "ring is the one provider, in one version"
    );
    for other in [
        "aws-lc-rs",
        "aws-lc-sys",
        "boring-sys",
        "native-tls",
        "openssl-sys",
        "rustls-openssl",
    ] {
        assert_eq!(graph.count(other), 0, "{other} is in the tree");
    }
}
