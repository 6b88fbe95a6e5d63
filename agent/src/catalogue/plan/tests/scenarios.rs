//! One thing after the other, as it happens to an instance.

use calvin_model::Role;

use super::*;

#[test]
fn a_new_instance_is_registered_as_standby_with_everything_critical() {
    let mut world = World::new();
    let plan = world.plan(None);
    assert_eq!(plan.look, Look::Servers, "it may have been lost");
    assert!(plan.operations.is_empty());
    let plan = world.settle();
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Standby, Step::In)
    );
    assert_eq!(world.ids(), [STANDBY]);
    let service = &world.services[STANDBY];
    assert_eq!(service.tags, ["http", "standby"]);
    assert_eq!((service.address.as_str(), service.port), ("10.0.0.9", 80));
    assert_eq!(service.meta["calvin-boot"], "b1");
    assert!(service.enable_tag_override);
    // The page is Consul's to ask for; the command is the agent's to run.
    assert_eq!(world.checks.len(), 2);
    for check in world.checks.values() {
        assert_eq!(check.status, CheckStatus::Critical, "{}", check.id);
    }
}

#[test]
fn only_what_fails_makes_the_agents_check_critical_and_it_says_why() {
    let mut world = World::new();
    world.settle();
    let id = format!("{STANDBY}:agent");
    assert_eq!(world.log.len(), 1, "nothing is known yet, and nothing said");
    world.own.checks = vec![open(0), passing(1)];
    world.settle();
    assert_eq!(world.status(&id), CheckStatus::Passing);
    world.own.checks[1].word = OwnWord::Failing("check disk: full".into());
    world.settle();
    assert_eq!(world.checks[&id].output, "check disk: full");
    assert_eq!(world.status(&id), CheckStatus::Critical);
    world.own.checks[1].word = OwnWord::Open;
    let said = world.log.len();
    world.settle();
    assert_eq!(world.log.len(), said, "silence says nothing");
    world.own.checks[1].word = OwnWord::Passing;
    world.settle();
    assert_eq!(world.status(&id), CheckStatus::Passing);
    let said = world.log.len();
    world.refresh = Refresh::Due;
    for operation in world.plan(None).operations {
        world.apply(operation);
    }
    assert_eq!(world.log.len(), said + 1, "its time goes on");
}

#[test]
fn entering_takes_the_states_along_and_leaves_the_old_name_last() {
    let mut world = World::new();
    world.settle();
    world.healthy();
    world.log.clear();
    let plan = world.tell(CatalogueRole::Entered);
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Entered, Step::In)
    );
    assert_eq!(
        world.log,
        [
            "register web http standby".to_owned(),
            format!("deregister {STANDBY}")
        ]
    );
    for id in [format!("{OWN}:0"), format!("{OWN}:agent")] {
        assert_eq!(world.status(&id), CheckStatus::Passing, "as just read");
    }
}

#[test]
fn the_old_name_stays_until_the_servers_show_the_new_one() {
    let mut world = World::new();
    world.settle();
    world.healthy();
    world.told.role = CatalogueRole::Entered;
    let servers = world.servers.clone();
    for operation in world.plan(Some(&servers)).operations {
        world.apply(operation);
    }
    // They have not heard of it yet.
    let plan = world.plan(Some(&servers));
    assert_eq!((plan.step, plan.operations.len()), (Step::Out, 0));
    assert_eq!(plan.missing.as_deref(), Some(OWN));
    assert_eq!(world.ids().len(), 2);
    world.settle();
    assert_eq!(world.ids(), [OWN]);
}

#[test]
fn the_switch_is_the_coordinators_and_the_client_takes_its_tags_over() {
    let mut world = World::entered();
    assert_eq!(world.plan(None).look, Look::Enough, "nothing to ask");
    world.switch(CatalogueRole::Active);
    let plan = world.tell(CatalogueRole::Active);
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Active, Step::In)
    );
    assert_eq!(world.log, ["register web http active route-/"]);
    assert_eq!(world.plan(None).look, Look::Enough);
}

