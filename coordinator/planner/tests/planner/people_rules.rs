//! The rules about persons see plans that break them.

use calvin_model::{DrainReason, InstanceId};
use calvin_planner::{
    Action, Approval, Command, DeleteBasis, FreezeScope, InvariantId, Life, Phase, Purpose, Refusal,
};

use crate::{
    people::{pause, served},
    rules::{broken_by, edit, told},
    world::{World, web},
};

fn at(text: &str, phase: Phase) -> World {
    let mut world = served(text);
    world.start("2.0").unwrap();
    world.run_to(phase);
    world
}

fn freeze(world: &mut World, scope: FreezeScope) {
    let order = Command::Freeze {
        fleet: None,
        scope,
        until_wall_ms: Some(world.ms + 1_000_000),
        reason: "the sale".to_owned(),
    };
    world.order(&order).unwrap();
}

#[test]
fn a_plan_that_switches_or_retires_without_enough_approvals_breaks_its_rule() {
    let text = "count = 1\n[replace]\napprove = [\"switch\", \"retire\"]\napprovals = 2";
    let mut world = at(text, Phase::AwaitingSwitch);
    let rule = InvariantId::ApprovedByEnough;
    let switch = |state: &mut calvin_planner::FleetState, _: &mut calvin_planner::FleetPlan| {
        state.rollout.as_mut().unwrap().phase = Phase::Switching;
    };
    assert_eq!(broken_by(&world, switch), [rule]);
    let approval = |by: &str, gate| Approval {
        gate,
        by: by.to_owned(),
        reason: String::new(),
        wall_ms: 0,
    };
    let approvals = |by: [&str; 2], gate| by.map(|by| approval(by, gate)).to_vec();
    let state = world.fleets.get_mut(&web()).unwrap();
    let gate = calvin_model::fleet::Gate::Switch;
    state.rollout.as_mut().unwrap().approvals = approvals(["bob", "bob"], gate);
    assert_eq!(broken_by(&world, switch), [rule], "one person twice");
    let state = world.fleets.get_mut(&web()).unwrap();
    state.rollout.as_mut().unwrap().approvals = approvals(["bob", "cid"], gate);
    assert_eq!(broken_by(&world, switch), []);
    world.run_to(Phase::AwaitingRetire);
    let found = broken_by(&world, |state, _| {
        let blue = state.rollout.as_ref().unwrap().sets.blue[0].clone();
        let blue = state.instances.get_mut(&blue).unwrap();
        blue.life = Life::Draining(DrainReason::Replaced);
    });
    assert_eq!(found, [rule]);
}

#[test]
fn a_plan_that_moves_or_makes_for_a_paused_rollout_breaks_its_rule() {
    let mut world = at("count = 1", Phase::Soaking);
    world.order(&pause()).unwrap();
    let rule = InvariantId::PausedGoesNoFurther;
    let found = broken_by(&world, |state, _| {
        state.rollout.as_mut().unwrap().phase = Phase::Switching;
    });
    assert_eq!(found, [rule]);
    let found = broken_by(&world, |state, _| {
        state.rollout.as_mut().unwrap().paused = None;
    });
    assert_eq!(found, [rule], "nobody resumed it");
    let found = broken_by(&world, |state, _| {
        let rollout = state.rollout.as_ref().unwrap();
        let (id, green) = (rollout.id.clone(), rollout.sets.green[0].clone());
        let mut more = state.instances[&green].clone();
        more.purpose = Purpose::Rollout(id);
        state.instances.insert(InstanceId::new(&web(), 1), more);
    });
    assert!(found.contains(&rule), "{found:?}");
    let found = broken_by(&world, |state, _| {
        state.rollout.as_mut().unwrap().phase = Phase::RollingBack;
    });
    assert_eq!(found, [], "going back is no going on");
}

#[test]
fn a_plan_that_starts_or_switches_what_is_frozen_breaks_its_rule() {
    let mut world = at("count = 1", Phase::Soaking);
    freeze(&mut world, FreezeScope::New);
    let rule = InvariantId::FrozenStartsNothing;
    let found = broken_by(&world, |state, _| {
        state.rollout.as_mut().unwrap().phase = Phase::Switching;
    });
    assert_eq!(found, [rule]);
    let found = broken_by(&world, |state, _| {
        let rollout = state.rollout.as_mut().unwrap();
        rollout.wave += 1;
    });
    assert_eq!(found, [rule], "the next wave");
    world.environment.freeze = None;
    let state = world.fleets.get_mut(&web()).unwrap();
    state.spec.replace.windows = vec!["mon 01:00-02:00 UTC".parse().unwrap()];
    let found = broken_by(&world, |state, _| {
        state.rollout.as_mut().unwrap().phase = Phase::Switching;
    });
    assert_eq!(found, [InvariantId::ClosedWindowStartsNothing]);
}

