//! Orders that keep things as they are: protected instances, vetoed images, pinned fleets.

use calvin_model::{FleetName, InstanceId, image::ImageTag};

use super::{CommandOutcome, Desk, Refusal};
use crate::{
    invariant::InvariantId, phase::Phase, plan::DeleteBasis, state::FleetState, wall::date,
};

fn refuse<T>(what: String, why: String, hint: String) -> Result<T, Refusal> {
    Err(Refusal::NotNow {
        what,
        why,
        hint,
        rule: None,
    })
}

pub(super) fn protect(
    desk: Desk<'_>,
    id: &InstanceId,
    reason: &str,
) -> Result<CommandOutcome, Refusal> {
    let (name, before) = desk.fleet_of(id)?;
    let what = format!("could not protect instance {id}");
    let mut after = before.clone();
    let Some(instance) = after.instances.get_mut(id) else {
        return Err(Refusal::NoInstance {
            instance: id.clone(),
        });
    };
    if let Some(order) = &instance.protected {
        return Ok(Desk::unchanged(format!(
            "{id} is protected already, by {} since {}: {}",
            order.by,
            date(order.wall_ms),
            order.reason
        )));
    }
    if instance.leaving() {
        return refuse(
            what,
            format!("it leaves already: {}", instance.life),
            format!("look at it: calvin instance show {id}"),
        );
    }
    instance.protected = Some(desk.order(reason));
    let ordered = instance.replace.take().is_some();
    let mut line = format!(
        "{id} is protected: nothing replaces, drains or removes it (end it: calvin instance unprotect {id})"
    );
    if ordered {
        line.push_str("; it was to be replaced and stays");
    }
    if let Some(rollout) = after
        .rollout
        .as_mut()
        .filter(|rollout| !rollout.phase.ended())
    {
        if rollout.sets.green.contains(id) {
            return refuse(
                what,
                format!(
                    "it is a green of {}, which must be able to go back",
                    rollout.id
                ),
                format!("wait until it has ended: calvin rollout watch {name}"),
            )
            .map_err(|refusal| refusal.protecting(InvariantId::RollbackRestoresBlue));
        }
        if rollout.sets.blue.contains(id) {
            if !may_leave_blue(rollout.phase) {
                return refuse(
                    what,
                    format!(
                        "it is what {} goes back to, in {}",
                        rollout.id, rollout.phase
                    ),
                    format!(
                        "hold that first: calvin rollout pause {name}; or go back: calvin rollout rollback {name}"
                    ),
                )
                .map_err(|refusal| refusal.protecting(InvariantId::RollbackRestoresBlue));
            }
            rollout.sets.blue.retain(|blue| blue != id);
            line.push_str(&format!(
                "; {} leaves it out: it goes on serving {}",
                rollout.id, before.instances[id].build.image
            ));
        }
    }
    Ok(desk.changed(name, after, format!("{line}: {reason}")))
}

/// Whether a wave can still do without one that it was to replace: as long as that one serves.
fn may_leave_blue(phase: Phase) -> bool {
    match phase {
        Phase::Provisioning | Phase::Soaking | Phase::AwaitingSwitch => true,
        Phase::MakingRoom
        | Phase::Switching
        | Phase::Stopping
        | Phase::Settling
        | Phase::Baking
        | Phase::AwaitingRetire
        | Phase::Draining
        | Phase::Retiring
        | Phase::RollingBack
        | Phase::Done
        | Phase::RolledBack
        | Phase::Failed => false,
    }
}

pub(super) fn unprotect(desk: Desk<'_>, id: &InstanceId) -> Result<CommandOutcome, Refusal> {
    let (name, before) = desk.fleet_of(id)?;
    let mut after = before.clone();
    let aside = before
        .instances
        .get(id)
        .is_some_and(|instance| before.set_aside(instance));
    let order = after.instances.get_mut(id).and_then(|instance| {
        let order = instance.protected.take();
        // Nothing needs it any more, and it is not to serve.
        if order.is_some() && aside {
            instance.replace = Some(DeleteBasis::Ordered);
        }
        order
    });
    let Some(order) = order else {
        return refuse(
            format!("could not end the protection of instance {id}"),
            "it is not protected".to_owned(),
            format!("look at it: calvin instance show {id}"),
        );
    };
    let mut line = format!("{id} is not protected any more: it was by {}", order.by);
    let runs = before.instances.get(id).map(|one| &one.build.image);
    let serving = before.serving.as_ref().map(|serving| &serving.image);
    if aside {
        line.push_str("; it served nobody and is removed");
    } else if runs != serving
        && let (Some(runs), Some(serving)) = (runs, serving)
    {
        line.push_str(&format!(
            "; it runs {runs} and {serving} serves (replace it: calvin instance replace {id})"
        ));
    }
    Ok(desk.changed(name, after, line))
}

