//! The pages in `docs/` against the code: what they list is what there is.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "tests, and what they share"
)]

use std::collections::BTreeMap;

use calvin_model::{ImageManifest, Provision, image::Untagged, parse_toml};
use toml::{Table, Value};

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
        ("[consul]", format!("{head}[consul]\nzzz = 1")),
        ("[[check]]", format!("{head}[[check]]\nzzz = 1")),
        ("[quorum]", format!("{head}[quorum]\nzzz = 1")),
        ("[consul]", format!("{head}[consul]\nzzz = 1")),
        ("[hooks]", format!("{head}[hooks]\nzzz = 1")),
    ] {
        let keys = keys::<ImageManifest>(&text);
        assert!(keys.len() > 1, "{table}: {keys:?}");
        for key in keys {
            let table = matches!(
                key.as_str(),
                "workload" | "service" | "check" | "quorum" | "hooks" | "consul"
            );
            let shown = if table {
                format!("{key}]")
            } else {
                format!("`{key}`")
            };
            assert!(IMAGE.contains(&shown), "{table} {key} is not documented");
        }
    }
}

/// What the page says of the default of each key, by table; the first is that at the top. A row may
/// name several keys, and as many defaults.
fn documented() -> BTreeMap<String, BTreeMap<String, String>> {
    let mut found: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    let mut table = String::new();
    for line in IMAGE.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let name = heading.split('`').nth(1).unwrap_or_default();
            table = name.trim_matches(['[', ']']).to_owned();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if cells.len() < 5 || !cells[1].starts_with('`') {
            continue;
        }
        let keys: Vec<&str> = cells[1].split(", ").collect();
        // The default of one key may be a list.
        let defaults: Vec<&str> = match keys.len() {
            1 => vec![cells[2]],
            _ => cells[2].split(", ").collect(),
        };
        for (number, key) in keys.into_iter().enumerate() {
            let default = defaults.get(number).unwrap_or(&defaults[0]);
            let rows = found.entry(table.clone()).or_default();
            let key = key.trim_matches('`').to_owned();
            rows.insert(key, default.trim_matches(['`', '"']).to_owned());
        }
    }
    found
}

#[test]
fn every_key_on_the_page_of_images_exists_and_has_the_default_that_it_says() {
    let least = "name = \"a\"\nversion = \"1\"\n[workload]\ncommand = [\"a\"]\n\
        [[service]]\nname = \"a\"\nport = 1\n[[check]]\nname = \"a\"\n[quorum]\nexec = [\"a\"]\n[consul]\n[hooks]\n";
    let given: Table = least.parse().unwrap();
    let whole: ImageManifest = parse_toml("image.toml", least).unwrap();
    let whole = Table::try_from(whole).unwrap();
    let inner = |whole: &Table, table: &str| -> Table {
        match whole.get(table) {
            None => whole.clone(),
            Some(Value::Array(several)) => several[0].as_table().unwrap().clone(),
            Some(one) => one.as_table().unwrap().clone(),
        }
    };
    for (table, rows) in documented() {
        let text = match table.as_str() {
            "" => format!("zzz = 1\n{least}"),
            _ => least.replace(&format!("[{table}]"), &format!("[{table}]\nzzz = 1")),
        };
        // `[[service]]` holds `[service]`: the key must come after both brackets.
        let text = text.replace("]\nzzz = 1]", "]]\nzzz = 1");
        let known = keys::<ImageManifest>(&text);
        let (given, whole) = (inner(&given, &table), inner(&whole, &table));
        for (key, said) in rows {
            assert!(known.contains(&key), "[{table}] has no {key}: {known:?}");
            let expected = match whole.get(&key) {
                // The one default of an enum that is not written out.
                None if key == "untagged" => {
                    let word = Value::try_from(Untagged::default()).unwrap();
                    word.as_str().unwrap().to_owned()
                }
                _ if given.contains_key(&key) => "needed".to_owned(),
                None => "none".to_owned(),
                Some(Value::String(text)) => text.clone(),
                Some(Value::Array(list)) if list.is_empty() => "none".to_owned(),
                Some(Value::Table(list)) if list.is_empty() => "none".to_owned(),
                Some(other) => other.to_string(),
            };
            assert_eq!(said, expected, "the default of [{table}] {key}");
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
