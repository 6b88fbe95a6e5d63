//! What a person says of zones and repairs, and what becomes of it.

use std::time::Duration;

use calvin_model::{Health, InstanceId, ZoneName};
use calvin_planner::{
    Action, Command, DeleteBasis, InvariantId, MachineState, Phase, ProviderRules, Refusal,
};

use crate::world::{Behaviour, World, ids, web};

const THREE: &str = "count = 6\nzones = [\"a\", \"b\", \"c\"]\n";

/// A fleet that serves on a provider with five zones.
fn served(text: &str) -> World {
    let mut world = World::new();
    let zones = ["a", "b", "c", "north", "south"].map(zone).to_vec();
    let rules = ProviderRules { zones };
    world.rules.providers.insert("process".to_owned(), rules);
    world.apply(text, "1.0");
    world.run_to(Phase::Done);
    world.run_until(60, |world| world.report().serving == world.report().wanted);
    world
}

fn zone(name: &str) -> ZoneName {
    name.parse().unwrap()
}

fn lose(world: &mut World, name: &str) {
    let order = Command::LoseZone {
        zone: zone(name),
        reason: "hall a has no power".to_owned(),
    };
    world.order(&order).unwrap();
}

fn find(world: &mut World, name: &str) {
    let zone = zone(name);
    world.order(&Command::FindZone { zone }).unwrap();
}

fn there(world: &World, name: &str) -> Vec<InstanceId> {
    let name = zone(name);
    let instances = world.web().instances.iter();
    let there = instances.filter(|(_, one)| one.zone.as_ref() == Some(&name));
    there.map(|(id, _)| id.clone()).collect()
}

fn cut(world: &mut World, ids: &[InstanceId]) {
    for id in ids {
        world.cut_path(id);
        world.machines.get_mut(id).unwrap().workload_answers = false;
    }
}

fn mend(world: &mut World, ids: &[InstanceId]) {
    for id in ids {
        let machine = world.machines.get_mut(id).unwrap();
        machine.path_cut_at = None;
        machine.workload_answers = true;
    }
}

fn takes_away(world: &World, ids: &[InstanceId]) -> bool {
    world.actions.iter().any(|action| match action {
        Action::DeleteMachine { instance, .. } | Action::RevokeIdentity { instance } => {
            ids.contains(instance)
        }
        Action::CreateMachine { .. } | Action::SetWanted { .. } | Action::SetRoles { .. } => false,
    })
}

fn held_by(world: &World, rule: InvariantId) -> bool {
    let blocked = &world.report().blocked;
    blocked.iter().any(|one| one.rule == rule.to_string())
}

#[test]
fn what_is_silent_in_a_lost_zone_is_made_elsewhere_and_nothing_there_is_removed() {
    let mut world = served(THREE);
    let lost = there(&world, "a");
    assert_eq!(lost.len(), 2, "{}", world.story());
    cut(&mut world, &lost);
    world.run_for(Duration::from_secs(60));
    assert_eq!(
        ids(&world).len(),
        6,
        "nobody said so yet: {}",
        world.story()
    );
    lose(&mut world, "a");
    world.run_until(60, |world| world.active("1.0").len() == 8);
    for _ in 0..900 {
        world.tick();
        assert!(!takes_away(&world, &lost), "{}", world.story());
    }
    assert_eq!(there(&world, "a"), lost, "{}", world.story());
    assert_eq!(ids(&world).len(), 8);
    assert_eq!(world.report().serving, 6, "{}", world.story());
    // Found again, they serve, and what is too many leaves.
    mend(&mut world, &lost);
    find(&mut world, "a");
    world.run_until(300, |world| ids(world).len() == 6);
    assert!(world.is_quiet(), "{}", world.story());
    assert_eq!(world.report().serving, 6, "{}", world.story());
}

#[test]
fn what_still_answers_in_a_lost_zone_goes_on_serving() {
    let mut world = served(THREE);
    let before = ids(&world);
    let both = there(&world, "a");
    lose(&mut world, "a");
    world.run_for(Duration::from_secs(120));
    assert_eq!(ids(&world), before, "{}", world.story());
    assert_eq!(world.active("1.0").len(), 6);
    // One that falls silent later is made elsewhere then.
    cut(&mut world, &both[..1]);
    world.run_until(100, |world| {
        world.report().serving == 6 && ids(world).len() == 7
    });
    assert!(ids(&world).contains(&both[0]));
    // It answers again, although nobody has found the zone: then one is too many.
    mend(&mut world, &both[..1]);
    world.run_until(300, |world| ids(world).len() == 6);
    assert_eq!(world.report().serving, 6);
}

#[test]
fn a_lost_zone_is_no_meltdown_and_no_reason_for_distrust() {
    let mut world = served("count = 6\nzones = [\"a\", \"b\"]");
    let lost = there(&world, "a");
    assert_eq!(lost.len(), 3);
    lose(&mut world, "a");
    for id in &lost {
        world.end_machine(id, MachineState::Stopped);
    }
    world.run_until(100, |world| world.report().serving == 6);
    assert!(!held_by(&world, InvariantId::MeltdownHolds));
    assert!(!held_by(&world, InvariantId::DistrustHolds));
    assert_eq!(there(&world, "a"), lost, "{}", world.story());
}

