//! Retiring: entries, identity and machine are removed, each seen to be gone, then the record.

use std::time::Duration;

use calvin_model::{CatalogueRole, InstanceId, Mutant};

use super::exclusive::is_exclusive;
use crate::{
    invariant::InvariantId,
    judge::{FRESH_INTERVALS, ListTrust},
    observed::MachineState,
    pass::Pass,
    plan::{Action, DeleteBasis, EventKind},
    state::{Instance, Life},
};

/// How long an instance's agent may take to stop its work, and other agents to forget its names,
/// before its machine goes all the same: the default timeout of a hook (30 s), of the stop of a
/// workload (10 s), and the time to leave Consul (5 s).
pub const RETIRE_GRACE: Duration = Duration::from_secs(45);

pub(crate) fn step(pass: &mut Pass<'_>) {
    let retiring: Vec<(InstanceId, DeleteBasis)> = pass
        .state()
        .instances
        .iter()
        .filter_map(|(id, instance)| match &instance.life {
            Life::Retiring(basis) => Some((id.clone(), basis.clone())),
            Life::Making | Life::Up | Life::Draining(_) => None,
        })
        .collect();
    let retiring = pass.not_frozen(retiring, "no machine is removed");
    for (id, basis) in retiring {
        retire(pass, &id, basis);
    }
}

fn retire(pass: &mut Pass<'_>, id: &InstanceId, basis: DeleteBasis) {
    let Some(since) = pass.instance(id).map(|instance| instance.since) else {
        return;
    };
    // What was decided in this pass is not known to anybody yet.
    if since == pass.now {
        return;
    }
    if pass.left_alone(id) {
        pass.hold_lost_zone(id);
        return;
    }
    let waited = pass.now.since(since);
    let grace = since.after(RETIRE_GRACE);
    if pass.role_read(id) != CatalogueRole::Absent {
        pass.wait(format!("the entries of {id} to be removed"), waited, None);
        return;
    }
    let judgement = pass.judged(id);
    let stale = pass.observed.report_interval * FRESH_INTERVALS;
    let stopped = judgement.in_role || judgement.silent_for > stale;
    let ready = (stopped && pass.confirmed()) || grace.reached(pass.now);
    if !ready {
        let what = if stopped {
            format!("every live agent to forget {id}")
        } else {
            format!("{id} to stop its work")
        };
        pass.wait(what, waited, Some((grace, "its machine is deleted")));
        return;
    }
    let revoked = pass.seen(id).is_some_and(|seen| seen.revoked) || Mutant::KeepIdentity.lives();
    let absent = absent(pass, id, waited) || Mutant::ForgetMachine.lives();
    if revoked && absent {
        pass.change().instances.remove(id);
        let text = format!("nothing of {id} is left ({basis})");
        pass.event(Some(id), EventKind::InstanceGone, text);
        return;
    }
    // Which of them is the right one nobody here can tell, and a deleted one does not come back.
    let doubled = pass.seen(id).is_some_and(|seen| seen.doubled);
    // Also where the list lacks it: a list may be short, and an order that was given once is carried
    // out whatever the list says. It comes first, so that who is revoked was ordered to be deleted.
    if !doubled && (!absent || !revoked) {
        let action = Action::DeleteMachine {
            instance: id.clone(),
            provider: pass.state().spec.provider.clone(),
            basis,
        };
        pass.actions.push(action);
    }
    if !revoked {
        let instance = id.clone();
        pass.actions.push(Action::RevokeIdentity { instance });
    }
    if doubled {
        let what = format!("the machine of {id} is not deleted");
        let fact = "more than one carries its tag: delete by hand what is too many".to_owned();
        pass.hold(InvariantId::OneMachinePerIntent, what, fact);
        return;
    }
    let fault = pass.seen(id).and_then(|seen| seen.fault.as_ref());
    let fault = fault.map_or_else(String::new, |fault| {
        format!(
            "; its provider could not: {} (try {}, again in {:.0} s)",
            fault.message,
            fault.tries,
            fault.retry_in.as_secs_f64()
        )
    });
    let what = match (revoked, absent) {
        (true, _) => format!("the machine of {id} to be gone"),
        (false, true) => format!("the identity of {id} to be revoked"),
        (false, false) => format!("machine and identity of {id} to be gone"),
    };
    pass.wait(format!("{what}{fault}"), waited, None);
}

/// Whether an instance of an exclusive fleet may be at work: then a list that is not believed never
/// says that its machine is gone.
fn may_work(pass: &Pass<'_>, id: &InstanceId) -> bool {
    is_exclusive(pass) && pass.instance(id).is_some_and(Instance::may_work)
}

/// Whether a complete list that is younger than the order does not have the machine. One that is
/// not believed is no reason to leave the order to delete it out, so it counts only after
/// [`RETIRE_GRACE`] of such orders.
fn absent(pass: &Pass<'_>, id: &InstanceId, ordered_for: Duration) -> bool {
    let provider = &pass.state().spec.provider;
    let list = pass.observed.provider_lists.get(provider).copied();
    // What is still tried is not done, whatever the list says.
    let fault = pass.seen(id).and_then(|seen| seen.fault.as_ref());
    if fault.is_some_and(|fault| !fault.permanent) {
        return false;
    }
    let machine = pass.seen(id).and_then(|seen| seen.machine);
    let age = match machine.map(|machine| (machine.state, machine.age)) {
        Some((MachineState::Absent, _))
            if matches!(pass.list, ListTrust::Doubted { .. })
                && (ordered_for < RETIRE_GRACE || may_work(pass, id)) =>
        {
            None
        }
        Some((MachineState::Absent, age)) => Some(age),
        Some((
            MachineState::Creating
            | MachineState::Running
            | MachineState::Stopped
            | MachineState::Deleting,
            _,
        )) => None,
        None => list,
    };
    age.is_some_and(|age| age < ordered_for)
}
