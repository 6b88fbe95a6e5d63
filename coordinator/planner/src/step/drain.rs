//! Draining: an instance that leaves is first no longer found, then told to finish, then removed.
//! An agent that is gone never keeps it.

use std::collections::BTreeSet;

use calvin_model::{DrainReason, InstanceId, Mutant, Role, fleet::OnDrainTimeout};

use crate::{
    invariant::InvariantId,
    judge::Loss,
    pass::{Pass, basis_of},
    phase::Phase,
    state::Life,
};

/// How far an instance that leaves is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Drained {
    /// It has finished, or can no longer.
    Done,
    /// It is at it, within its time.
    Waits,
    /// Its time is up, and it says that something is left.
    TimedOut(String),
}

pub(crate) fn step(pass: &mut Pass<'_>) {
    let of_wave: BTreeSet<InstanceId> = match pass.running() {
        // The rollout's own step removes the wave's blue: as one, or to make room.
        Some(rollout) if rollout.phase == Phase::Draining || rollout.phase == Phase::MakingRoom => {
            rollout.sets.blue.iter().cloned().collect()
        }
        Some(_) | None => BTreeSet::new(),
    };
    let draining: Vec<(InstanceId, DrainReason)> = pass
        .state()
        .instances
        .iter()
        .filter_map(|(id, instance)| match instance.life {
            Life::Draining(reason) if !of_wave.contains(id) => Some((id.clone(), reason)),
            Life::Draining(_) | Life::Making | Life::Up | Life::Retiring(_) => None,
        })
        .collect();
    let draining = pass.not_frozen(draining, "what drains is not removed");
    for (id, reason) in draining {
        let why = match drained(pass, &id) {
            Drained::Waits => continue,
            Drained::Done => "it has finished what it had".to_owned(),
            Drained::TimedOut(left) => match pass.state().spec.drain.on_timeout {
                OnDrainTimeout::Hold if !Mutant::ForceDrainOnHold.lives() => continue,
                // There is nothing to go back to for a single instance.
                OnDrainTimeout::Force | OnDrainTimeout::Back | OnDrainTimeout::Hold => {
                    format!("its time to drain is up: {left}")
                }
            },
        };
        let replace = pass.instance(&id).and_then(|found| found.replace.clone());
        let held = match reason {
            DrainReason::Replaced | DrainReason::ScaledDown | DrainReason::Repaired => {
                !pass.may_delete(0)
            }
            DrainReason::RolledBack | DrainReason::FleetDeleted => false,
        };
        // Until its machine is gone it votes; another may have failed since it was told to leave.
        let asked = reason == DrainReason::ScaledDown || reason == DrainReason::Repaired;
        if held || asked && pass.must_stay(&id, &why) {
            continue;
        }
        pass.retire(&id, basis_of(reason, replace.as_ref()), &why);
    }
}

/// Moves one instance on, and says how far it is.
pub(crate) fn drained(pass: &mut Pass<'_>, id: &InstanceId) -> Drained {
    let Some(instance) = pass.instance(id) else {
        return Drained::Done;
    };
    let reason = match instance.life {
        Life::Retiring(_) => return Drained::Done,
        Life::Making | Life::Up => return Drained::Waits,
        Life::Draining(reason) => reason,
    };
    let judgement = pass.judged(id);
    if judgement.loss == Loss::TwoSources {
        return Drained::Done;
    }
    if instance.wanted.role != Role::Draining {
        lose_names(pass, id, reason);
        return Drained::Waits;
    }
    let told = instance.wanted_since;
    let report = pass.seen(id).and_then(|seen| seen.agent.as_ref());
    let progress = report.and_then(|agent| agent.report.drain);
    // What it said before it was told now is about an earlier order.
    let heard = told < pass.now && judgement.in_role;
    if heard && progress.is_some_and(|progress| progress.done) {
        return Drained::Done;
    }
    let left = progress
        .and_then(|progress| progress.connections)
        .map_or_else(
            || "it has not said that nothing is left".to_owned(),
            |connections| format!("{connections} connections are open"),
        );
    let until = told.after(pass.state().spec.drain.timeout.0);
    let policy = pass.state().spec.drain.on_timeout;
    if !until.reached(pass.now) {
        let then = match policy {
            OnDrainTimeout::Force => "it is removed all the same",
            OnDrainTimeout::Hold => "it waits for a person",
            OnDrainTimeout::Back => "the rollout goes back",
        };
        let what = format!("{id} to drain: {left}");
        pass.wait(what, pass.now.since(told), Some((until, then)));
        return Drained::Waits;
    }
    // An agent that has been gone for so long will not say it any more. One that is silent for a
    // moment, as all are after a start of the coordinator, may.
    if judgement.silent_for > pass.state().spec.repair.silent_after.0 {
        return Drained::Done;
    }
    if policy == OnDrainTimeout::Hold {
        let what = format!("{id} is not removed: its time to drain is up");
        pass.hold(InvariantId::PolicyHolds, what, left.clone());
    }
    Drained::TimedOut(left)
}

/// Tells an instance to drain once nobody finds it, and those who know it from before had time.
fn lose_names(pass: &mut Pass<'_>, id: &InstanceId, reason: DrainReason) {
    let since = pass
        .instance(id)
        .map_or(pass.now, |instance| instance.since);
    let policy = &pass.state().spec.replace;
    let settled = since.after(policy.settle.0);
    let latest = settled.after(policy.settle_max.0);
    let gone = settled.reached(pass.now) && pass.read_back(id);
    if gone || latest.reached(pass.now) {
        pass.tell_to_drain(id, reason);
        return;
    }
    let (at, what) = if settled.reached(pass.now) {
        (latest, format!("every live agent to forget {id}"))
    } else {
        (settled, format!("clients that know {id} from before"))
    };
    pass.wait(what, pass.now.since(since), Some((at, "it drains")));
}