#[test]
fn a_rollout_leaves_a_lost_zone_alone_and_ends() {
    for phase in [
        Phase::Provisioning,
        Phase::Soaking,
        Phase::Settling,
        Phase::Baking,
    ] {
        let mut world = served(THREE);
        world.start("2.0").unwrap();
        world.run_to(phase);
        let there = there(&world, "a");
        lose(&mut world, "a");
        for id in &there {
            if world.machines.contains_key(id) {
                cut(&mut world, std::slice::from_ref(id));
            }
        }
        for _ in 0..900 {
            world.tick();
            assert!(!takes_away(&world, &there), "{}", world.story());
        }
        let ended = world.web().running().is_none();
        assert!(ended, "{phase}: {}", world.story());
        assert_eq!(world.report().serving, 6, "{phase}: {}", world.story());
        let left: Vec<InstanceId> = there
            .iter()
            .filter(|id| world.machines.contains_key(*id))
            .cloned()
            .collect();
        mend(&mut world, &left);
        find(&mut world, "a");
        world.run_until(2_000, |world| ids(world).len() == 6);
        assert!(world.is_quiet(), "{phase}: {}", world.story());
        assert_eq!(world.report().serving, 6);
    }
}

#[test]
fn a_rollback_does_not_wait_for_a_lost_zone() {
    let mut world = served(THREE);
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    let lost = there(&world, "a");
    lose(&mut world, "a");
    cut(&mut world, &lost);
    world.run_for(Duration::from_secs(5));
    let reason = "it is slow".to_owned();
    let fleet = web();
    world.order(&Command::Rollback { fleet, reason }).unwrap();
    world.run_until(600, |world| world.web().running().is_none());
    assert_eq!(world.phase(), Some(Phase::RolledBack), "{}", world.story());
    world.run_until(100, |world| world.report().serving == 6);
    assert!(lost.iter().all(|id| ids(&world).contains(id)));
}

#[test]
fn a_fleet_is_deleted_only_when_its_lost_zone_is_found() {
    let mut world = served(THREE);
    let lost = there(&world, "a");
    lose(&mut world, "a");
    cut(&mut world, &lost);
    world.order(&Command::DeleteFleet { fleet: web() }).unwrap();
    world.run_for(Duration::from_secs(300));
    assert_eq!(ids(&world), lost, "{}", world.story());
    assert!(held_by(&world, InvariantId::LostZoneIsLeftAlone));
    find(&mut world, "a");
    world.run_until(600, |world| world.fleets.is_empty());
    assert_eq!(world.machines_there(), 0);
}

#[test]
fn a_zone_that_nobody_has_is_refused_with_a_guess() {
    let mut world = served("count = 2\nzones = [\"north\", \"south\"]");
    let reason = "no power".to_owned();
    let order = |zone: &str, reason: &str| Command::LoseZone {
        zone: zone.parse().unwrap(),
        reason: reason.to_owned(),
    };
    let refused = world.order(&order("nort", &reason)).unwrap_err();
    let Refusal::NotNow { why, hint, .. } = refused else {
        panic!("{refused:?}");
    };
    assert!(why.contains("no fleet and no provider"), "{why}");
    assert_eq!(hint, "did you mean north?");
    let refused = world.order(&order("xyz", &reason)).unwrap_err();
    assert!(
        format!("{refused:?}").contains("a, b, c, north, south"),
        "{refused:?}"
    );
    let refused = world.order(&order("north", " ")).unwrap_err();
    assert!(refused.to_string().contains("needs a reason"), "{refused}");
    let refused = world.order(&Command::FindZone {
        zone: zone("north"),
    });
    assert!(refused.is_err());
    // Twice is once, and says by whose word.
    world.order(&order("north", &reason)).unwrap();
    let lines = world.order(&order("north", "again")).unwrap();
    assert!(
        lines[0].contains("already, by the word of ann"),
        "{lines:?}"
    );
    assert_eq!(world.environment.lost_zones[&zone("north")].reason, reason);
}

