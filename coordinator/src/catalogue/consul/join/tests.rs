//! Whom a lost token concerns.

use super::*;

#[test]
fn who_lost_its_token_is_told_again_how_to_join() {
    let [kept, lost]: [InstanceId; 2] = ["web-a", "web-b"].map(|id| id.parse().unwrap());
    let mut progress = Progress::default();
    let told =
        |progress: &Progress| [&kept, &lost].map(|instance| progress.tells(instance, Acl::Tokens));
    assert_eq!(told(&progress), [false, false]);
    progress.found([kept.clone(), lost.clone()].into());
    assert_eq!(told(&progress), [true, true]);
    progress.found([kept.clone()].into());
    // It is made again within the same round.
    progress.have.insert(lost.clone());
    assert_eq!(told(&progress), [true, false]);
    progress.lost.clear();
    assert_eq!(told(&progress), [true, true]);
}
