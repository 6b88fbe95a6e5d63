//! Quorum fleets: one member leaves at a time, and only while every other is healthy and says itself
//! that enough voters live. What nobody says counts as unsafe.

use calvin_model::{InstanceId, QuorumReport, Role, fleet::FleetKind};

use crate::{
    judge::{Judgement, Loss},
    moment::Moment,
    observed::InstanceObserved,
    report::InstanceClass,
    state::{FleetState, Instance, Life},
    sums::majority,
};

/// What is known of members.
pub(crate) trait Members {
    /// How one is judged.
    fn judged(&self, id: &InstanceId) -> Judgement;
    /// What is seen of one.
    fn seen(&self, id: &InstanceId) -> Option<&InstanceObserved>;
    /// The moment.
    fn now(&self) -> Moment;
}

/// When an instance would leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Now.
    Now,
    /// After another was made for it, and has caught up.
    AnotherIsMade,
}

/// Whether a fleet votes, and has members that could be outvoted: a first rollout has none yet, and
/// an order to delete the fleet takes them all.
pub(crate) fn votes(state: &FleetState) -> bool {
    match state.spec.kind {
        FleetKind::Quorum => state.serving.is_some() && !state.deleting,
        FleetKind::Service | FleetKind::Exclusive => false,
    }
}

/// What a member says of its voters, while that is fresh.
fn word(members: &impl Members, id: &InstanceId) -> Option<QuorumReport> {
    let agent = members.seen(id)?.agent.as_ref()?;
    let quorum = agent.report.quorum?;
    let fresh = match members.judged(id).class {
        InstanceClass::Healthy | InstanceClass::Unhealthy => true,
        InstanceClass::Starting
        | InstanceClass::Unknown
        | InstanceClass::Unmanaged
        | InstanceClass::Lost
        | InstanceClass::Leaving => false,
    };
    fresh.then_some(QuorumReport {
        age: quorum.age + agent.age,
        ..quorum
    })
}

/// Whether a member says that it leads.
pub(crate) fn leads(members: &impl Members, id: &InstanceId) -> bool {
    word(members, id).is_some_and(|word| word.leader)
}

/// Why an instance must not leave now, as a fact that can be looked up; `None` where it may.
///
/// One that is lost by two sources takes no live voter away: for it, others that are lost too do not
/// speak against it. Nor do they for one that was never healthy: where it was made for a lost one, and
/// neither could go before the other, none ever would. Whether it votes the others know: where no more
/// voters live than there are others, it takes none away; else it is taken for one of them, and what
/// is left must be enough also while the lost are still counted.
pub(crate) fn keeps(
    state: &FleetState,
    id: &InstanceId,
    when: When,
    members: &impl Members,
) -> Option<String> {
    let instance = state.instances.get(id)?;
    if !votes(state) || instance.life == Life::Making {
        return None;
    }
    // Gossip alone is no word that a member votes no more: one that is cut off from it may.
    let lost = |id: &InstanceId| {
        let machine = members.seen(id).and_then(|seen| seen.machine);
        let off = machine.is_some_and(|machine| machine.is_off());
        off && members.judged(id).loss == Loss::TwoSources
    };
    let gone = lost(id);
    let unproven = !gone && !instance.proven && when == When::Now;
    let others: Vec<(&InstanceId, &Instance)> = state
        .instances
        .iter()
        .filter(|(other, _)| *other != id)
        .collect();
    if let Some(other) = leaves_already((id, instance), &others, members) {
        return Some(format!("{other} leaves already, and one may at a time"));
    }
    // A changed count takes effect after the rollout; a smaller one needs no more than it will be.
    let running = state.running().map_or(u32::MAX, |one| one.count);
    let count = state.spec.count.min(running);
    let least = majority(count);
    if when == When::Now && is_no_voter(&others, least, members) {
        return None;
    }
    let mut leaders = u32::from(leads(members, id));
    let all = u32::try_from(others.len()).unwrap_or(u32::MAX);
    let others = others.into_iter().map(|(other, _)| other);
    let others: Vec<&InstanceId> = others
        .filter(|other| !((gone || unproven) && lost(other)))
        .collect();
    let others_vote = u32::try_from(others.len()).unwrap_or(u32::MAX);
    let some_lost = others_vote < all;
    let mut heard = 0;
    for other in others {
        if !members.judged(other).healthy() {
            let class = members.judged(other).class;
            return Some(
                format!("{other} is not known to be healthy: it is {class:?}").to_lowercase(),
            );
        }
        let Some(word) = word(members, other) else {
            return Some(format!("{other} does not say how many voters there are"));
        };
        let says = format!(
            "{other} says: {} voters, {} needed, {:.1} s ago",
            word.voters,
            word.needed,
            word.age.as_secs_f64()
        );
        // There are no other members than those that are known here. A fleet that has fewer than its
        // count, or had before one that was never healthy, is a quorum of so many.
        let all_known = word.needed.saturating_mul(2) <= all.saturating_add(3);
        let there = all.saturating_add(u32::from(!unproven));
        let least = if all_known {
            majority(count.min(there))
        } else {
            majority(count)
        };
        let never_voted = unproven && word.voters <= others_vote;
        let takes = u32::from(!gone && !never_voted && when == When::Now);
        let left = word.voters.saturating_sub(takes);
        if word.needed < least {
            return Some(format!("{says}; a fleet of {count} needs {least}"));
        }
        let least = if unproven && some_lost {
            least.max(word.needed)
        } else {
            least
        };
        if word.voters < word.needed || left < least {
            return Some(format!("{says}; {left} would be left and {least} must"));
        }
        if !word.caught_up {
            return Some(format!("{other} has not caught up with the others yet"));
        }
        leaders += u32::from(word.leader);
        heard += 1;
    }
    match (heard, when) {
        (0, When::Now) => return Some("no other member is there".to_owned()),
        (0, When::AnotherIsMade) => return None,
        (_, When::Now | When::AnotherIsMade) => {}
    }
    (leaders != 1).then(|| format!("{leaders} members say that they lead"))
}

