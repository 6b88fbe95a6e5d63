//! Baking: green serves, blue is warm. A green that is freshly unhealthy or lost ends it at once;
//! a green of which nothing is known keeps blue, and one that flapped unseen starts the count again.

use std::time::Duration;

use calvin_model::InstanceId;

use super::{
    gate,
    greens::{broken, green, why_not_healthy},
};
use crate::{invariant::InvariantId, pass::Pass, report::InstanceClass, sums::unmanaged_limit};

pub(crate) fn step(pass: &mut Pass<'_>) {
    if let Some(why) = broken(pass) {
        pass.go_back(&format!("green is not healthy while it bakes: {why}"));
        return;
    }
    let Some(rollout) = pass.running() else {
        return;
    };
    let since = rollout.phase_since;
    let baked = since.after(pass.state().spec.replace.bake.0);
    if !baked.reached(pass.now) {
        let what = "green to prove itself under traffic".to_owned();
        pass.wait(
            what,
            pass.now.since(since),
            Some((baked, "blue is drained")),
        );
        return;
    }
    if !all_known_healthy(pass) {
        return;
    }
    let greens = green(pass);
    if let Some((id, healthy_for)) = flapped(pass, &greens) {
        let policy = &pass.state().spec.replace;
        let (bake, progress) = (policy.bake, policy.progress_deadline);
        // Time for one whole count more, and no end of them.
        if baked.after(bake.0).after(progress.0).reached(pass.now) {
            let why = format!("{id} does not stay healthy for {bake} while it bakes");
            pass.go_back(&why);
            return;
        }
        let what = format!("{id} to be healthy for {bake} without a break");
        let until = pass.now.after(bake.0.saturating_sub(healthy_for));
        pass.wait(
            what,
            pass.now.since(since),
            Some((until, "blue is drained")),
        );
        return;
    }
    gate::baked(pass);
}

/// Whether every green is known to be healthy, as far as rules about unmanaged ones ask for. Says
/// so where not.
pub(super) fn all_known_healthy(pass: &mut Pass<'_>) -> bool {
    let greens = green(pass);
    let count = |class: InstanceClass| {
        let judged = greens.iter().map(|id| pass.judged(id).class);
        judged.filter(|found| *found == class).count()
    };
    let unmanaged = count(InstanceClass::Unmanaged);
    let healthy = count(InstanceClass::Healthy);
    if healthy + unmanaged < greens.len() || unmanaged > unmanaged_limit(greens.len()) {
        let fact = greens
            .iter()
            .find(|id| !pass.judged(id).healthy())
            .map(|id| format!("{id}: {}", why_not_healthy(pass, id)))
            .unwrap_or_default();
        let what = "blue is kept: not every green is known to be healthy".to_owned();
        pass.hold(InvariantId::BlueStaysUntilGreenIsProven, what, fact);
        return false;
    }
    true
}

/// The green that has been healthy for the shortest time, where that is less than the bake. What
/// happened while nobody could see it is in its agent's count: a green that was not healthy then
/// has not proved itself.
fn flapped(pass: &Pass<'_>, greens: &[InstanceId]) -> Option<(InstanceId, Duration)> {
    let bake = pass.state().spec.replace.bake.0;
    let judged = greens.iter().filter_map(|id| {
        let healthy_for = pass.judged(id).healthy_for?;
        Some((id.clone(), healthy_for))
    });
    judged
        .filter(|(_, healthy_for)| *healthy_for < bake)
        .min_by_key(|(_, healthy_for)| *healthy_for)
}