#[test]
fn a_plan_that_makes_or_removes_while_all_is_frozen_breaks_its_rule() {
    let mut world = served("count = 2");
    freeze(&mut world, FreezeScope::All);
    let rule = InvariantId::FrozenStartsNothing;
    let found = broken_by(&world, |state, _| {
        let one = state.instances.values().next().unwrap().clone();
        state.instances.insert(InstanceId::new(&web(), 1), one);
    });
    assert!(found.contains(&rule), "{found:?}");
    let found = broken_by(&world, |state, plan| {
        let instance = state.instances.keys().next().unwrap().clone();
        plan.actions.push(Action::RevokeIdentity { instance });
    });
    assert_eq!(found, [rule]);
}

#[test]
fn a_plan_that_touches_what_is_protected_breaks_its_rule() {
    let mut world = served("count = 2");
    let kept = world.web().instances.keys().next().unwrap().clone();
    let order = Command::Protect {
        instance: kept,
        reason: "it is looked at".to_owned(),
    };
    world.order(&order).unwrap();
    let rule = InvariantId::ProtectedNeverTouched;
    let found = broken_by(&world, |state, _| {
        edit(state, |one| one.replace = Some(DeleteBasis::Ordered));
    });
    assert_eq!(found, [rule]);
    let found = broken_by(&world, |state, plan| {
        let instance = state.instances.keys().next().unwrap().clone();
        plan.actions.push(Action::RevokeIdentity { instance });
    });
    assert_eq!(found, [rule]);
}

#[test]
fn a_plan_that_makes_from_a_vetoed_image_breaks_its_rule() {
    let mut world = served("count = 1");
    let order = Command::Veto {
        image: "web@1.0".parse().unwrap(),
        reason: "it leaks".to_owned(),
    };
    world.order(&order).unwrap();
    let found = broken_by(&world, |state, _| {
        let one = state.instances.values().next().unwrap().clone();
        state.instances.insert(InstanceId::new(&web(), 1), one);
    });
    assert!(found.contains(&InvariantId::VetoedIsNeverMade), "{found:?}");
}

#[test]
fn a_plan_that_changes_something_and_tells_nothing_breaks_its_rule() {
    let world = at("count = 1", Phase::Soaking);
    let rule = InvariantId::HistoryTellsEveryChange;
    let found = broken_by(&world, |state, plan| {
        plan.events.clear();
        state.rollout.as_mut().unwrap().phase = Phase::Switching;
    });
    assert_eq!(found, [rule]);
    let found = broken_by(&world, |state, plan| {
        plan.events.clear();
        edit(state, |one| {
            one.wanted.generation = one.wanted.generation.next()
        });
        let green = state.rollout.as_ref().unwrap().sets.green[0].clone();
        state.instances.get_mut(&green).unwrap().life = Life::Making;
    });
    assert_eq!(found, [rule]);
    let found = broken_by(&world, |state, plan| {
        plan.events = vec![told()];
        state.rollout.as_mut().unwrap().phase = Phase::Switching;
    });
    assert_eq!(found, []);
}

#[test]
fn a_refusal_names_the_rule_that_it_protects() {
    let mut world = served("count = 1\n[replace]\napprove = [\"switch\"]\napprovals = 2");
    let rule = |refused: Result<Vec<String>, Refusal>| refused.unwrap_err().rule();
    let instance = world.active("1.0")[0].clone();
    let protect = Command::Protect {
        instance: instance.clone(),
        reason: "look".to_owned(),
    };
    world.order(&protect).unwrap();
    let replace = Command::ReplaceInstance {
        instance: instance.clone(),
        reason: "odd".to_owned(),
    };
    let protected = Some(InvariantId::ProtectedNeverTouched);
    assert_eq!(rule(world.order(&replace)), protected);
    let delete = Command::DeleteFleet { fleet: web() };
    assert_eq!(rule(world.order(&delete)), protected);
    assert_eq!(rule(world.start("2.0")), protected);
    world.order(&Command::Unprotect { instance }).unwrap();
    let image: calvin_model::image::ImageTag = "web@2.0".parse().unwrap();
    let veto = Command::Veto {
        image: image.clone(),
        reason: "bad".to_owned(),
    };
    world.order(&veto).unwrap();
    let vetoed = Some(InvariantId::VetoedIsNeverMade);
    assert_eq!(rule(world.start("2.0")), vetoed);
    world.order(&Command::Unveto { image }).unwrap();
    world.start("2.0").unwrap();
    let approve = Command::Approve {
        fleet: web(),
        gate: None,
        reason: "fine".to_owned(),
    };
    let approved = Some(InvariantId::ApprovedByEnough);
    assert_eq!(rule(world.order(&approve)), approved, "nothing to see yet");
    world.run_to(Phase::AwaitingSwitch);
    world.order(&approve).unwrap();
    assert_eq!(rule(world.order(&approve)), approved, "one person twice");
    freeze(&mut world, FreezeScope::New);
    assert_eq!(
        rule(world.order(&delete)),
        Some(InvariantId::FrozenStartsNothing)
    );
    let fleet = "nobody".parse().unwrap();
    let order = Command::Pause {
        fleet,
        reason: "why".to_owned(),
    };
    assert_eq!(rule(world.order(&order)), None);
}