#[test]
fn a_person_answers_for_repairs_that_are_held_and_that_is_written_down() {
    let text = "count = 6\n[repair]\nrepair_after = \"20s\"\n[repair.meltdown]\nwindow = \"300s\"";
    let mut world = served(text);
    let failing: Vec<InstanceId> = ids(&world)[..3].to_vec();
    for id in &failing {
        world.agent(id).forced = Some(Health::Unhealthy);
    }
    world.run_for(Duration::from_secs(60));
    assert!(
        held_by(&world, InvariantId::MeltdownHolds),
        "{}",
        world.story()
    );
    let resume = |reason: &str| Command::ResumeRepairs {
        fleet: web(),
        reason: reason.to_owned(),
    };
    assert!(world.order(&resume("")).is_err());
    world.order(&resume("the switch is mended")).unwrap();
    assert!(world.tells("ann: fleet web is repaired again"));
    world.run_until(200, |world| {
        failing.iter().all(|id| !ids(world).contains(id))
    });
    assert!(!held_by(&world, InvariantId::MeltdownHolds));
    // The word ends with the window, and the guard holds again.
    world.run_for(Duration::from_secs(300));
    for id in &ids(&world)[..3] {
        world.agent(id).forced = Some(Health::Unhealthy);
    }
    world.run_for(Duration::from_secs(60));
    assert!(
        held_by(&world, InvariantId::MeltdownHolds),
        "{}",
        world.story()
    );
    let marked = world.web().instances.values();
    let marked = marked.filter(|one| one.replace == Some(DeleteBasis::Unhealthy));
    assert_eq!(marked.count(), 0);
}

#[test]
fn a_green_that_fails_in_a_lost_zone_leaves_when_that_is_found_and_is_no_longer_in_flight() {
    let mut world = World::new();
    let rules = ProviderRules {
        zones: vec![zone("a"), zone("b")],
    };
    world.rules.providers.insert("process".to_owned(), rules);
    let text = "count = 2\nzones = [\"a\", \"b\"]\n[replace]\nmax_instance_failures = 3\n\
                healthy_deadline = \"20s\"\n[budget]\nin_flight = 1";
    world
        .behaviour
        .insert("1.0".to_owned(), Behaviour::NeverMade);
    world.apply(text, "1.0");
    world.tick();
    lose(&mut world, "a");
    world.behaviour.remove("1.0");
    world.run_until(60, |world| world.tells("not healthy within"));
    world.run_until(200, |world| world.active("1.0").len() == 2);
    find(&mut world, "a");
    world.run_until(200, |world| world.web().instances.len() == 2);
}

#[test]
fn a_green_that_is_back_from_a_lost_zone_needs_no_other_in_its_place() {
    let mut world = World::new();
    let rules = ProviderRules {
        zones: vec![zone("a"), zone("b")],
    };
    world.rules.providers.insert("process".to_owned(), rules);
    // There is room for those two and no more.
    world.slots = Some(2);
    let text = "count = 2\nzones = [\"a\", \"b\"]\n[replace]\nmin_healthy = \"60s\"\n\
                progress_deadline = \"300s\"";
    world.apply(text, "1.0");
    world.run_to(Phase::Soaking);
    lose(&mut world, "a");
    let there = there(&world, "a");
    cut(&mut world, &there);
    world.run_until(60, |world| world.phase() == Some(Phase::Provisioning));
    world.run_for(Duration::from_secs(5));
    find(&mut world, "a");
    mend(&mut world, &there);
    world.run_until(200, |world| world.phase() == Some(Phase::Done));
    assert_eq!(world.active("1.0").len(), 2);
}

#[test]
fn what_a_failed_first_rollout_left_in_a_lost_zone_leaves_when_that_is_found() {
    let mut world = World::new();
    let rules = ProviderRules {
        zones: vec![zone("a"), zone("b")],
    };
    world.rules.providers.insert("process".to_owned(), rules);
    let text = "count = 2\nzones = [\"a\", \"b\"]\n[replace]\nmin_healthy = \"60s\"\n\
                progress_deadline = \"300s\"";
    world.apply(text, "1.0");
    world.run_to(Phase::Soaking);
    lose(&mut world, "a");
    let there = there(&world, "a");
    cut(&mut world, &there);
    world.run_until(60, |world| world.phase() == Some(Phase::Provisioning));
    world.start("2.0").unwrap();
    world.run_until(200, |world| world.active("2.0").len() == 2);
    find(&mut world, "a");
    mend(&mut world, &there);
    world.run_until(200, |world| !world.web().instances.contains_key(&there[0]));
    let serving = |world: &World| world.active("2.0").len() == 2;
    world.run_until(60, serving);
    assert_eq!(world.web().instances.len(), 2, "{}", world.story());
}

#[test]
fn a_rollout_without_room_gets_that_of_what_is_too_many_since_a_zone_was_found() {
    let mut world = World::new();
    let rules = ProviderRules {
        zones: vec![zone("a"), zone("b")],
    };
    world.rules.providers.insert("process".to_owned(), rules);
    world.slots = Some(3);
    world.apply("count = 2\nzones = [\"a\", \"b\"]\n", "1.0");
    world.run_to(Phase::Done);
    lose(&mut world, "b");
    let there = there(&world, "b");
    cut(&mut world, &there);
    world.run_until(200, |world| {
        world.active("1.0").len() == 2 && world.machines_there() == 3
    });
    world.start("2.0").unwrap();
    world.run_for(Duration::from_secs(10));
    assert!(held_by(&world, InvariantId::NothingMadeWithoutRoom));
    find(&mut world, "b");
    mend(&mut world, &there);
    world.run_until(300, |world| world.phase() == Some(Phase::Done));
    assert_eq!(world.active("2.0").len(), 2, "{}", world.story());
}
