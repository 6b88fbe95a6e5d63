//! What providers do and do not do: refuse, fail to delete, or have two machines of one tag.

use calvin_planner::{
    Action, Command, FaultKind, InvariantId, Life, Next, PlanInput, ProviderFault, plan,
};

use crate::world::{Room, World, ids, served, web};

fn retiring(world: &mut World) -> calvin_model::InstanceId {
    let instance = ids(world)[0].clone();
    let reason = "it is slow".to_owned();
    let order = Command::ReplaceInstance {
        instance: instance.clone(),
        reason,
    };
    world.order(&order).unwrap();
    world.run_until(300, |world| {
        let deletes = world.actions.iter();
        let mut deletes = deletes.filter(|one| matches!(one, Action::DeleteMachine { .. }));
        let retiring = world.web().instances.get(&instance);
        deletes.next().is_some() && retiring.is_some_and(|it| matches!(it.life, Life::Retiring(_)))
    });
    instance
}

#[test]
fn one_of_two_machines_with_one_tag_is_never_deleted_by_guess_and_a_failed_delete_is_shown() {
    let mut world = served("count = 2");
    let id = retiring(&mut world);
    let mut observed = world.observed();
    let seen = observed.instances.get_mut(&id).unwrap();
    let mut others = ids(&world).into_iter().filter(|other| *other != id);
    let other = others.next().unwrap();
    seen.machine = world.observed().instances[&other].machine;
    seen.revoked = true;
    seen.fault = Some(ProviderFault {
        message: "the hypervisor does not answer".to_owned(),
        tries: 4,
        retry_in: std::time::Duration::from_secs(16),
        permanent: false,
        kind: FaultKind::Other,
    });
    for doubled in [false, true] {
        observed.instances.get_mut(&id).unwrap().doubled = doubled;
        let input = PlanInput {
            now: world.now(),
            seed: 1,
            wall_ms: world.ms,
            environment: &world.environment,
            rules: &world.rules,
            fleets: &world.fleets,
            observed: &observed,
        };
        let planned = plan(&input).fleets.remove(&web()).unwrap();
        let deletes = planned.actions.iter();
        let deletes = deletes.filter(|one| matches!(one, Action::DeleteMachine { .. }));
        assert_eq!(deletes.count(), usize::from(!doubled));
        let rule = InvariantId::OneMachinePerIntent.to_string();
        let held = planned.report.blocked.iter().any(|one| one.rule == rule);
        assert_eq!(held, doubled);
        let says = |text: &str| {
            planned
                .report
                .waiting
                .iter()
                .any(|one| one.what.contains(text))
        };
        assert_eq!(says("does not answer (try 4, again in 16 s)"), !doubled);
        if let Next::Change(after) = &planned.next {
            assert!(after.instances.contains_key(&id));
        }
    }
}

#[test]
fn a_used_up_quota_is_shown_as_one_with_its_next_try() {
    let mut world = served("count = 2");
    world.room = Room::Refuses(2);
    world
        .order(&Command::Scale {
            fleet: web(),
            count: 3,
        })
        .unwrap();
    world.tick();
    world.tick();
    let instances = world.report().instances.values();
    let texts: Vec<&String> = instances.map(|one| &one.text).collect();
    let shown = "no room for it: the quota of 2 machines is used up (try 3, again in 20 s)";
    assert!(texts.iter().any(|text| text.contains(shown)), "{texts:?}");
    world.room = Room::Enough;
    world.run_until(60, |world| world.active("1.0").len() == 3);
}
