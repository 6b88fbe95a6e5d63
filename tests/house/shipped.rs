//! What is in the shipped binaries, and what must never be.

use std::{collections::BTreeSet, fs};

use crate::graph::{cargo, root};

/// Packages whose binaries are shipped.
const SHIPPED: [&str; 2] = ["calvin-coordinator", "calvin-agent"];

/// Features that a shipped binary may be built with. Whatever else a crate of the workspace
/// declares is for tests (crash points, mutants) and must be off.
const FEATURES: [&str; 1] = ["default"];

#[test]
fn test_only_features_are_not_in_shipped_binaries() {
    for package in SHIPPED {
        let tree = cargo(&[
            "tree", "--locked", "-p", package, "-e", "normal", "--prefix", "none", "-f", "{p}|{f}",
        ]);
        let mut seen = BTreeSet::new();
        for line in tree.lines().filter(|line| line.starts_with("calvin-")) {
            let (name, features) = line
                .trim_end_matches(" (*)")
                .split_once('|')
                .expect("the format");
            seen.insert(name.split(' ').next().unwrap_or_default().to_owned());
            let strange: Vec<_> = features
                .split(',')
                .filter(|feature| !feature.is_empty() && !FEATURES.contains(feature))
                .collect();
            assert!(
                strange.is_empty(),
                "{package} is shipped with {strange:?} of {name}"
            );
        }
        assert!(
            seen.contains("calvin-model"),
            "the tree was not understood: {tree}"
        );
    }
}

#[test]
fn tools_of_the_tests_are_not_in_shipped_binaries() {
    for package in SHIPPED {
        let tree = cargo(&[
            "tree", "--locked", "-p", package, "-e", "normal", "--prefix", "none", "-f", "{p}",
        ]);
        for tool in ["proptest", "tempfile", "calvin-tests"] {
            let found = tree
                .lines()
                .any(|line| line.split(' ').next() == Some(tool));
            assert!(!found, "{package} is shipped with {tool}");
        }
    }
}

#[test]
fn the_planner_s_random_numbers_come_from_its_seed_alone() {
    let tree = cargo(&[
        "tree",
        "--locked",
        "-p",
        "calvin-planner",
        "-e",
        "normal",
        "--prefix",
        "none",
        "-f",
        "{p}|{f}",
    ]);
    let line = tree.lines().find(|line| line.starts_with("fastrand "));
    if let Some(line) = line {
        let (_, features) = line
            .trim_end_matches(" (*)")
            .split_once('|')
            .expect("the format");
        assert!(
            !features.split(',').any(|feature| feature == "std"),
            "fastrand can seed itself: {line}"
        );
    }
}

#[test]
fn building_needs_no_compiler_for_protocol_buffers() {
    let text = fs::read_to_string(root().join("proto/build.rs")).expect("proto has a build script");
    assert!(
        text.contains("protox"),
        "proto/build.rs compiles by other means than protox"
    );
    let tree = cargo(&[
        "tree",
        "--locked",
        "-p",
        "calvin-proto",
        "-e",
        "build",
        "--prefix",
        "none",
    ]);
    assert!(
        !tree.contains("protobuf-src") && !tree.contains("protoc-bin"),
        "{tree}"
    );
}