#[test]
fn told_active_before_the_catalogue_says_so_changes_no_tag() {
    let mut world = World::entered();
    let plan = world.tell(CatalogueRole::Active);
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Entered, Step::Out)
    );
    assert!(world.log.is_empty(), "{:?}", world.log);
    // Not even where it was never entered.
    let mut world = World::new();
    world.settle();
    let plan = world.tell(CatalogueRole::Active);
    assert_eq!(plan.registered, CatalogueRole::Entered);
    assert_eq!(world.services[OWN].tags, ["http", "standby"]);
}

#[test]
fn an_active_one_goes_back_under_the_name_of_standbys() {
    let mut world = World::active();
    world.switch(CatalogueRole::Entered);
    let plan = world.tell(CatalogueRole::Standby);
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Standby, Step::In)
    );
    assert_eq!(world.ids(), [STANDBY]);
    assert_eq!(world.status(&format!("{STANDBY}:0")), CheckStatus::Passing);
}

#[test]
fn a_client_that_lost_everything_gets_back_what_the_servers_show() {
    let mut world = World::active();
    (world.services, world.checks) = (Services::new(), BTreeMap::new());
    let plan = world.settle();
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Active, Step::In)
    );
    assert_eq!(world.log, ["register web http active route-/"]);
    let page = world.status(&format!("{OWN}:0"));
    assert_eq!(page, CheckStatus::Passing, "the agent has seen it itself");
}

#[test]
fn where_nothing_can_be_read_the_last_role_holds_and_exclusive_is_never_active() {
    for (exclusive, registered) in [
        (false, CatalogueRole::Active),
        (true, CatalogueRole::Entered),
    ] {
        let mut world = World::active();
        world.told.exclusive = exclusive;
        (world.services, world.checks) = (Services::new(), BTreeMap::new());
        world.servers = Services::new();
        let plan = world.settle();
        assert_eq!(plan.registered, registered);
        assert_eq!(world.ids(), [OWN]);
    }
}

#[test]
fn servers_that_do_not_answer_are_waited_for_and_the_agents_word_is_said_all_the_same() {
    let mut world = World::new();
    world.settle();
    world.healthy();
    world.told.role = CatalogueRole::Entered;
    world.own.workload = OwnWord::Failing("it ended".into());
    let plan = world.plan(None);
    assert_eq!(
        (plan.look, plan.registered),
        (Look::Servers, CatalogueRole::Standby)
    );
    assert!(matches!(
        plan.operations.as_slice(),
        [Operation::Say {
            status: CheckStatus::Critical,
            ..
        }]
    ));
}

/// What is said of the agent's checks in a plan.
fn said(plan: &Plan) -> Vec<(&str, CheckStatus)> {
    plan.operations
        .iter()
        .filter_map(|operation| match operation {
            Operation::Say { check, status, .. } => Some((check.as_str(), *status)),
            Operation::Register(_) | Operation::Deregister { .. } => None,
        })
        .collect()
}

#[test]
fn a_failure_is_said_while_a_registration_waits_for_its_renewal() {
    let mut world = World::active();
    world.renew = Renew::Everything;
    world.own.workload = OwnWord::Failing("it ended".into());
    let agents = format!("{OWN}:agent");
    let critical = [(agents.as_str(), CheckStatus::Critical)];
    // The servers do not answer; or they do, and the client may refuse what is registered.
    assert_eq!(said(&world.plan(None)), critical);
    let seen = world.plan(Some(&world.servers));
    assert!(matches!(seen.operations[0], Operation::Register(_)));
    assert_eq!(said(&seen), critical);
    // Also where one of its checks is not there, and cannot be.
    world.renew = Renew::Nothing;
    world.checks.remove(&format!("{OWN}:0"));
    assert_eq!(said(&world.plan(None)), critical);
    assert_eq!(said(&world.plan(Some(&world.servers))), critical);
}