/// Which other leaves already, before this one may.
///
/// One that was told to drain votes until it goes, and goes only when the others are well: it does not
/// keep one that is gone or ill. Of two that drain the first goes first.
fn leaves_already<'a>(
    (id, instance): (&InstanceId, &Instance),
    others: &[(&'a InstanceId, &Instance)],
    members: &impl Members,
) -> Option<&'a InstanceId> {
    let drains = |one: &Instance| {
        let draining = matches!(one.life, Life::Draining(_)) && one.wanted.role == Role::Draining;
        draining && one.since < members.now()
    };
    // One that is lost is not healthy either.
    let ill = !members.judged(id).healthy();
    let leaves = |other_id: &InstanceId, other: &Instance| match other.life {
        Life::Retiring(_) => true,
        Life::Draining(_) if drains(other) && drains(instance) => {
            (other.since, other_id) < (instance.since, id)
        }
        Life::Draining(_) => !(ill && drains(other)),
        Life::Making | Life::Up => false,
    };
    let mut others = others.iter();
    let found = others.find(|(id, other)| leaves(id, other));
    found.map(|(id, _)| *id)
}

/// Whether the others alone are all the voters that each of them sees, and enough: then this one takes
/// none away, whatever the rest is like. Without a word it is not known.
fn is_no_voter(others: &[(&InstanceId, &Instance)], least: u32, members: &impl Members) -> bool {
    let healthy = others.iter().filter(|(id, _)| members.judged(id).healthy());
    let words = healthy.filter_map(|(id, _)| word(members, id));
    let words: Vec<QuorumReport> = words.filter(|word| word.caught_up).collect();
    are_all_voters(&words, least)
}

/// Whether those that say this are all the voters that each of them sees, and enough.
fn are_all_voters(words: &[QuorumReport], least: u32) -> bool {
    let voting = u32::try_from(words.len()).unwrap_or(u32::MAX);
    let enough = |word: &QuorumReport| word.voters >= word.needed.max(least);
    !words.is_empty()
        && words
            .iter()
            .all(|word| word.voters <= voting && enough(word))
}

/// Why a member is not ready to serve: it has not caught up, as far as is known.
pub(crate) fn lags(state: &FleetState, id: &InstanceId, members: &impl Members) -> Option<String> {
    if !votes(state) {
        return None;
    }
    match word(members, id) {
        None => Some(format!("{id} does not say whether it has caught up")),
        Some(word) if !word.caught_up => Some(format!("{id} has not caught up yet")),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn words(voters: &[u32]) -> Vec<QuorumReport> {
        let word = |voters: &u32| QuorumReport {
            voters: *voters,
            needed: 2,
            leader: false,
            caught_up: true,
            age: Duration::ZERO,
        };
        voters.iter().map(word).collect()
    }

    #[test]
    fn who_is_no_voter_takes_none_away_and_only_where_the_others_can_decide() {
        assert!(are_all_voters(&words(&[2, 2]), 2));
        // A third is seen alive by one of them: it may be the one in question.
        assert!(!are_all_voters(&words(&[2, 3]), 2));
        // Alone, it may be the one that is cut off.
        assert!(!are_all_voters(&words(&[1]), 2));
        assert!(!are_all_voters(&words(&[2, 2]), 3));
        assert!(!are_all_voters(&[], 1));
    }
}
