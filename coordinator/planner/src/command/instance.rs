//! Orders about one instance.

use calvin_model::InstanceId;

use super::{CommandOutcome, Desk, Refusal};
use crate::{
    environment::FreezeScope, invariant::InvariantId, phase::Phase, plan::DeleteBasis,
    state::Rollout,
};

pub(super) fn replace(
    desk: Desk<'_>,
    id: &InstanceId,
    reason: &str,
) -> Result<CommandOutcome, Refusal> {
    let (name, before) = desk.fleet_of(id)?;
    let refuse = |why: String, hint: String| {
        Err(Refusal::NotNow {
            rule: None,
            what: format!("could not replace instance {id}"),
            why,
            hint,
        })
    };
    desk.not_frozen(
        before,
        FreezeScope::All,
        &format!("could not replace instance {id}"),
        &format!("wait until it is over, or end it: calvin unfreeze {name}"),
    )?;
    if let Some(order) = before
        .instances
        .get(id)
        .and_then(|one| one.protected.as_ref())
    {
        return refuse(
            format!("it is protected by {}: {}", order.by, order.reason),
            format!("end that first: calvin instance unprotect {id}"),
        )
        .map_err(|refusal: Refusal| refusal.protecting(InvariantId::ProtectedNeverTouched));
    }
    // One that goes back may do so for ever, where what it goes back to is gone.
    let goes_on = |rollout: &&Rollout| rollout.phase != Phase::RollingBack;
    if let Some(rollout) = before.running().filter(goes_on) {
        return refuse(
            format!("rollout {} runs in fleet {name}", rollout.id),
            format!("wait until it has ended: calvin rollout watch {name}"),
        );
    }
    if before.serving.is_none() {
        return refuse(
            format!("nothing of fleet {name} ever served"),
            format!("start again: calvin rollout start {name}"),
        );
    }
    let mut after = before.clone();
    let Some(instance) = after.instances.get_mut(id) else {
        return Err(Refusal::NoInstance {
            instance: id.clone(),
        });
    };
    if instance.leaving() {
        return refuse(
            format!("it leaves already: {}", instance.life),
            format!("look at it: calvin instance show {id}"),
        );
    }
    if instance.replace == Some(DeleteBasis::Ordered) {
        return Ok(Desk::unchanged(format!("{id} is being replaced already")));
    }
    instance.replace = Some(DeleteBasis::Ordered);
    let when = before.running().map_or_else(String::new, |rollout| {
        format!("when {} has gone back, if not before: ", rollout.id)
    });
    let line = format!("{id} is replaced: {when}another serves first, then it leaves ({reason})");
    Ok(desk.changed(name, after, line))
}