#[test]
fn a_failure_is_said_under_the_old_name_until_the_new_one_is_there() {
    let mut world = World::new();
    world.settle();
    world.healthy();
    world.told.role = CatalogueRole::Entered;
    world.own.workload = OwnWord::Failing("it ended".into());
    let (old, new) = (format!("{STANDBY}:agent"), format!("{OWN}:agent"));
    let servers = world.servers.clone();
    let seen = world.plan(Some(&servers));
    assert_eq!(said(&seen), [(old.as_str(), CheckStatus::Critical)]);
    let Operation::Register(service) = &seen.operations[0] else {
        panic!("{seen:?}");
    };
    world.register(service);
    // The client has it, and the servers do not show it.
    let both = [&new, &old].map(|check| (check.as_str(), CheckStatus::Critical));
    assert_eq!(said(&world.plan(Some(&servers))), both);
    world.settle();
    assert_eq!(world.ids(), [OWN]);
}

#[test]
fn the_word_of_an_earlier_boot_is_taken_back_before_any_server_answers() {
    for (told, exclusive) in [
        (CatalogueRole::Active, false),
        (CatalogueRole::Active, true),
        (CatalogueRole::Standby, false),
    ] {
        let mut world = World::active();
        world.boot = "b2".parse().unwrap();
        world.before = Before::Never;
        world.renew = Renew::Everything;
        (world.told.role, world.told.exclusive) = (told, exclusive);
        let blind = world.plan(None);
        let agents = format!("{OWN}:agent");
        assert_eq!(said(&blind), [(agents.as_str(), CheckStatus::Critical)]);
        for operation in blind.operations {
            world.apply(operation);
        }
        assert!(world.checks[&agents].output.contains("started again"));
        assert!(world.plan(None).operations.is_empty(), "said once");
        world.switch(CatalogueRole::Entered);
        world.settle();
        let name = if told == CatalogueRole::Active {
            OWN
        } else {
            STANDBY
        };
        let now = world.status(&format!("{name}:agent"));
        assert_eq!(now, CheckStatus::Passing, "of this boot");
    }
}

#[test]
fn an_exclusive_one_brings_no_tags_of_the_active_back_with_good_news() {
    let agents = format!("{OWN}:agent");
    let says_passing = |plan: &Plan| {
        let mut operations = plan.operations.iter();
        operations.any(|operation| {
            matches!(
                operation,
                Operation::Say {
                    status: CheckStatus::Passing,
                    ..
                }
            )
        })
    };
    let mut world = World::active();
    world.told.exclusive = true;
    world.own.role = Some(Role::Active);
    // It stood still, its work was ended, and the coordinator gave the tags to another.
    world.own.workload = OwnWord::Failing("it ended".into());
    world.settle();
    assert_eq!(world.status(&agents), CheckStatus::Critical);
    let others = registered::tags(&world.manifest.services[0], CatalogueRole::Entered);
    world.servers.get_mut(OWN).unwrap().tags = others.clone();
    for role in [Role::Active, Role::Standby] {
        world.own.role = Some(role);
        world.own.workload = OwnWord::Passing;
        let blind = world.plan(None);
        assert_eq!((blind.look, says_passing(&blind)), (Look::Servers, false));
        assert!(blind.is_due(), "the good news wait for nothing else");
        // It gets the tags of the servers, and the good news are for the round after that.
        let seen = world.plan(Some(&world.servers));
        let is_alone = matches!(seen.operations.as_slice(), [Operation::Register(_)]);
        assert!(is_alone, "{seen:?}");
    }
    world.settle();
    assert_eq!(world.services[OWN].tags, others);
    assert_eq!(world.status(&agents), CheckStatus::Passing);

    // Who stands by and still has the tags says nothing good until they are gone.
    let mut world = World::active();
    world.told.exclusive = true;
    world.own.role = Some(Role::Standby);
    world.own.workload = OwnWord::Failing("it ended".into());
    world.settle();
    world.own.workload = OwnWord::Passing;
    assert!(!says_passing(&world.plan(Some(&world.servers))));
    world.own.role = Some(Role::Active);
    assert!(says_passing(&world.plan(Some(&world.servers))));
}

