//! Orders about one instance.

use calvin_model::InstanceId;

use super::{CommandOutcome, Desk, Refusal};
use crate::{environment::FreezeScope, invariant::InvariantId, plan::DeleteBasis};

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
    let running = before.running().map(|rollout| rollout.id.clone());
    if before.serving.is_none() && running.is_none() {
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
    // Said again, it counts from now: what a person says before an instance falls silent is no word that
    // it is gone.
    let at_work = instance.at_work;
    let again = instance.replace == Some(DeleteBasis::Ordered);
    instance.replace = Some(DeleteBasis::Ordered);
    instance.ordered = Some(desk.input.now);
    // That it is gone may be what is waited for: a list that lacks too much is no word for it alone.
    let lost = if at_work {
        String::new()
    } else {
        "; if it is silent now and its provider does not list it, that makes it lost after silent_after"
            .to_owned()
    };
    let line = match (again, running) {
        (true, _) => format!("{id} is being replaced already{lost} ({reason})"),
        (false, None) => {
            format!("{id} is replaced: another serves first, then it leaves{lost} ({reason})")
        }
        (false, Some(rollout)) => {
            format!("{id} is replaced when {rollout} has ended{lost} ({reason})")
        }
    };
    Ok(desk.changed(name, after, line))
}
