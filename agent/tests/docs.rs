//! The pages in `docs/` against the code: what they list is what there is.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "tests, and what they share"
)]

use calvin_model::{ImageManifest, Provision, parse_toml};

const IMAGE: &str = include_str!("../docs/image.md");
const PROVISION: &str = include_str!("../docs/provision.md");
const ROLES: &str = include_str!("../docs/roles.md");

/// The keys that a table takes, from the error about one that it does not.
fn keys<T: serde::de::DeserializeOwned + std::fmt::Debug>(text: &str) -> Vec<String> {
    let message = parse_toml::<T>("file", text).unwrap_err().message;
    assert!(message.starts_with("unknown field"), "{message}");
    let quoted = message.split('`').skip(1).step_by(2).skip(1);
    quoted.map(str::to_owned).collect()
}

#[test]
fn every_key_of_an_image_is_documented() {
    let head = "name = \"a\"\nversion = \"1\"\n";
    for (table, text) in [
        ("", "zzz = 1".to_owned()),
        ("[workload]", format!("{head}[workload]\nzzz = 1")),
        ("[[service]]", format!("{head}[[service]]\nzzz = 1")),
        ("[[check]]", format!("{head}[[check]]\nzzz = 1")),
        ("[hooks]", format!("{head}[hooks]\nzzz = 1")),
    ] {
        let keys = keys::<ImageManifest>(&text);
        assert!(keys.len() > 2, "{table}: {keys:?}");
        for key in keys {
            let table = matches!(key.as_str(), "workload" | "service" | "check" | "hooks");
            let shown = if table {
                format!("{key}]")
            } else {
                format!("`{key}`")
            };
            assert!(IMAGE.contains(&shown), "{table} {key} is not documented");
        }
    }
}

#[test]
fn the_example_image_is_right() {
    let example = IMAGE
        .split("```toml")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    ImageManifest::parse("image.md", example).unwrap();
}

#[test]
fn every_key_of_a_provision_is_documented() {
    for key in keys::<Provision>("zzz = 1") {
        assert!(
            PROVISION.contains(&format!("`{key}`")),
            "{key} is not documented"
        );
    }
}

#[test]
fn every_exit_code_is_documented_as_help_says_it() {
    let lines = calvin_agent::exit::HELP.lines().skip(1);
    for line in lines {
        let (code, meaning) = line.trim().split_once("  ").unwrap();
        let row = format!("| {code} | {meaning} |");
        assert!(ROLES.contains(&row), "{row}");
    }
}