#[test]
fn in_a_new_boot_everything_is_critical_and_the_role_tags_stay() {
    let mut world = World::active();
    world.boot = "b2".parse().unwrap();
    world.before = Before::Never;
    world.own.checks = vec![passing(0), open(1)];
    let plan = world.settle();
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Active, Step::In)
    );
    assert_eq!(
        world.log,
        [
            format!("deregister {OWN}"),
            "register web http active route-/".to_owned()
        ]
    );
    for check in world.checks.values() {
        assert_eq!(check.status, CheckStatus::Critical, "{}", check.id);
    }
}

#[test]
fn with_another_token_everything_is_registered_again_as_it_is() {
    let mut world = World::active();
    let (services, checks) = (world.services.clone(), world.checks.clone());
    world.renew = Renew::Everything;
    assert_eq!(world.plan(None).look, Look::Servers);
    let plan = world.settle();
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Active, Step::In)
    );
    assert_eq!(world.log, ["register web http active route-/"]);
    assert_eq!((world.services, world.checks), (services, checks));
}

#[test]
fn whoever_is_absent_or_leaves_is_deregistered() {
    for leaving in [Presence::AsTold, Presence::Leaving] {
        let mut world = World::active();
        world.own.presence = leaving;
        if leaving == Presence::AsTold {
            world.told.role = CatalogueRole::Absent;
        }
        let before = world.plan(None);
        assert_eq!(
            (before.registered, before.step),
            (CatalogueRole::Active, Step::Out)
        );
        let plan = world.settle();
        assert_eq!(
            (plan.registered, plan.step),
            (CatalogueRole::Absent, Step::In)
        );
        assert!(world.ids().is_empty() && world.checks.is_empty());
    }
}

#[test]
fn a_check_that_begins_to_count_with_a_role_is_registered_once_it_has_run() {
    let mut world = World::active();
    let id = format!("{OWN}:2");
    world.own.checks.push(open(2));
    world.settle();
    assert!(
        !world.checks.contains_key(&id),
        "it would take the active one out"
    );
    world.own.checks[2].word = OwnWord::Passing;
    world.settle();
    assert_eq!(world.status(&id), CheckStatus::Passing);
    assert_eq!(world.services[OWN].tags, ["http", "active", "route-/"]);
    world.own.checks.pop();
    world.settle();
    assert!(
        !world.checks.contains_key(&id),
        "it does not count any more"
    );
}

#[test]
fn what_others_have_registered_at_the_client_is_theirs() {
    let mut world = World::new();
    let other = CatalogService {
        id: "web:somebody".into(),
        service: "web".into(),
        ..CatalogService::default()
    };
    world.services.insert(other.id.clone(), other);
    world.tell(CatalogueRole::Entered);
    world.tell(CatalogueRole::Absent);
    assert_eq!(world.ids(), ["web:somebody"]);
}

#[test]
fn one_that_is_found_without_a_tag_anyhow_keeps_its_name() {
    let image = IMAGE.replace("tags_active", "untagged = \"all\"\ntags_active");
    let mut world = World::of(&image);
    let plan = world.settle();
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Standby, Step::In)
    );
    let plan = world.tell(CatalogueRole::Entered);
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Entered, Step::In)
    );
    assert_eq!(world.log.len(), 1, "{:?}", world.log);
    world.switch(CatalogueRole::Active);
    world.tell(CatalogueRole::Active);
    world.switch(CatalogueRole::Standby);
    let plan = world.tell(CatalogueRole::Standby);
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Standby, Step::In)
    );
    assert_eq!(world.ids(), [OWN]);
}
