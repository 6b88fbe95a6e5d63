//! Whom a lost token concerns, and whose token is owed.

use super::{super::census::tests::known, *};

/// Who has a token, and whose is owed.
fn tokens(progress: &Progress, shared: &Shared) -> [Vec<String>; 2] {
    let names = |ids: &mut dyn Iterator<Item = &InstanceId>| ids.map(ToString::to_string).collect();
    let debts = &shared.state().debts;
    [names(&mut progress.have.iter()), names(&mut debts.keys())]
}

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

#[test]
fn the_token_of_who_is_gone_is_owed_until_it_is_back_and_is_made_again_then() {
    let ids = ["web-a", "web-b", "web-c"].map(|id| -> InstanceId { id.parse().unwrap() });
    let shared = Shared::new(Arc::new(|| {}));
    let mut progress = Progress::default();
    progress.found(ids.clone().into());
    let [_, revoked, gone] = &ids;
    let all: Joining = ids.clone().map(|id| (id, known())).into();
    progress.owe(&all, &shared);
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let everybody = names(&["web-a", "web-b", "web-c"]);
    assert_eq!(tokens(&progress, &shared), [everybody, names(&[])]);

    let mut left = all.clone();
    left.remove(gone);
    left.get_mut(revoked).unwrap().revoked = true;
    let some = [names(&["web-a"]), names(&["web-b", "web-c"])];
    for _ in 0..2 {
        progress.owe(&left, &shared);
        assert_eq!(tokens(&progress, &shared), some);
    }

    // Whether it was taken back meanwhile nobody knows: it is made, and not told before.
    left.insert(gone.clone(), known());
    progress.owe(&left, &shared);
    let back = [names(&["web-a"]), names(&["web-b"])];
    assert_eq!(tokens(&progress, &shared), back);
    assert!(!progress.tells(gone, Acl::Tokens));
}
