//! Makes the greens of a wave that are still to be made, as fast as the budgets allow: when one has
//! reported, another starts. After repairs, which go first.

use crate::{
    ledger::Claim,
    pass::Pass,
    phase::Phase,
    spread::Spread,
    state::{Purpose, Rollout},
    step::rollout::stands,
};

pub(crate) fn step(pass: &mut Pass<'_>) {
    if pass.state().deleting {
        return;
    }
    let making = |rollout: &&Rollout| rollout.phase == Phase::Provisioning;
    let Some(rollout) = pass.running().filter(making) else {
        return;
    };
    let number = rollout.sets.to_make;
    if number == 0 || stands(pass, rollout.phase) {
        return;
    }
    let (to, id) = (rollout.to.clone(), rollout.id.clone());
    let why = format!("green of wave {} of {id}", rollout.wave + 1);
    let progress_by = pass
        .now
        .after(pass.state().spec.replace.progress_deadline.0);
    let places = places(pass, number);
    let left = number;
    for (done, place) in (0_u32..).zip(places) {
        let purpose = Purpose::Rollout(id.clone());
        let made = pass.create_at(to.clone(), purpose, &why, Claim::Reserved, place);
        let Some(made) = made else {
            // The others would be refused for the same reason.
            if let Some(why) = pass.refused.clone() {
                let number = pass.short.entry(why).or_default();
                *number = number.saturating_add(left - done - 1);
            }
            return;
        };
        if let Some(rollout) = &mut pass.change().rollout {
            rollout.sets.green.push(made);
            rollout.sets.to_make -= 1;
            // While it waited for a budget, nothing could become healthy.
            rollout.progress_by = rollout.progress_by.max(progress_by);
        }
    }
}

/// Where the next greens are made: in each zone as many of the new image as in any other.
fn places(pass: &Pass<'_>, number: u32) -> Vec<crate::spread::Place> {
    let state = pass.state();
    let image = state.running().map(|rollout| &rollout.to.image);
    let mut spread = Spread::of(state, pass.environment, |id| {
        let found = state.instances.get(id);
        found.map(|one| &one.build.image) == image
    });
    (0..number).map(|_| spread.next()).collect()
}
