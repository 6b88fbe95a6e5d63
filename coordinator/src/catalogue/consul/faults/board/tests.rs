//! What people are told of what cannot be done.

use std::time::Duration;

use calvin_consul::{MissingRule, Reason};

use super::*;

const NOW: fn() -> Instant = Instant::now;

fn denied(permission: &str, on: &str) -> Error {
    let text =
        format!("Permission denied: token with AccessorID '1' lacks permission '{permission}'{on}");
    failing(Reason::Denied {
        rule: MissingRule::parse(&text).map(Box::new),
        text,
    })
}

fn failing(reason: Reason) -> Error {
    Error {
        tried: "change the tags of 3 services".to_owned(),
        reason,
    }
}

fn fleet(name: &str) -> FleetName {
    name.parse().unwrap()
}

fn token(instance: &str) -> About {
    About::Token(fleet("web"), instance.parse().unwrap())
}

#[test]
fn a_denied_switch_names_the_rule_and_the_fleet_that_waits_and_vanishes_when_it_works() {
    let mut board = Board::default();
    let about = About::Tags(fleet("web"));
    let began = NOW();
    let error = denied("service:write", " on \"web\"");
    assert!(board.failed(&about, &error, began), "it is news");
    let later = began + Duration::from_secs(60);
    assert!(!board.failed(&about, &error, later), "it is no news");
    let shown = board.shown(Show::All, later);
    let [fault] = shown.as_slice() else {
        panic!("{shown:?}");
    };
    assert_eq!(
        fault.what,
        "the role tags of fleet web cannot be changed in Consul: the coordinator's token may not \
         write service web: rule `service \"web\" { policy = \"write\" }` is missing"
    );
    assert!(
        fault
            .advice
            .contains("`calvin consul policies coordinator` prints the whole policy")
    );
    assert_eq!(fault.fleets, BTreeSet::from([fleet("web")]));
    assert_eq!(fault.lasts, Duration::from_secs(60));
    assert!(board.works(&about));
    assert_eq!(board.shown(Show::All, later), []);
}

#[test]
fn tokens_of_many_are_one_sentence_and_what_all_share_is_said_once() {
    let mut board = Board::default();
    let error = denied("acl:write", "");
    board.failed(&About::Tokens, &error, NOW());
    for instance in ["web-a", "web-b", "web-c", "web-d", "web-e"] {
        board.failed(&token(instance), &error, NOW());
    }
    board.failed(&About::Debt("web-z".parse().unwrap()), &error, NOW());
    let shown: Vec<String> = board
        .shown(Show::All, NOW())
        .into_iter()
        .map(|one| one.what)
        .collect();
    let why = "the coordinator's token may not write acl: rule `acl = \"write\"` is missing";
    assert_eq!(shown.len(), 2, "{shown:?}");
    let made = "no Consul token can be made for web-a, web-b, web-c and 2 more";
    assert!(shown.contains(&format!("{made}: {why}")), "{shown:?}");
    let debt = "the Consul tokens of web-z cannot be revoked";
    assert!(shown.contains(&format!("{debt}: {why}")), "{shown:?}");
    board.keep(|about| *about == token("web-b"));
    let left = board.shown(Show::All, NOW());
    assert!(left[0].what.contains("for web-b: "), "{left:?}");
}

#[test]
fn trouble_that_may_pass_is_shown_once_it_lasts() {
    let mut board = Board::default();
    let began = NOW();
    let limit = Duration::from_secs(3);
    board.failed(&About::Nodes, &failing(Reason::TimedOut { limit }), began);
    assert_eq!(board.shown(Show::All, began + Duration::from_secs(5)), []);
    let shown = board.shown(Show::All, began + Duration::from_secs(16));
    assert!(shown[0].what.ends_with("no answer within 3s"), "{shown:?}");
    // That Consul is away is said already.
    let later = began + Duration::from_secs(16);
    assert_eq!(board.shown(Show::Denials, later), []);
    // With nobody that waits it holds up no fleet.
    assert!(shown[0].fleets.is_empty());
}

#[test]
fn a_change_that_others_undo_again_and_again_is_shown_once_that_lasts() {
    let mut board = Board::default();
    let about = About::Tags(fleet("web"));
    let began = NOW();
    for second in 0..20 {
        let now = began + Duration::from_secs(second);
        board.stopped(&about, "index is stale", now);
        assert_eq!(
            board.shown(Show::All, now).len(),
            usize::from(second > 15),
            "{second}"
        );
    }
    let shown = board.shown(Show::All, began + Duration::from_secs(20));
    assert!(
        shown[0].what.ends_with("changed in Consul: index is stale"),
        "{shown:?}"
    );
    assert!(shown[0].advice.contains("who else changes"), "{shown:?}");
}
