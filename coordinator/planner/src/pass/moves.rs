//! What a step can change: intents, wanted roles, entries, lives and the phase of the rollout. Each
//! does nothing where there is nothing to change, so that a plan that changes nothing says so.

use calvin_model::{
    CatalogueRole, DrainOrder, DrainReason, Generation, InstanceId, Mutant, Role, Wanted,
};

use super::Pass;
use crate::{
    phase::Phase,
    plan::{DeleteBasis, EventKind},
    state::{Build, Instance, Life, Purpose},
    transition::{Cause, transition},
};

impl Pass<'_> {
    /// Records the intent of a new instance.
    pub(crate) fn create(&mut self, build: Build, purpose: Purpose, why: &str) -> InstanceId {
        let mut id = InstanceId::new(self.fleet, self.random.u64(..));
        while self.state().instances.contains_key(&id) {
            id = InstanceId::new(self.fleet, self.random.u64(..));
        }
        let text = format!("{id} is to be made from {}: {why}", build.image);
        self.event(Some(&id), EventKind::InstanceIntended, text);
        let now = self.now;
        let instance = Instance {
            build,
            purpose,
            life: Life::Making,
            since: now,
            created: now,
            wanted: Wanted {
                generation: Generation(1),
                role: Role::Standby,
                drain: None,
            },
            wanted_since: now,
            catalogue: CatalogueRole::Absent,
            proven: false,
            replace: None,
            zone: None,
        };
        self.change().instances.insert(id.clone(), instance);
        id
    }

    /// Wants another role of an instance; the generation grows only if that is a change.
    pub(crate) fn want(&mut self, id: &InstanceId, role: Role, drain: Option<DrainOrder>) {
        let Some(wanted) = self.instance(id).map(|instance| instance.wanted) else {
            return;
        };
        if wanted.role == role && wanted.drain == drain {
            return;
        }
        let now = self.now;
        if let Some(instance) = self.change().instances.get_mut(id) {
            instance.wanted = Wanted {
                generation: if Mutant::KeepGeneration.lives() {
                    wanted.generation
                } else {
                    wanted.generation.next()
                },
                role,
                drain,
            };
            instance.wanted_since = now;
        }
    }

    /// Gives an instance another role in the catalogue.
    pub(crate) fn place(&mut self, id: &InstanceId, role: CatalogueRole) {
        if self
            .instance(id)
            .is_some_and(|found| found.catalogue != role)
            && let Some(instance) = self.change().instances.get_mut(id)
        {
            instance.catalogue = role;
        }
    }

    /// Begins another part of an instance's life.
    pub(crate) fn live(&mut self, id: &InstanceId, life: Life) {
        let now = self.now;
        if self.instance(id).is_some_and(|found| found.life != life)
            && let Some(instance) = self.change().instances.get_mut(id)
        {
            instance.life = life;
            instance.since = now;
        }
    }

    /// Lets an instance leave: first its names, then its work, then its machine.
    pub(crate) fn leave(&mut self, id: &InstanceId, reason: DrainReason, why: &str) {
        let Some(instance) = self.instance(id) else {
            return;
        };
        match instance.life {
            Life::Draining(_) | Life::Retiring(_) => return,
            Life::Making => {
                self.retire(id, basis_of(reason, instance.replace.as_ref()), why);
                return;
            }
            Life::Up => {}
        }
        let found = match instance.catalogue {
            CatalogueRole::Absent | CatalogueRole::Standby => Found::Nowhere,
            CatalogueRole::Entered | CatalogueRole::Active => Found::ByClients,
        };
        self.live(id, Life::Draining(reason));
        self.place(id, CatalogueRole::Absent);
        if found == Found::Nowhere {
            self.tell_to_drain(id, reason);
        }
        self.event(
            Some(id),
            EventKind::InstanceDraining,
            format!("{id} leaves: {why}"),
        );
    }

    /// Tells an instance whose names are gone to finish what it has.
    pub(crate) fn tell_to_drain(&mut self, id: &InstanceId, reason: DrainReason) {
        let timeout = self.state().spec.drain.timeout.0;
        self.want(id, Role::Draining, Some(DrainOrder { reason, timeout }));
    }

    /// Begins to remove an instance's entries, identity and machine.
    pub(crate) fn retire(&mut self, id: &InstanceId, basis: DeleteBasis, why: &str) {
        let retiring = |instance: &Instance| matches!(instance.life, Life::Retiring(_));
        if self.instance(id).is_none_or(retiring) {
            return;
        }
        let text = format!("{id} is removed ({basis}): {why}");
        self.event(Some(id), EventKind::InstanceRetiring, text);
        self.live(id, Life::Retiring(basis));
        self.place(id, CatalogueRole::Absent);
        self.want(id, Role::Retired, None);
    }

    /// Moves the running rollout on. A cause that the table does not know in this phase changes
    /// nothing: the table decides, not the step.
    pub(crate) fn go(&mut self, cause: Cause, why: &str) {
        let now = self.now;
        let Some(rollout) = self.state().rollout.as_ref() else {
            return;
        };
        let (id, from) = (rollout.id.clone(), rollout.phase);
        let next = transition(Some(from), cause);
        debug_assert!(next.is_ok(), "{next:?}");
        let Ok(to) = next else {
            return;
        };
        if let Some(rollout) = &mut self.change().rollout {
            rollout.phase = to;
            rollout.phase_since = now;
        }
        if from != to {
            let text = format!("{id}: {from} -> {to}: {why}");
            self.event(None, EventKind::Phase, text);
        }
    }

    /// Notes that the rollout goes back or is given up, and why. Without anything to go back to
    /// it fails.
    pub(crate) fn go_back(&mut self, why: &str) {
        let Some(rollout) = self.running() else {
            return;
        };
        let cause = match (&rollout.from, rollout.phase) {
            (
                None,
                Phase::Provisioning | Phase::Soaking | Phase::AwaitingSwitch | Phase::Switching,
            ) => Cause::GivenUp,
            (
                _,
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
                | Phase::Retiring
                | Phase::RollingBack
                | Phase::Done
                | Phase::RolledBack
                | Phase::Failed,
            ) => Cause::GoBack,
        };
        if let Some(rollout) = &mut self.change().rollout {
            rollout.reason = Some(why.to_owned());
        }
        self.go(cause, why);
    }
}

/// Whether clients may still hold an instance's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nowhere,
    ByClients,
}

/// What gives the right to delete a machine that drains for a reason.
pub(crate) fn basis_of(reason: DrainReason, replace: Option<&DeleteBasis>) -> DeleteBasis {
    match reason {
        DrainReason::Replaced => DeleteBasis::Replaced,
        DrainReason::RolledBack => DeleteBasis::RolledBack,
        DrainReason::ScaledDown => DeleteBasis::ScaledDown,
        DrainReason::FleetDeleted => DeleteBasis::FleetDeleted,
        DrainReason::Repaired => replace.cloned().unwrap_or(DeleteBasis::Ordered),
    }
}
