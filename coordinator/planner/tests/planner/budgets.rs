//! Budgets: how many machines are in flight, and how many are deleted within a time.

use std::time::Duration;

use calvin_planner::{Command, Life, Phase, Purpose};

use crate::world::{Behaviour, World, web};

const SHORT: &str = "min_healthy = \"3s\"\nhealthy_deadline = \"20s\"\nprogress_deadline = \"40s\"\n\
                     settle = \"2s\"\nsettle_max = \"8s\"\nbake = \"5s\"\n";

fn served(count: u32, rest: &str) -> World {
    let mut world = World::new();
    world.apply(&format!("count = {count}\n[replace]\n{SHORT}{rest}"), "1.0");
    world.run_to(Phase::Done);
    world.in_flight = 0;
    world
}

#[test]
fn a_wave_is_made_as_fast_as_the_budget_allows_and_each_green_has_its_whole_time() {
    let mut world = served(10, "[budget]\nin_flight = 2");
    // Each takes nearly all of its deadline, and all together far more.
    world.boot_delay_ms = 15_000;
    world.start("2.0").unwrap();
    world.tick();
    assert_eq!(world.web().rollout.as_ref().unwrap().sets.size(), 10);
    assert!(world.says(
        "web",
        "8 more to be made: the fleet's budget in_flight is 2"
    ));
    let begin = world.ms;
    world.run_to(Phase::Soaking);
    let took = Duration::from_millis(world.ms - begin);
    assert_eq!(world.in_flight, 2);
    // Five times two: as one has reported, another starts.
    assert!(took <= Duration::from_secs(5 * 15 + 5), "{took:?}");
    world.run_to(Phase::Done);
}

#[test]
fn the_environments_budget_holds_over_all_fleets_and_is_shared_in_turns() {
    let mut world = World::new();
    world.rules.budget.in_flight = Some(2);
    let text = format!("count = 6\n[replace]\n{SHORT}");
    world.apply_as("a", &text, "1.0").unwrap();
    world.apply_as("b", &text, "1.0").unwrap();
    let made = |world: &World, name: &str| world.fleet(name).instances.len();
    for _ in 0..20 {
        world.tick();
        let (a, b) = (made(&world, "a"), made(&world, "b"));
        assert!(a.abs_diff(b) <= 2, "{a} and {b}");
    }
    world.run_until(200, |world| world.rests("a") && world.rests("b"));
    assert_eq!(world.in_flight, 2);
}

#[test]
fn waiting_for_the_budget_is_no_lack_of_progress() {
    let mut world = World::new();
    world.rules.budget.in_flight = Some(1);
    let slow = format!(
        "count = 1\n[replace]\n{}",
        SHORT.replace("20s", "200s").replace("40s", "300s")
    );
    world.boot_delay_ms = 150_000;
    world.apply_as("a", &slow, "1.0").unwrap();
    world.tick();
    world
        .apply_as("b", &format!("count = 2\n[replace]\n{SHORT}"), "1.0")
        .unwrap();
    world.run_for(Duration::from_secs(100));
    let b = world.fleet("b").rollout.clone().unwrap();
    assert_eq!(
        (b.phase, b.sets.to_make),
        (Phase::Provisioning, 2),
        "{}",
        world.story()
    );
    world.boot_delay_ms = 2_000;
    world.run_until(200, |world| world.rests("a") && world.rests("b"));
}

#[test]
fn deletions_within_a_time_are_no_more_than_allowed() {
    let mut world = served(6, "[budget]\ndeletions = 2\nwindow = \"60s\"");
    world.start("2.0").unwrap();
    world.run_to(Phase::Retiring);
    let mut gone = Vec::new();
    let begin = world.ms;
    world.run_until(400, |world| {
        gone.push((world.ms - begin, world.web().instances.len()));
        world.phase() == Some(Phase::Done)
    });
    let left_at = |seconds: u64| {
        let at = gone.iter().take_while(|(ms, _)| *ms <= seconds * 1000);
        at.last().unwrap().1
    };
    assert_eq!(left_at(50), 10, "{}", world.story());
    assert_eq!(left_at(110), 8, "{}", world.story());
    assert!(world.tells("nothing of"));
    assert!(
        world.web().deletions.len() <= 2,
        "{:?}",
        world.web().deletions
    );
}

#[test]
fn a_smaller_count_lets_go_only_what_may_be_deleted() {
    let mut world = served(6, "[budget]\ndeletions = 2\nwindow = \"60s\"");
    let fleet = web();
    world.order(&Command::Scale { fleet, count: 1 }).unwrap();
    world.run_for(Duration::from_secs(40));
    // The others serve on rather than wait drained.
    assert_eq!(world.report().serving, 4, "{}", world.story());
    assert!(
        world.says(
            "web",
            "to be removed: the fleet's budget is 2 deletions in 1m"
        ),
        "{}",
        world.story()
    );
    world.run_until(300, |world| world.rests("web"));
}

