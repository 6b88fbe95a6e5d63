//! Whatever happens, in any order.

use proptest::prelude::*;

use super::*;

fn role() -> impl Strategy<Value = CatalogueRole> {
    prop_oneof![
        Just(CatalogueRole::Absent),
        Just(CatalogueRole::Standby),
        Just(CatalogueRole::Entered),
        Just(CatalogueRole::Active),
    ]
}

/// What can happen to a world.
#[derive(Debug, Clone)]
enum Event {
    Tell(CatalogueRole),
    Switch(CatalogueRole),
    ClientLost,
    ServersLost,
    Boot,
    Healthy,
    Fails,
    Knows(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => role().prop_map(Event::Tell),
        2 => prop_oneof![Just(CatalogueRole::Entered), Just(CatalogueRole::Active)]
            .prop_map(Event::Switch),
        1 => Just(Event::ClientLost),
        1 => Just(Event::ServersLost),
        1 => Just(Event::Boot),
        1 => Just(Event::Healthy),
        1 => Just(Event::Fails),
        1 => (0..3_usize).prop_map(Event::Knows),
    ]
}

fn happens(world: &mut World, event: Event, boots: &mut u32) {
    match event {
        Event::Tell(role) => world.told.role = role,
        Event::Switch(role) => {
            if world.servers.contains_key(OWN) {
                world.switch(role);
            }
        }
        Event::ClientLost => (world.services, world.checks) = Default::default(),
        Event::ServersLost => world.servers = Services::new(),
        Event::Boot => {
            *boots += 1;
            world.boot = format!("b{boots}").parse().unwrap();
            world.before = Before::Never;
        }
        Event::Healthy => world.healthy(),
        Event::Fails => world.own.workload = OwnWord::Failing("it ended".into()),
        Event::Knows(count) => {
            world.own.checks = [passing(0), open(1), passing(2)][..count].to_vec();
        }
    }
    // A client brings to its servers what they have lost.
    for (id, service) in &world.services {
        let known = world.servers.entry(id.clone());
        known.or_insert_with(|| service.clone());
    }
}

/// What is bad is said of whatever is registered, and stays so, whatever else the plan holds: anything
/// before it may fail.
fn says_what_is_bad(world: &World, plan: &Plan) -> Result<(), TestCaseError> {
    if world.own.role(world.told.role) == CatalogueRole::Absent {
        return Ok(());
    }
    for (id, found) in &world.services {
        let agents = registered::agent_check_id(id);
        let fails = matches!(world.own.word(&world.manifest), OwnWord::Failing(_));
        if world.status(&agents) == CheckStatus::Critical || (is_of(found, &world.boot) && !fails) {
            continue;
        }
        let is_seen_to = plan.operations.iter().any(|operation| match operation {
            Operation::Say { check, status, .. } => {
                *check == agents && *status == CheckStatus::Critical
            }
            Operation::Deregister { id: gone } => gone == id,
            Operation::Register(_) => false,
        });
        prop_assert!(is_seen_to, "{id}: {plan:?}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn whatever_else_is_to_be_done_what_is_bad_is_said(
        renews in any::<bool>(),
        events in prop::collection::vec(event(), 1..25),
    ) {
        let mut world = World::new();
        let mut boots = 1;
        for event in events {
            happens(&mut world, event, &mut boots);
            if renews {
                world.renew = Renew::Everything;
            }
            says_what_is_bad(&world, &world.plan(None))?;
            says_what_is_bad(&world, &world.plan(Some(&Services::new())))?;
            let seen = world.plan(Some(&world.servers));
            says_what_is_bad(&world, &seen)?;
            // Some of it is done, and the next thing happens.
            for operation in seen.operations.into_iter().take(1) {
                world.apply(operation);
            }
        }
    }

    #[test]
    fn whatever_happens_it_settles_and_never_changes_the_role_tags_of_the_catalogue(
        exclusive in any::<bool>(),
        events in prop::collection::vec(event(), 1..25),
    ) {
        let mut world = World::new();
        world.told.exclusive = exclusive;
        let mut boots = 1;
        for event in events {
            happens(&mut world, event, &mut boots);
            let shown = world.servers.get(OWN).map(|service| service.tags.clone());
            let plan = world.settle();
            let told = world.told.role;
            if let (Some(before), Some(after)) = (shown, world.servers.get(OWN)) {
                prop_assert_eq!(&before, &after.tags, "{:?}", world.log);
            }
            let names = match told {
                CatalogueRole::Absent => vec![],
                CatalogueRole::Standby => vec![STANDBY],
                CatalogueRole::Entered | CatalogueRole::Active => vec![OWN],
            };
            prop_assert_eq!(world.ids(), names);
            for service in world.services.values() {
                prop_assert!(is_of(service, &world.boot));
            }
            if plan.step == Step::In {
                prop_assert_eq!(plan.registered, told);
            } else {
                // Only the coordinator's own word about the tags is missing.
                prop_assert!(told >= CatalogueRole::Entered);
                prop_assert!(plan.registered != told);
            }
        }
    }

    #[test]
    fn a_registered_instance_is_under_one_of_its_names_at_every_step(
        from in role(), to in role(), switched in any::<bool>(),
    ) {
        let mut world = World::new();
        world.settle();
        world.healthy();
        world.tell(from);
        if switched && world.servers.contains_key(OWN) {
            world.switch(CatalogueRole::Active);
        }
        world.told.role = to;
        let there = |world: &World| !world.services.is_empty();
        let was = there(&world);
        for _ in 0..6 {
            let servers = world.servers.clone();
            for operation in world.plan(Some(&servers)).operations {
                world.apply(operation);
                if was && to != CatalogueRole::Absent {
                    prop_assert!(there(&world), "{:?}", world.log);
                }
            }
        }
    }
}
