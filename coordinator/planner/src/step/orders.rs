//! Says what is to be carried out for what was decided, as long as it is not seen to be done.

use calvin_model::{CatalogueRole, Generation, InstanceId, Mutant};

use crate::{
    environment::FreezeScope,
    judge::{ListTrust, PROVIDER_FRESH},
    observed::{MachineState, SessionObserved},
    pass::Pass,
    plan::Action,
    state::{Instance, Life},
};

pub(crate) fn step(pass: &mut Pass<'_>) {
    let mut actions = Vec::new();
    let mut vetoed = Vec::new();
    let frozen = pass.frozen_beside(FreezeScope::All).is_some();
    for (id, instance) in &pass.state().instances {
        // Nothing is made in a zone that is lost.
        let to_make = instance.life == Life::Making && !made(pass, id) && !pass.zone_lost(instance);
        if to_make && pass.vetoed(&instance.build.image.tag).is_some() {
            vetoed.push(instance.build.clone());
        } else if to_make && (!frozen || pass.state().of_emergency(id)) {
            actions.push(Action::CreateMachine {
                instance: id.clone(),
                fleet: pass.fleet.clone(),
                build: instance.build.clone(),
                provider: pass.state().spec.provider.clone(),
                zone: instance.zone.clone(),
            });
        }
        if to_be_told(pass, id, instance) {
            actions.push(Action::SetWanted {
                instance: id.clone(),
                wanted: instance.wanted,
            });
        }
    }
    for build in vetoed {
        pass.may_make(&build);
    }
    actions.extend(roles(pass));
    // What takes away comes last: names first, then machines.
    actions.append(&mut pass.actions);
    pass.actions = actions;
}

/// Whether a machine is there, or never can be.
fn made(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let Some(seen) = pass.seen(id) else {
        return false;
    };
    let there = match seen.machine.map(|machine| machine.state) {
        Some(
            MachineState::Creating
            | MachineState::Running
            | MachineState::Stopped
            | MachineState::Deleting,
        ) => true,
        Some(MachineState::Absent) | None => false,
    };
    let known = there && !Mutant::AdoptNothing.lives();
    known || seen.fault.as_ref().is_some_and(|fault| fault.permanent)
}

/// Whether an agent listens and has not applied the newest wanted state.
fn to_be_told(pass: &Pass<'_>, id: &InstanceId, instance: &Instance) -> bool {
    let Some(seen) = pass.seen(id) else {
        return false;
    };
    let applied = seen
        .agent
        .as_ref()
        .map_or(Generation(0), |agent| agent.report.generation_applied);
    match seen.session {
        SessionObserved::Alive(_) => applied < instance.wanted.generation,
        SessionObserved::Never | SessionObserved::Ended(_) => false,
    }
}

/// The catalogue's roles, if it shows others. An entry needs an address: after a start they are
/// unknown until the provider has listed its machines, and until then nothing is changed.
fn roles(pass: &Pass<'_>) -> Option<Action> {
    let mut roles: Vec<(&InstanceId, CatalogueRole)> = Vec::new();
    let listed = pass
        .observed
        .provider_lists
        .contains_key(&pass.state().spec.provider);
    for (id, instance) in &pass.state().instances {
        if instance.catalogue == CatalogueRole::Absent {
            continue;
        }
        let machine = pass.seen(id).and_then(|seen| seen.machine);
        let address = machine.and_then(|machine| machine.address);
        // A list that is not believed, is old, or has more than one, takes no role away: who carries
        // this out may know the address from an earlier one, or waits for a later one.
        let fresh = machine.is_none_or(|machine| machine.age <= PROVIDER_FRESH);
        let doubled = pass.seen(id).is_some_and(|seen| seen.doubled);
        let believed = matches!(pass.list, ListTrust::Believed) && fresh && !doubled;
        if address.is_none() && believed && pass.role_read(id) == CatalogueRole::Absent {
            if !listed {
                return None;
            }
            continue;
        }
        roles.push((id, instance.catalogue));
    }
    // A catalogue that does not know the fleet yet is told so even of a fleet without entries: what
    // it published before this run may have some.
    let known = pass.observed.catalogue.contains_key(pass.fleet);
    let shown = pass.catalogue.roles.iter().map(|(id, role)| (id, *role));
    let same = roles.iter().copied().eq(shown);
    (!known || !same).then(|| Action::SetRoles {
        fleet: pass.fleet.clone(),
        roles: roles
            .into_iter()
            .map(|(id, role)| (id.clone(), role))
            .collect(),
    })
}