#[test]
fn an_order_to_delete_a_fleet_is_not_held_and_counts() {
    let mut world = World::new();
    world.rules.budget.deletions = Some(2);
    let text = format!("count = 3\n[replace]\n{SHORT}");
    world.apply_as("a", &text, "1.0").unwrap();
    world.apply_as("b", &text, "1.0").unwrap();
    world.run_until(100, |world| world.rests("a") && world.rests("b"));
    let fleet: calvin_model::FleetName = "a".parse().unwrap();
    world
        .order(&Command::DeleteFleet {
            fleet: fleet.clone(),
        })
        .unwrap();
    world.run_until(100, |world| {
        let a = world.fleets.get(&fleet);
        a.is_none_or(|a| !a.deletions.is_empty())
    });
    let fleet = "b".parse().unwrap();
    world.order(&Command::Scale { fleet, count: 1 }).unwrap();
    world.tick();
    assert!(
        world.says("b", "the environment's budget is 2 deletions in 10m"),
        "{}",
        world.story()
    );
    assert_eq!(world.fleet("b").instances.len(), 3);
}

#[test]
fn a_way_back_is_not_held_by_the_budget_of_deletions() {
    let mut world = served(4, "[budget]\ndeletions = 1\nwindow = \"1h\"");
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    let reason = "no".to_owned();
    let fleet = web();
    world.order(&Command::Rollback { fleet, reason }).unwrap();
    world.run_until(100, |world| world.phase() == Some(Phase::RolledBack));
    assert_eq!(
        world
            .web()
            .deleted_within(world.now(), Duration::from_secs(3_600)),
        4
    );
}

#[test]
fn a_large_wave_takes_no_longer_than_its_provider_needs() {
    let slow = SHORT.replace("20s", "100s").replace("40s", "120s");
    let mut world = World::new();
    let text = format!("count = 50\n[replace]\n{slow}[budget]\nin_flight = 5");
    world.apply(&text, "1.0");
    world.run_to(Phase::Done);
    world.boot_delay_ms = 60_000;
    world.start("2.0").unwrap();
    let begin = world.ms;
    world.run_to(Phase::Soaking);
    let took = Duration::from_millis(world.ms - begin);
    // Ten times five, 60 s each: as one reports another starts, so 5 % is more than enough.
    let bound = Duration::from_secs(10 * 60);
    assert!(took <= bound.mul_f64(1.05), "{took:?}");
}

#[test]
fn what_is_still_being_made_is_removed_within_the_budget_of_deletions_too() {
    let mut world = served(3, "[budget]\ndeletions = 1\nwindow = \"300s\"");
    let fleet = web();
    world.order(&Command::Scale { fleet, count: 2 }).unwrap();
    world.run_until(60, |world| world.web().instances.len() == 2);
    world.start("2.0").unwrap();
    world.tick();
    // A blue is lost, and the one in its place is never made.
    let behaviour = Behaviour::NeverMade;
    world.behaviour.insert("1.0".to_owned(), behaviour);
    let blue = world.active("1.0")[0].clone();
    world.kill_machine(&blue);
    world.run_to(Phase::Draining);
    let making = |world: &World| {
        let instances = world.web().instances.values();
        instances
            .filter(|one| one.purpose == Purpose::Repair(blue.clone()))
            .map(|one| one.life.clone())
            .next()
    };
    let life = making(&world).unwrap();
    assert!(matches!(life, Life::Draining(_)), "{life}");
    world.run_for(Duration::from_secs(100));
    assert!(making(&world).is_some(), "{}", world.story());
    assert!(world.says("web", "the fleet's budget is 1 deletions in 5m"));
    world.run_until(900, |world| world.phase() == Some(Phase::Done));
}

#[test]
fn what_waits_for_a_budget_is_counted_where_it_waits() {
    let mut world = served(3, "[budget]\nin_flight = 1");
    world.slots = Some(5);
    let lost = world.active("1.0")[0].clone();
    world.kill_machine(&lost);
    world.run_for(Duration::from_secs(3));
    world.start("2.0").unwrap();
    world.tick();
    assert!(world.web().owed.contains_key(&lost), "{}", world.story());
    let said = "2 more to be made: the fleet's budget in_flight is 1";
    assert!(world.says("web", said), "{}", world.story());
    assert!(
        world.says("web", "1 more are not made: provider process has 0 free"),
        "{}",
        world.story()
    );
}
