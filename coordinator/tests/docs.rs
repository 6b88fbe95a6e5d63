//! The pages of the files that operators write, against the code that reads them: the same keys, the
//! same defaults, the same ranges, and an example that is taken.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "tests, and what they share"
)]

use std::collections::{BTreeMap, BTreeSet};

use calvin_coordinator::config::ServeConfig;
use calvin_model::{FleetSpec, HumanDuration, parse_toml};
use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

const CONFIGURATION: &str = include_str!("../docs/configuration.md");
const FLEET: &str = include_str!("../docs/fleet.md");

/// A `calvin.toml` with every table and no key that may be left out.
const CALVIN_LEAST: &str = "environment = \"a\"\ndata = \"d\"\n[agents]\nlisten = \"127.0.0.1:1\"\n\
     [operators]\nlisten = \"127.0.0.1:2\"\n[http]\nlisten = \"127.0.0.1:3\"\n[catalogue]\n[consul]\nservers = [\"a:8301\"]\n[budget]\n\
     [provider.process]\nnetwork = \"127.99.0.0/24\"\n";

/// A `FLEET.toml` with every table and no key that may be left out.
const FLEET_LEAST: &str = "name = \"a\"\nimage = \"a@1\"\ncount = 1\n[replace]\n[drain]\n[repair]\n[repair.meltdown]\n[budget]\n";

/// The keys of one table, each with what its row says of the default.
type Rows = BTreeMap<String, String>;

/// The tables of a page, by the names in their headings; the first is that at the top.
fn tables(page: &str) -> BTreeMap<String, Rows> {
    let mut found: BTreeMap<String, Rows> = BTreeMap::new();
    let mut table = None;
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let name = heading
                .strip_prefix("`[")
                .and_then(|it| it.split_once("]`"));
            table = Some(name.map_or(String::new(), |(name, _)| name.to_owned()));
        }
        let cells: Vec<&str> = line.split(" | ").collect();
        let key = cells[0]
            .strip_prefix("| `")
            .and_then(|it| it.strip_suffix('`'));
        if let (Some(table), Some(key), true) = (&table, key, cells.len() == 3) {
            let rows = found.entry(table.clone()).or_default();
            rows.insert(key.to_owned(), cells[1].trim_matches('`').to_owned());
        }
    }
    found
}

/// The keys that a table takes, from the error about one that it does not.
fn keys<T: DeserializeOwned + std::fmt::Debug>(least: &str, table: &str) -> BTreeSet<String> {
    let text = if table.is_empty() {
        format!("zzz = 1\n{least}")
    } else {
        least.replace(&format!("[{table}]\n"), &format!("[{table}]\nzzz = 1\n"))
    };
    let message = parse_toml::<T>("file", &text).unwrap_err().message;
    assert!(message.starts_with("unknown field `zzz`"), "{message}");
    let quoted = message.split('`').skip(1).step_by(2).skip(1);
    quoted.map(str::to_owned).collect()
}

fn inner<'a>(whole: &'a Table, table: &str) -> Option<&'a Table> {
    let mut names = table.split('.').filter(|name| !name.is_empty());
    names.try_fold(whole, |inner, name| inner.get(name)?.as_table())
}

/// Compares every table of a page with what the code takes, and says by default.
fn compare<T: DeserializeOwned + Serialize + std::fmt::Debug>(page: &str, least: &str) {
    let given: Table = least.parse().unwrap();
    let whole: T = parse_toml("file", least).unwrap();
    let whole = Table::try_from(whole).unwrap();
    for (table, rows) in tables(page) {
        let is_table = |key: &String| {
            let full = format!("{table}.{key}");
            inner(&whole, full.trim_start_matches('.')).is_some()
        };
        let mut known = keys::<T>(least, &table);
        known.retain(|key| !is_table(key));
        let documented: BTreeSet<String> = rows.keys().cloned().collect();
        assert_eq!(documented, known, "[{table}]");
        for (key, said) in rows {
            let needed = inner(&given, &table).is_some_and(|given| given.contains_key(&key));
            let value = inner(&whole, &table).and_then(|whole| whole.get(&key));
            let expected = match value {
                _ if needed => "needed".to_owned(),
                None => "none".to_owned(),
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            assert_eq!(
                same(&said),
                same(&expected),
                "the default of [{table}] {key}"
            );
        }
    }
    // Each table that the code knows is on the page.
    let headings: BTreeSet<String> = tables(page).into_keys().collect();
    for line in least.lines().filter(|line| line.starts_with('[')) {
        let name = line.trim_matches(['[', ']']);
        assert!(headings.contains(name), "[{name}] is not documented");
    }
}

/// A value as it is compared: `60s` and `1m` are the same.
fn same(text: &str) -> String {
    let duration = text.parse::<HumanDuration>();
    duration.map_or_else(|_| text.to_owned(), |it| it.to_string())
}

fn example(page: &str) -> &str {
    let (_, rest) = page.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn the_page_of_calvin_toml_has_every_key_and_its_default() {
    compare::<ServeConfig>(CONFIGURATION, CALVIN_LEAST);
    ServeConfig::parse("configuration.md", example(CONFIGURATION)).unwrap();
}

#[test]
fn the_page_of_calvin_toml_has_the_ranges_that_are_checked() {
    for (key, wrong) in [
        ("report_interval", "report_interval = \"1h\"\n"),
        ("certificate_validity", "certificate_validity = \"1s\"\n"),
        ("ttl", ""),
    ] {
        let mut text = format!("{wrong}{CALVIN_LEAST}");
        if wrong.is_empty() {
            text = text.replace("[catalogue]\n", "[catalogue]\nttl = \"1d\"\n");
        }
        let message = ServeConfig::parse("calvin.toml", &text)
            .unwrap_err()
            .message;
        let (_, range) = message.split_once(" must be ").unwrap();
        let row = CONFIGURATION
            .lines()
            .find(|line| line.starts_with(&format!("| `{key}` |")));
        assert!(row.unwrap().contains(range), "{key}: {range}");
    }
}

#[test]
fn the_page_of_fleets_has_every_key_and_its_default() {
    compare::<FleetSpec>(FLEET, FLEET_LEAST);
    FleetSpec::parse("fleet.md", example(FLEET)).unwrap();
    let none = FLEET_LEAST.replace("count = 1", "count = 0");
    let message = FleetSpec::parse("fleet.md", &none).unwrap_err().message;
    let (_, range) = message.split_once(" must be ").unwrap();
    assert!(FLEET.contains(range), "{range}");
}

#[test]
fn every_word_that_a_key_of_a_fleet_takes_is_on_its_page() {
    for (table, key) in [
        ("", "kind"),
        ("replace", "on_settle_timeout"),
        ("replace", "approver"),
        ("drain", "on_timeout"),
    ] {
        let text = if table.is_empty() {
            format!("{key} = \"zzz\"\n{FLEET_LEAST}")
        } else {
            FLEET_LEAST.replace(
                &format!("[{table}]\n"),
                &format!("[{table}]\n{key} = \"zzz\"\n"),
            )
        };
        let message = parse_toml::<FleetSpec>("file", &text).unwrap_err().message;
        let row = FLEET
            .lines()
            .find(|line| line.starts_with(&format!("| `{key}` |")))
            .unwrap();
        for word in message.split('`').skip(1).step_by(2).skip(1) {
            assert!(row.contains(&format!("`{word}`")), "{key}: {word}");
        }
    }
}
