//! Zones: instances are spread evenly, in every wave, in repairs and when the count changes.

use std::collections::BTreeMap;

use calvin_model::CatalogueRole;
use calvin_planner::{Command, Order, Phase, ProviderRules};

use crate::world::{World, web};

const SHORT: &str = "min_healthy = \"3s\"\nhealthy_deadline = \"20s\"\nprogress_deadline = \"40s\"\n\
                     settle = \"2s\"\nsettle_max = \"8s\"\nbake = \"5s\"\n";

fn world() -> World {
    let mut world = World::new();
    let zones = ["a", "b", "c", "d"].map(|zone| zone.parse().unwrap());
    let rules = ProviderRules {
        zones: zones.to_vec(),
    };
    world.rules.providers.insert("process".to_owned(), rules);
    world
}

fn served(count: u32, zones: &str, replace: &str) -> World {
    let mut world = world();
    let text = format!("count = {count}\nzones = [{zones}]\n[replace]\n{SHORT}{replace}");
    world.apply(&text, "1.0");
    world.run_to(Phase::Done);
    world
}

/// How many are in each zone, of all that stay or of those that serve.
fn by_zone(world: &World, serving: bool) -> BTreeMap<String, usize> {
    let mut zones = BTreeMap::new();
    for (_, instance) in world.staying() {
        if !serving || instance.catalogue == CatalogueRole::Active {
            let zone = instance.zone.as_ref().map_or("none", |zone| zone.as_str());
            *zones.entry(zone.to_owned()).or_default() += 1;
        }
    }
    zones
}

fn zones(list: &[(&str, usize)]) -> BTreeMap<String, usize> {
    let list = list
        .iter()
        .map(|(zone, number)| ((*zone).to_owned(), *number));
    list.collect()
}

fn lose(world: &mut World, zone: &str) {
    let order = Order {
        by: "ann".to_owned(),
        reason: "fire".to_owned(),
        wall_ms: 0,
    };
    let zone = zone.parse().unwrap();
    world.environment.lost_zones.insert(zone, order);
}

#[test]
fn a_fleet_is_spread_evenly_and_stays_so_in_every_wave() {
    let mut world = served(6, "\"a\", \"b\", \"c\"", "surge = 2");
    let even = zones(&[("a", 2), ("b", 2), ("c", 2)]);
    assert_eq!(by_zone(&world, true), even);
    world.start("2.0").unwrap();
    world.run_until(1_000, |world| {
        let serving = by_zone(world, true);
        assert!(serving.len() == 3, "{serving:?}: {}", world.story());
        let (least, most) = (serving.values().min(), serving.values().max());
        assert!(most.unwrap() - least.unwrap() <= 1, "{serving:?}");
        world.phase() == Some(Phase::Done)
    });
    assert_eq!(by_zone(&world, true), even);
}

#[test]
fn waves_that_make_room_take_evenly_too() {
    let mut world = served(6, "\"a\", \"b\", \"c\"", "surge = 0\nunavailable = 3");
    world.start("2.0").unwrap();
    world.run_until(1_000, |world| {
        let serving = by_zone(world, true);
        assert!(serving.len() == 3, "{serving:?}: {}", world.story());
        world.phase() == Some(Phase::Done)
    });
    assert_eq!(
        by_zone(&world, true),
        zones(&[("a", 2), ("b", 2), ("c", 2)])
    );
}

#[test]
fn a_canary_is_as_many_in_each_zone() {
    let mut world = served(6, "\"a\", \"b\"", "canary = 1\ncanary_soak = \"10s\"");
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    let sets = world.web().rollout.as_ref().unwrap().sets.clone();
    let zone = |id| world.web().instances[id].zone.clone().unwrap().to_string();
    let greens: Vec<String> = sets.green.iter().map(zone).collect();
    assert_eq!(greens, ["a", "b"]);
    let mut blues: Vec<String> = sets.blue.iter().map(zone).collect();
    blues.sort();
    assert_eq!(blues, ["a", "b"]);
    world.run_to(Phase::Done);
}

#[test]
fn a_changed_count_keeps_the_zones_even() {
    let mut world = served(3, "\"a\", \"b\", \"c\"", "");
    let fleet = web();
    world.order(&Command::Scale { fleet, count: 6 }).unwrap();
    world.run_until(100, |world| world.rests("web"));
    assert_eq!(
        by_zone(&world, true),
        zones(&[("a", 2), ("b", 2), ("c", 2)])
    );
    let fleet = web();
    world.order(&Command::Scale { fleet, count: 3 }).unwrap();
    world.run_until(100, |world| world.rests("web"));
    assert_eq!(
        by_zone(&world, true),
        zones(&[("a", 1), ("b", 1), ("c", 1)])
    );
}

#[test]
fn what_is_lost_is_made_again_in_its_zone_unless_that_is_lost() {
    let mut world = served(3, "\"a\", \"b\", \"c\"", "");
    let in_b = |world: &World| {
        let mut staying = world.staying().into_iter();
        let found =
            staying.find(|(_, one)| one.zone.as_ref().is_some_and(|zone| zone.as_str() == "b"));
        found.unwrap().0.clone()
    };
    let lost = in_b(&world);
    world.kill_machine(&lost);
    world.run_until(200, |world| !world.web().instances.contains_key(&lost));
    world.run_until(200, |world| world.rests("web"));
    assert_eq!(
        by_zone(&world, true),
        zones(&[("a", 1), ("b", 1), ("c", 1)])
    );
    lose(&mut world, "b");
    let lost = in_b(&world);
    world.kill_machine(&lost);
    // Nothing is removed there, so that its record stays beside the one that was made elsewhere.
    world.run_until(200, |world| {
        world.report().serving == 3 && world.web().instances.len() == 4
    });
    assert_eq!(
        by_zone(&world, true),
        zones(&[("a", 2), ("b", 1), ("c", 1)])
    );
    assert!(world.web().instances.contains_key(&lost));
}

#[test]
fn other_zones_in_the_file_take_effect_with_the_next_replacement() {
    let mut world = served(4, "\"a\", \"b\"", "surge = 2");
    let text = format!("count = 4\nzones = [\"c\", \"d\"]\n[replace]\n{SHORT}surge = 2");
    world.apply(&text, "1.0");
    world.run_for(std::time::Duration::from_secs(20));
    assert_eq!(by_zone(&world, true), zones(&[("a", 2), ("b", 2)]));
    world.start("2.0").unwrap();
    world.run_to(Phase::Done);
    assert_eq!(by_zone(&world, true), zones(&[("c", 2), ("d", 2)]));
}

#[test]
fn where_every_zone_is_lost_nothing_is_made_and_it_says_so() {
    let mut world = served(2, "\"a\", \"b\"", "");
    lose(&mut world, "a");
    lose(&mut world, "b");
    world.start("2.0").unwrap();
    world.tick();
    assert_eq!(world.web().instances.len(), 2);
    assert!(
        world.says("web", "every zone of the fleet is lost"),
        "{}",
        world.story()
    );
}

#[test]
fn an_unknown_zone_is_refused_with_the_known_ones() {
    let mut world = world();
    let error = world.apply_as("x", "count = 1\nzones = [\"e\"]", "1.0");
    let error = error.unwrap_err().to_string();
    let words =
        "zones: e is no zone of provider process, whose zones in calvin.toml are a, b, c, d";
    assert!(error.contains(words), "{error}");
    world.rules.providers.clear();
    let error = world.apply_as("x", "count = 1\nzones = [\"a\"]", "1.0");
    assert!(error.unwrap_err().to_string().contains("are none"));
    world.apply_as("x", "count = 1", "1.0").unwrap();
}