pub(super) fn veto(
    desk: Desk<'_>,
    image: &ImageTag,
    reason: &str,
) -> Result<CommandOutcome, Refusal> {
    desk.reason(
        &format!("could not veto {image}"),
        reason,
        "whoever wants the image next must know why",
    )?;
    if let Some(order) = desk.input.environment.vetoes.get(image) {
        return Ok(Desk::unchanged(format!(
            "{image} is vetoed already, by {} since {}: {}",
            order.by,
            date(order.wall_ms),
            order.reason
        )));
    }
    let mut after = desk.input.environment.clone();
    after.vetoes.insert(image.clone(), desk.order(reason));
    let line = format!(
        "{image} is vetoed: nothing is made from it (end it: calvin image unveto {image}): {reason}"
    );
    let mut outcome = desk.environment(after, line);
    for (name, state) in desk.input.fleets {
        outcome.lines.extend(vetoed_means(name, state, image));
    }
    Ok(outcome)
}

/// What a veto means for a fleet.
fn vetoed_means(name: &FleetName, state: &FleetState, image: &ImageTag) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(rollout) = state.running().filter(|it| it.to.image.tag == *image) {
        lines.push(match rollout.phase {
            Phase::RollingBack | Phase::Retiring => {
                format!("fleet {name}: {} is in {}", rollout.id, rollout.phase)
            }
            Phase::Provisioning
            | Phase::MakingRoom
            | Phase::Soaking
            | Phase::AwaitingSwitch
            | Phase::Switching
            | Phase::Stopping
            | Phase::Settling
            | Phase::Baking
            | Phase::AwaitingRetire
            | Phase::Draining
            | Phase::Done
            | Phase::RolledBack
            | Phase::Failed => format!("fleet {name}: {} goes back", rollout.id),
        });
    }
    if state
        .next
        .as_ref()
        .is_some_and(|next| next.build.image.tag == *image)
    {
        lines.push(format!(
            "fleet {name}: the rollout of it that waits is dropped"
        ));
    }
    if state
        .serving
        .as_ref()
        .is_some_and(|serving| serving.image.tag == *image)
    {
        let previous = state.previous.as_ref().filter(|it| it.image.tag != *image);
        lines.push(match previous {
            Some(previous) => format!(
                "fleet {name}: it serves, and goes on; repairs are made from {} (go back: calvin undo {name})",
                previous.image.tag
            ),
            None => format!(
                "fleet {name}: it serves, and goes on; nothing can be repaired until another image \
                 serves (calvin rollout start {name} NAME@VERSION)"
            ),
        });
    }
    lines
}

pub(super) fn unveto(desk: Desk<'_>, image: &ImageTag) -> Result<CommandOutcome, Refusal> {
    let mut after = desk.input.environment.clone();
    let Some(order) = after.vetoes.remove(image) else {
        return refuse(
            format!("could not end the veto of {image}"),
            "it is not vetoed".to_owned(),
            "see which images are: calvin image list".to_owned(),
        );
    };
    let line = format!(
        "{image} is not vetoed any more: it was by {}: {}",
        order.by, order.reason
    );
    Ok(desk.environment(after, line))
}

pub(super) fn pin(
    desk: Desk<'_>,
    name: &FleetName,
    reason: &str,
) -> Result<CommandOutcome, Refusal> {
    let before = desk.fleet(name)?;
    let what = format!("could not pin fleet {name}");
    if let Some(order) = &before.pin {
        return Ok(Desk::unchanged(format!(
            "fleet {name} is pinned already, by {} since {}: {}",
            order.by,
            date(order.wall_ms),
            order.reason
        )));
    }
    if let Some(rollout) = before.running() {
        return refuse(
            what,
            format!("rollout {} to {} runs", rollout.id, rollout.to.image),
            format!("let it end, or turn it around: calvin rollout rollback {name}"),
        );
    }
    let Some(serving) = &before.serving else {
        return refuse(
            what,
            "nothing of it ever served".to_owned(),
            format!("roll an image out first: calvin rollout start {name} NAME@VERSION"),
        );
    };
    let line = format!(
        "fleet {name} is pinned to {}: no rollout starts, in an emergency neither (end it: calvin \
         fleet unpin {name}): {reason}",
        serving.image
    );
    let mut after = before.clone();
    after.pin = Some(desk.order(reason));
    Ok(desk.changed(name, after, line))
}

pub(super) fn unpin(desk: Desk<'_>, name: &FleetName) -> Result<CommandOutcome, Refusal> {
    let before = desk.fleet(name)?;
    let Some(order) = &before.pin else {
        return refuse(
            format!("could not unpin fleet {name}"),
            "it is not pinned".to_owned(),
            format!("look at it: calvin fleet show {name}"),
        );
    };
    let line = format!(
        "fleet {name} is not pinned any more: it was by {}",
        order.by
    );
    let mut after = before.clone();
    after.pin = None;
    Ok(desk.changed(name, after, line))
}
