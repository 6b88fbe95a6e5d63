//! Who becomes active in an exclusive fleet holds its lock.

use super::*;

fn check() -> Op {
    Op::CheckSession {
        key: "calvin/prod/locks/web".parse().unwrap(),
        session: "11111111-2222-4333-8444-555555555555".parse().unwrap(),
    }
}

fn lacks() -> Needs {
    Needs::Lacks("web-z to take the lock".to_owned())
}

#[test]
fn the_tags_change_only_while_green_holds_the_lock() {
    let web = services("");
    let blue = [passing(&web[0], "web-a", Active)];
    let green = [passing(&web[0], "web-z", Entered)];
    let of = |needs| {
        let mut one = member(&web, Active, &green);
        one.needs = needs;
        let mut other = member(&web, Standby, &blue);
        other.needs = lacks();
        decide(&fleet(vec![("web-a", other), ("web-z", one)]))
    };
    let waits = of(lacks());
    assert_eq!((&waits.changes[..], &waits.lock), (&[][..], &None));
    assert_eq!(waits.waits.as_deref(), Some("web-z to take the lock"));
    assert_eq!(waits.tell[&id("web-z")], Entered);
    let switches = of(Needs::Holds(check()));
    assert_eq!(changed(&switches), [("web-z", true), ("web-a", false)]);
    assert_eq!((switches.lock, switches.waits), (Some(check()), None));
}

#[test]
fn who_is_active_and_loses_the_lock_keeps_his_tags_and_who_stops_needs_none() {
    let web = services("");
    let critical = entry(&web[0], &id("web-a"), Active, CheckStatus::Critical);
    let alone = |wanted, entries: &[ServiceHealth]| {
        let mut one = member(&web, wanted, entries);
        one.needs = lacks();
        decide(&fleet(vec![("web-a", one)]))
    };
    for entries in [[passing(&web[0], "web-a", Active)], [critical]] {
        let loses = alone(Active, &entries);
        assert_eq!((loses.changes, loses.waits), (vec![], None));
        assert_eq!(loses.roles[&id("web-a")], Active);
        // The tags go with the work.
        let stops = alone(Standby, &entries);
        assert_eq!(changed(&stops), [("web-a", false)]);
        assert_eq!((stops.lock, stops.waits), (None, None));
    }
    // What somebody changed by hand waits for the lock as well.
    let mut odd = passing(&web[0], "web-a", Active);
    odd.service.tags.pop();
    assert!(alone(Active, &[odd]).waits.is_some());
}
