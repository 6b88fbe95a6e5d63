//! Rules about rollouts: that they move or say why not, and that going back restores.

use calvin_model::CatalogueRole;

use super::{
    InvariantId, removal,
    view::{Found, View},
};
use crate::{
    exclusive::other_at_work,
    phase::Phase,
    plan::{DeleteBasis, Next},
    state::Instance,
};

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    removal::blue_stays(view, found);
    ends_or_says(view, found);
    restores_blue(view, found);
    read_back_is_what_it_rests_on(view, found);
}

fn ends_or_says(view: &View<'_>, found: &mut Found) {
    let still = view.plan.next == Next::Same;
    let says = !view.plan.report.waiting.is_empty() || !view.plan.report.blocked.is_empty();
    if let Some(rollout) = view.before.running()
        && still
        && !says
    {
        found.push((
            InvariantId::RolloutEndsOrSaysWhatItWaitsFor,
            format!("{} stands still in {}", rollout.id, rollout.phase),
        ));
    }
}

fn restores_blue(view: &View<'_>, found: &mut Found) {
    let Some(after) = view.after else {
        return;
    };
    let (Some(was), Some(is)) = (&view.before.rollout, &after.rollout) else {
        return;
    };
    if was.id != is.id || was.phase == Phase::RolledBack || is.phase != Phase::RolledBack {
        return;
    }
    // What was lost with its zone is neither restored nor removed.
    let there = |one: &&Instance| !one.leaving() && one.replace != Some(DeleteBasis::ZoneLost);
    let staying = |id| after.instances.get(id).filter(there);
    for id in &is.sets.blue {
        let able = staying(id)
            .filter(|blue| blue.proven && !view.fails(id) && other_at_work(after, id).is_none());
        if able.is_some_and(|blue| blue.catalogue != CatalogueRole::Active) {
            let text = format!("{id} of blue is not active");
            found.push((InvariantId::RollbackRestoresBlue, text));
        }
    }
    for id in &is.sets.green {
        if staying(id).is_some() {
            let text = format!("{id} of green is still there");
            found.push((InvariantId::RollbackRestoresBlue, text));
        }
    }
}

/// A switch that counts as done is one that clients see.
fn read_back_is_what_it_rests_on(view: &View<'_>, found: &mut Found) {
    let Some(state) = view.after else {
        return;
    };
    let Some(after) = state.running() else {
        return;
    };
    let before = view.before.running().map(|rollout| rollout.phase);
    if before != Some(Phase::Switching) || after.phase != Phase::Settling {
        return;
    }
    let seen = view.catalogue.map(|catalogue| &catalogue.roles);
    // What an agent that lives has not taken yet, its machine's clients do not see.
    let behind = view.catalogue.map_or(0, |seen| seen.unconfirmed.len()) + view.returning;
    let is_found = |id| {
        let instance = view.before.instances.get(id);
        instance.is_some_and(|instance| instance.build.services)
    };
    if behind > 0 && after.sets.green.iter().any(is_found) {
        let text = format!("the switch counts as seen, {behind} agents serve older names");
        found.push((InvariantId::UnprovenNeverServes, text));
    }
    for id in &after.sets.green {
        let counts =
            |green: &Instance| green.build.services && green.replace != Some(DeleteBasis::ZoneLost);
        let services = state.instances.get(id).is_some_and(counts);
        let active = seen.and_then(|roles| roles.get(id)) == Some(&CatalogueRole::Active);
        if services && !active {
            let text = format!("{id} counts as active and is not read back as it");
            found.push((InvariantId::UnprovenNeverServes, text));
        }
    }
}
