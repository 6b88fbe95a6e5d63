//! Notes what has arrived: an agent that reports for the first time, an instance that is healthy
//! for the first time.

use calvin_model::{CatalogueRole, InstanceId};

use super::repair::some_unproven;
use crate::{
    pass::Pass,
    phase::Phase,
    plan::EventKind,
    state::{Life, Purpose},
};

pub(crate) fn step(pass: &mut Pass<'_>) {
    let news: Vec<InstanceId> = pass
        .state()
        .instances
        .iter()
        .filter(|(id, instance)| match instance.life {
            Life::Making => pass.seen(id).is_some_and(|seen| seen.agent.is_some()),
            Life::Up => !instance.proven && pass.judged(id).healthy_in_role(),
            Life::Draining(_) | Life::Retiring(_) => false,
        })
        .map(|(id, _)| id.clone())
        .collect();
    for id in news {
        pass.live(&id, Life::Up);
        if pass
            .instance(&id)
            .is_some_and(|instance| instance.catalogue == CatalogueRole::Absent)
        {
            pass.place(&id, CatalogueRole::Standby);
        }
        if pass.judged(&id).healthy_in_role() {
            prove(pass, &id);
        }
    }
    // Those that still wait were made in the same trouble, and keep the time that they were given.
    if pass.state().given_up_in_a_row > 0 && !some_unproven(pass) {
        pass.change().given_up_in_a_row = 0;
    }
}

fn prove(pass: &mut Pass<'_>, id: &InstanceId) {
    let now = pass.now;
    let progress = pass.state().spec.replace.progress_deadline.0;
    let took = pass.instance(id).map_or(now, |instance| instance.created);
    let text = format!(
        "{id} is healthy for the first time, {:.1} s after it was intended",
        now.since(took).as_secs_f64()
    );
    pass.event(Some(id), EventKind::InstanceProven, text);
    let state = pass.change();
    let Some(instance) = state.instances.get_mut(id) else {
        return;
    };
    instance.proven = true;
    if let Some(rollout) = &mut state.rollout
        && instance.purpose == Purpose::Rollout(rollout.id.clone())
        && (rollout.phase == Phase::Provisioning || rollout.phase == Phase::Soaking)
    {
        rollout.progress_by = now.after(progress);
    }
}
