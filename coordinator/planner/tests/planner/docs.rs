//! The documentation's tables are those of the code: this test compares them, or writes them with
//! `CALVIN_UPDATE_DOCS=1`.

use std::{fs, path::Path};

use calvin_model::FleetSpec;
use calvin_model::fleet::MeltdownPolicy;
use calvin_planner::{
    FleetState, InvariantId, diagram, preview,
    sums::{hidden_limit, majority, melts, unmanaged_limit, witnesses_needed},
};

use crate::world::World;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/deciding.md");
const FLEETS: [u32; 4] = [1, 2, 3, 5];
const SURGES: [&str; 4] = ["1", "\"25%\"", "\"50%\"", "\"100%\""];
/// What may be missing where nothing may be on top.
const MISSING: [&str; 4] = ["1", "\"25%\"", "\"50%\"", "\"100%\""];

/// The text of a block, as the page has it and as the code gives it.
fn replace_block(page: &str, name: &str, content: &str) -> String {
    let begin = format!("<!-- {name} -->\n");
    let (before, rest) = page.split_once(&begin).unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    format!("{before}{begin}{content}<!-- end -->{after}")
}

fn rules() -> String {
    let mut text = String::from("| rule | what it says |\n|---|---|\n");
    for id in InvariantId::ALL {
        text.push_str(&format!("| `{id}` | {} |\n", id.rule()));
    }
    text
}

/// The waves of a replacement, and the machines on top at its peak.
fn replacement(fleet: u32, surge: &str) -> (String, u32) {
    let (waves, peak, _) = by(fleet, &format!("surge = {surge}")).unwrap();
    (waves, peak)
}

/// The waves of a replacement by some keys, the machines on top, and how many must go on serving;
/// `None` where the keys are refused.
fn by(fleet: u32, replace: &str) -> Option<(String, u32, usize)> {
    let mut world = World::new();
    let text =
        format!("name = \"web\"\nimage = \"web@1.0\"\ncount = {fleet}\n[replace]\n{replace}");
    let spec = FleetSpec::parse("web.toml", &text).ok()?;
    let mut state = FleetState::new(spec);
    world.apply(&format!("count = {fleet}"), "1.0");
    world.run_to(calvin_planner::Phase::Done);
    state.serving = Some(world.build("1.0"));
    state.instances = world.web().instances.clone();
    let plan = preview(&state, &world.build("2.0"));
    let waves = plan.waves.iter().map(|wave| wave.greens.to_string());
    let waves = waves.collect::<Vec<_>>().join("+");
    Some((waves, plan.peak_extra, state.must_serve()))
}

/// Waves that make room, and those that begin with a canary.
fn more_sums() -> String {
    let mut text = String::from(
        "| fleet of | surge 0, unavailable 1 | 25 % | 50 % | 100 % | canary 1, surge 100 % | canary 1, surge 1 |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for fleet in FLEETS {
        let mut row = format!("| {fleet} |");
        for missing in MISSING {
            let found = by(fleet, &format!("surge = 0\nunavailable = {missing}"));
            let cell = found.map_or_else(
                || "refused".to_owned(),
                |(waves, _, least)| format!("{waves}, {least} serve"),
            );
            row.push_str(&format!(" {cell} |"));
        }
        for surge in ["\"100%\"", "1"] {
            let (waves, peak, _) = by(fleet, &format!("surge = {surge}\ncanary = 1")).unwrap();
            row.push_str(&format!(" {waves}, peak +{peak} |"));
        }
        text.push_str(&row);
        text.push('\n');
    }
    text
}

/// How many of a fleet must fail within the window for repairs to be held, by default.
fn meltdown(fleet: usize) -> String {
    let policy = MeltdownPolicy::default();
    let least = (1..=fleet).find(|failed| melts(*failed, fleet, policy.count, policy.percent));
    least.map_or_else(|| "never".to_owned(), |least| format!("{least} of {fleet}"))
}

fn sums() -> String {
    let mut text = String::from(
        "| fleet of | surge 1 | 25 % | 50 % | 100 % | may be unmanaged | may be hidden | witnesses | quorum | meltdown |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for fleet in FLEETS {
        let mut row = format!("| {fleet} |");
        for surge in SURGES {
            let (waves, peak) = replacement(fleet, surge);
            row.push_str(&format!(" {waves}, peak +{peak} |"));
        }
        let size = usize::try_from(fleet).unwrap();
        let witnesses = match witnesses_needed(size - 1) {
            needed if needed > size - 1 => "never".to_owned(),
            needed => format!("{needed} of {}", size - 1),
        };
        row.push_str(&format!(
            " {} | {} | {witnesses} | {} | {} |\n",
            unmanaged_limit(size),
            hidden_limit(size),
            majority(fleet),
            meltdown(size)
        ));
        text.push_str(&row);
    }
    text
}

#[test]
fn the_page_on_deciding_shows_the_tables_of_the_code() {
    let page = fs::read_to_string(PAGE).unwrap();
    let diagram = format!("```mermaid\n{}```\n", diagram());
    let mut expected = replace_block(&page, "transitions", &diagram);
    expected = replace_block(&expected, "rules", &rules());
    expected = replace_block(&expected, "sums", &sums());
    expected = replace_block(&expected, "more sums", &more_sums());
    if std::env::var_os("CALVIN_UPDATE_DOCS").is_some() {
        fs::write(Path::new(PAGE), &expected).unwrap();
        return;
    }
    assert!(
        page == expected,
        "run CALVIN_UPDATE_DOCS=1 cargo test -p calvin-planner"
    );
}

#[test]
fn the_sums_of_small_fleets_are_these() {
    // fleet, surge, waves, machines on top
    let table = [
        (1, "1", "1", 1),
        (1, "\"50%\"", "1", 1),
        (1, "\"100%\"", "1", 1),
        (2, "1", "1+1", 1),
        (2, "\"50%\"", "1+1", 1),
        (2, "\"100%\"", "2", 2),
        (3, "1", "1+1+1", 1),
        (3, "\"50%\"", "2+1", 2),
        (3, "\"100%\"", "3", 3),
        (5, "1", "1+1+1+1+1", 1),
        (5, "\"25%\"", "2+2+1", 2),
        (5, "\"50%\"", "3+2", 3),
        (5, "\"100%\"", "5", 5),
    ];
    for (fleet, surge, waves, peak) in table {
        let found = replacement(fleet, surge);
        assert_eq!(found, (waves.to_owned(), peak), "{fleet} by {surge}");
    }
}

#[test]
fn the_sums_of_small_fleets_that_make_room_are_these() {
    // fleet, unavailable, waves and how many go on serving
    let table = [
        (1, "1", Some(("1", 0))),
        (1, "\"50%\"", None),
        (1, "\"100%\"", Some(("1", 0))),
        (2, "1", Some(("1+1", 1))),
        (2, "\"25%\"", None),
        (2, "\"50%\"", Some(("1+1", 1))),
        (3, "1", Some(("1+1+1", 2))),
        (3, "\"50%\"", Some(("1+1+1", 2))),
        (5, "\"25%\"", Some(("1+1+1+1+1", 4))),
        (5, "\"50%\"", Some(("2+2+1", 3))),
        (5, "\"100%\"", Some(("5", 0))),
    ];
    for (fleet, missing, expected) in table {
        let found = by(fleet, &format!("surge = 0\nunavailable = {missing}"));
        let expected = expected.map(|(waves, least)| (waves.to_owned(), 0, least));
        assert_eq!(found, expected, "{fleet} without {missing}");
    }
}
