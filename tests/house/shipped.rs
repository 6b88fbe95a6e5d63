//! What is in the shipped binaries, and what must never be.

use std::{collections::BTreeSet, fs, path::PathBuf};

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

/// Words that only the code of a test-only feature holds.
const TEST_ONLY_WORDS: [&str; 3] = [
    "CALVIN_CRASH_AT",
    "CALVIN_CRASH_LOG",
    "a switch is taken for seen without a look",
];

#[test]
fn the_words_of_the_test_only_code_are_still_in_it() {
    let sources = [
        "coordinator/src/runtime/crash_points.rs",
        "proto/model/src/mutant.rs",
    ];
    let texts = sources.map(|path| fs::read_to_string(root().join(path)).expect("it is there"));
    for word in TEST_ONLY_WORDS {
        assert!(texts.iter().any(|text| text.contains(word)), "{word}");
    }
}

/// Whoever asks for the feature in the same build: what is shipped does not compile with it.
#[test]
fn nothing_that_is_shipped_can_be_built_with_mutants() {
    for source in ["coordinator/src/lib.rs", "agent/src/lib.rs"] {
        let text = fs::read_to_string(root().join(source)).expect("it is there");
        assert!(text.contains("!calvin_model::Mutant::BUILT_IN"), "{source}");
    }
}

#[test]
fn the_shipped_binaries_hold_no_word_of_the_test_only_code() {
    let folder = std::env::var_os("CALVIN_TEST_BINARIES")
        .map_or_else(|| root().join("target/debug"), PathBuf::from);
    for name in ["calvin", "calvin-agent"] {
        let program = folder.join(name);
        let bytes = fs::read(&program)
            .unwrap_or_else(|error| panic!("{program:?}: {error}; run tests/run"));
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.contains("CALVIN_LOG"),
            "{program:?} does not hold what it must: the search is wrong"
        );
        for word in TEST_ONLY_WORDS {
            assert!(!text.contains(word), "{program:?} holds {word}");
        }
    }
}

/// An optimised build is refused with the feature at all, so that no way of asking for it (features
/// of another package of the same build, an alias, a script) can ship it.
#[test]
fn crash_points_cannot_be_built_with_optimisation() {
    let source = "coordinator/src/runtime/crash_points.rs";
    let text = fs::read_to_string(root().join(source)).expect("the code of the feature is there");
    assert!(
        text.contains("#[cfg(not(debug_assertions))]\ncompile_error!("),
        "{source} does not refuse a release build"
    );
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("there is a manifest");
    let manifest: toml::Table = manifest.parse().expect("a manifest is TOML");
    let asserts = manifest["profile"]["release"].get("debug-assertions");
    assert_eq!(asserts, None, "the release profile asserts");
}

#[test]
fn no_script_builds_what_is_shipped_with_a_test_only_feature() {
    for script in [".ci/run", "tests/run"] {
        let text = fs::read_to_string(root().join(script)).expect("the script is there");
        assert!(!text.contains("--all-features"), "{script}");
        for line in text.lines().filter(|line| line.contains("crash-points")) {
            let harmless = line.contains("--bin calvin-crash") || line.contains("clippy");
            assert!(harmless, "{script}: {line}");
        }
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
