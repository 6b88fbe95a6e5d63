//! How files look: manifests, first lines, lengths, names.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::graph::root;

/// A file beyond this is two.
const LINES_MAX: usize = 500;

/// Folders that hold nothing that people write.
const NOT_OURS: [&str; 3] = ["target", ".git", "node_modules"];

#[test]
fn every_manifest_takes_its_lints_and_edition_from_the_workspace() {
    let manifests = files("Cargo.toml");
    assert!(manifests.len() > 5, "found only {manifests:?}");
    for path in manifests {
        let manifest: toml::Table = read(&path).parse().expect("a manifest is TOML");
        let Some(package) = manifest.get("package") else {
            continue;
        };
        let inherits = |value: Option<&toml::Value>| {
            value.and_then(|value| value.get("workspace")) == Some(&toml::Value::Boolean(true))
        };
        assert_eq!(
            manifest
                .get("lints")
                .and_then(|lints| lints.get("workspace")),
            Some(&toml::Value::Boolean(true)),
            "{path:?} has lints of its own"
        );
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            assert!(
                inherits(package.get(key)),
                "{path:?}: {key} is not the workspace's"
            );
        }
    }
}

#[test]
fn every_source_file_says_first_what_it_is_for() {
    for path in files(".rs") {
        let text = read(&path);
        assert!(text.starts_with("//! "), "{path:?} does not begin with //!");
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first != "//! placeholder",
            "{path:?} says nothing in its first line"
        );
    }
}

#[test]
fn no_source_file_is_longer_than_the_limit() {
    let long: Vec<_> = files(".rs")
        .into_iter()
        .map(|path| (read(&path).lines().count(), path))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn modules_are_named_after_their_subject() {
    let files: Vec<_> = files("mod.rs")
        .into_iter()
        .filter(|path| path.ends_with("mod.rs"))
        .collect();
    assert!(files.is_empty(), "{files:?}: write foo.rs beside foo/");
}

#[test]
fn every_exception_from_the_ban_on_unsafe_code_has_its_reason() {
    for path in files(".rs") {
        let text = read(&path);
        for attribute in ["allow(", "expect("] {
            let needle = format!("{attribute}unsafe_code");
            for (at, _) in text.match_indices(&needle) {
                let rest: String = text[at..].chars().take(300).collect();
                let end = rest.find(")]").unwrap_or(rest.len());
                assert!(
                    rest[..end].contains("reason"),
                    "{path:?}: {needle} without a reason"
                );
            }
        }
    }
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    for path in files(".md") {
        let folder = path.parent().expect("a file lies in a folder");
        let text = read(&path);
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            let file = link.split('#').next().unwrap_or_default();
            let here = !file.is_empty() && !link.contains("://");
            assert!(
                !here || folder.join(file).exists(),
                "{path:?} links to {link}, which is not there"
            );
        }
    }
}

#[test]
fn nothing_unfinished_is_left_in_the_sources() {
    // Written in two parts, so that this file does not find itself.
    let marks = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
    ];
    for path in files(".rs") {
        let text = read(&path);
        for mark in marks {
            assert!(!text.contains(mark), "{path:?} holds {mark}");
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// Every file of the workspace whose name ends so.
fn files(end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be listed") {
            let entry = entry.expect("an entry can be read");
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().expect("an entry has a type");
            if kind.is_dir() && !NOT_OURS.contains(&name.as_str()) {
                open.push(entry.path());
            } else if kind.is_file() && name.ends_with(end) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}
