//! Failed: nothing to go back to. Greens are kept a while, to be looked at, then they leave.

use calvin_model::{CatalogueRole, DrainReason, InstanceId, Role};

use crate::pass::Pass;

pub(crate) fn step(pass: &mut Pass<'_>) {
    let Some(rollout) = &pass.state().rollout else {
        return;
    };
    let since = rollout.phase_since;
    let instances = pass.state().instances.iter();
    let left: Vec<InstanceId> = instances
        .filter(|(_, instance)| !instance.leaving())
        .map(|(id, _)| id.clone())
        .collect();
    if left.is_empty() {
        return;
    }
    let until = since.after(pass.state().spec.replace.keep_failed.0);
    if until.reached(pass.now) {
        if pass.holds_all("failed greens are not removed") {
            return;
        }
        for id in &left {
            pass.leave(id, DrainReason::RolledBack, "keep_failed is up");
        }
        return;
    }
    for id in &left {
        let entered = pass
            .instance(id)
            .is_some_and(|green| green.catalogue == CatalogueRole::Entered);
        if entered {
            pass.place(id, CatalogueRole::Standby);
        }
        pass.want(id, Role::Standby, None);
    }
    let what = format!("{} failed greens are kept, to be looked at", left.len());
    pass.wait(
        what,
        pass.now.since(since),
        Some((until, "they are removed")),
    );
}
