//! What a step can change: intents, wanted roles, entries, lives and the phase of the rollout. Each
//! does nothing where there is nothing to change, so that a plan that changes nothing says so.

use calvin_model::{
    CatalogueRole, DrainOrder, DrainReason, Generation, InstanceId, Mutant, Role, Wanted,
    fleet::FleetKind,
};

use super::Pass;
use crate::{
    exclusive::other_at_work,
    invariant::InvariantId,
    ledger::{Claim, Shortage},
    phase::Phase,
    plan::{DeleteBasis, EventKind},
    quorum::{When, keeps},
    spread::{Place, Spread},
    state::{Build, Instance, Life, Purpose},
    transition::{Cause, WhilePaused, transition, while_paused},
};

impl Pass<'_> {
    /// Records the intent of a new instance that nothing was reserved for: one in the place of
    /// another in the same zone, others in the zone that has the fewest. `None` while a budget, or
    /// the room that there is, does not allow it.
    pub(crate) fn create(
        &mut self,
        build: Build,
        purpose: Purpose,
        why: &str,
    ) -> Option<InstanceId> {
        let place = self.place_for(&purpose);
        self.create_at(build, purpose, why, Claim::New, place)
    }

    /// Where an instance is made for this purpose.
    pub(crate) fn place_for(&self, purpose: &Purpose) -> Place {
        let state = self.state();
        let mut spread = Spread::of(state, self.environment, |_| true);
        match purpose {
            Purpose::Repair(old) => {
                let zone = state.instances.get(old).map(|one| one.zone.as_ref());
                let owed = || state.owed.get(old).and_then(|one| one.zone.as_ref());
                spread.same_or_next(zone.unwrap_or_else(owed))
            }
            Purpose::Rollout(_) | Purpose::Scale => spread.next(),
        }
    }

    /// Records the intent of a new instance. `None` while a budget, or the room that there is, does
    /// not allow it: then the report says so.
    pub(crate) fn create_at(
        &mut self,
        build: Build,
        purpose: Purpose,
        why: &str,
        claim: Claim,
        place: Place,
    ) -> Option<InstanceId> {
        let zone = match place {
            Place::In(zone) => zone,
            Place::Nowhere => {
                self.is_short(Shortage::Zones);
                return None;
            }
        };
        if !self.take(claim) {
            return None;
        }
        let mut id = InstanceId::new(self.fleet, self.random.u64(..));
        while self.state().instances.contains_key(&id) {
            id = InstanceId::new(self.fleet, self.random.u64(..));
        }
        let place = zone
            .as_ref()
            .map_or_else(String::new, |zone| format!(" in zone {zone}"));
        let text = format!("{id} is to be made{place} from {}: {why}", build.image);
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
            zone,
            protected: None,
            at_work: false,
            ordered: None,
        };
        self.change().instances.insert(id.clone(), instance);
        Some(id)
    }

    /// Wants another role of an instance; the generation grows only if that is a change. In an
    /// exclusive fleet nobody is wanted active while another may be at work.
    pub(crate) fn want(&mut self, id: &InstanceId, role: Role, drain: Option<DrainOrder>) {
        let Some(wanted) = self.instance(id).map(|instance| instance.wanted) else {
            return;
        };
        if wanted.role == role && wanted.drain == drain {
            return;
        }
        if role == Role::Active && other_at_work(self.state(), id).is_some() {
            return;
        }
        let now = self.now;
        let works = role == Role::Active && self.state().spec.kind == FleetKind::Exclusive;
        if let Some(instance) = self.change().instances.get_mut(id) {
            instance.at_work |= works;
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

    /// Gives an instance another role in the catalogue. In an exclusive fleet only the one that is
    /// at work is found by clients.
    pub(crate) fn place(&mut self, id: &InstanceId, role: CatalogueRole) {
        let rises = self.instance(id).is_some_and(|one| one.catalogue < role);
        if rises && role >= CatalogueRole::Entered && self.must_not_enter(id) {
            return;
        }
        if self
            .instance(id)
            .is_some_and(|found| found.catalogue != role)
            && let Some(instance) = self.change().instances.get_mut(id)
        {
            instance.catalogue = role;
        }
    }

    fn must_not_enter(&self, id: &InstanceId) -> bool {
        match self.state().spec.kind {
            FleetKind::Service | FleetKind::Quorum => false,
            FleetKind::Exclusive => {
                let told = |one: &Instance| one.wanted.role == Role::Active;
                !self.instance(id).is_some_and(told) || other_at_work(self.state(), id).is_some()
            }
        }
    }

    /// Begins another part of an instance's life.
    pub(crate) fn live(&mut self, id: &InstanceId, life: Life) {
        let now = self.now;
        if self.instance(id).is_none_or(|found| found.life == life) {
            return;
        }
        if let Some(instance) = self.change().instances.get_mut(id) {
            instance.life = life;
            instance.since = now;
        }
    }

    /// Lets an instance leave: first its names, then its work, then its machine.
    pub(crate) fn leave(&mut self, id: &InstanceId, reason: DrainReason, why: &str) {
        let stays = |instance: &Instance| !instance.leaving();
        if self.instance(id).is_some_and(stays) && self.keeps_hands_off(id, "stays") {
            return;
        }
        let Some(instance) = self.instance(id) else {
            return;
        };
        let (life, catalogue) = (instance.life.clone(), instance.catalogue);
        let replace = instance.replace.clone();
        match life {
            Life::Draining(_) | Life::Retiring(_) => return,
            // In a lost zone it drains until that is found: nothing there is removed. So does one for
            // which the budget of deletions is used up: its machine may be there already.
            Life::Making if self.left_alone(id) || !self.may_remove(reason) => {}
            Life::Making => {
                self.retire(id, basis_of(reason, replace.as_ref()), why);
                return;
            }
            Life::Up => {}
        }
        if self.must_stay(id, why) {
            return;
        }
        let found = match catalogue {
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

    /// Whether the budget of deletions allows that one that was not up yet goes at once.
    fn may_remove(&mut self, reason: DrainReason) -> bool {
        match reason {
            DrainReason::Replaced | DrainReason::ScaledDown | DrainReason::Repaired => {
                self.may_delete(0)
            }
            DrainReason::RolledBack | DrainReason::FleetDeleted => true,
        }
    }

    /// Whether an instance must stay, because the others of its quorum could not do without it; says so.
    pub(crate) fn must_stay(&mut self, id: &InstanceId, why: &str) -> bool {
        self.must_stay_when(When::Now, id, why)
    }

    /// The same, for one that leaves later.
    pub(crate) fn must_stay_when(&mut self, when: When, id: &InstanceId, why: &str) -> bool {
        let Some(fact) = keeps(self.state(), id, when, self) else {
            return false;
        };
        let what = format!("{id} stays ({why})");
        self.hold(InvariantId::QuorumOneAtATime, what, fact);
        true
    }

    /// Tells an instance whose names are gone to finish what it has.
    pub(crate) fn tell_to_drain(&mut self, id: &InstanceId, reason: DrainReason) {
        let timeout = self.state().spec.drain.timeout.0;
        self.want(id, Role::Draining, Some(DrainOrder { reason, timeout }));
    }

    /// Begins to remove an instance's entries, identity and machine.
    pub(crate) fn retire(&mut self, id: &InstanceId, basis: DeleteBasis, why: &str) {
        let retiring = |instance: &Instance| matches!(instance.life, Life::Retiring(_));
        if self.instance(id).is_none_or(retiring) || self.keeps_hands_off(id, "stays") {
            return;
        }
        if self.left_alone(id) {
            self.hold_lost_zone(id);
            return;
        }
        let text = format!("{id} is removed ({basis}): {why}");
        self.event(Some(id), EventKind::InstanceRetiring, text);
        self.count_deletion();
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
        let paused = rollout.paused.is_some() && while_paused(cause) == WhilePaused::Held;
        debug_assert!(!paused, "{id} is paused: {cause}");
        if paused {
            return;
        }
        let next = transition(Some(from), cause);
        debug_assert!(next.is_ok(), "{next:?}");
        let Ok(to) = next else {
            return;
        };
        if let Some(rollout) = &mut self.change().rollout {
            rollout.phase = to;
            rollout.phase_since = now;
            match to {
                // A pause holds what goes on; what goes back or has ended does not.
                Phase::RollingBack | Phase::Done | Phase::RolledBack | Phase::Failed => {
                    rollout.paused = None;
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
                | Phase::Retiring => {}
            }
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
        self.blame_greens();
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
