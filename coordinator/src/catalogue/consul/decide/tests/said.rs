//! What gossip and Consul's own checks say, and which answers say so.

use std::collections::BTreeSet;

use super::*;

#[test]
fn gossip_is_what_the_answer_says_that_has_seen_more_of_it() {
    let web = services("");
    let mut old = passing(&web[0], "web-a", Standby);
    let mut new = passing(&web[0], "web-a", Entered);
    let mut decided = |indexes: [u64; 2]| {
        old.checks[0].modify_index = indexes[0];
        new.checks[0].modify_index = indexes[1];
        new.checks[0].status = CheckStatus::Critical;
        let entries = [old.clone(), new.clone()];
        let decision = decide(&fleet(vec![("web-a", member(&web, Active, &entries))]));
        let said = decision.gossip[&id("web-a")].clone();
        (said.well, said.by.into_iter().collect::<Vec<_>>())
    };
    assert_eq!(decided([3, 9]), (false, vec!["web".to_owned()]));
    assert_eq!(decided([9, 3]), (true, vec!["web-standby".to_owned()]));
}

#[test]
fn checks_are_as_old_as_every_answer_that_they_are_in() {
    let web = services("");
    let entries = [
        passing(&web[0], "web-a", Standby),
        passing(&web[0], "web-a", Entered),
    ];
    let decision = decide(&fleet(vec![("web-a", member(&web, Active, &entries))]));
    let by = ["web", "web-standby"].map(str::to_owned);
    assert_eq!(decision.checks[&id("web-a")].by, BTreeSet::from(by));
}
