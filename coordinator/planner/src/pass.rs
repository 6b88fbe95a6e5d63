//! One look at one fleet: what is judged, what is changed, what is said. The steps read and write
//! it in turn; each sees what the steps before it decided.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use calvin_model::{
    CatalogueRole, DrainOrder, DrainReason, FleetName, Generation, InstanceId, Role, Wanted,
};

use crate::{
    fnv::Fnv,
    invariant::InvariantId,
    judge::{Answering, Judgement, judge},
    moment::Moment,
    observed::{CatalogueObserved, InstanceObserved, Observed},
    phase::Phase,
    plan::{Action, DeleteBasis, Event, EventKind, PlanInput},
    report::{Blocked, Waiting},
    state::{Build, FleetState, Instance, Life, Purpose, Rollout},
    transition::{Cause, transition},
};

/// One look at one fleet.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    /// The moment on the decision clock.
    pub(crate) now: Moment,
    /// The fleet's name.
    pub(crate) fleet: &'a FleetName,
    /// What is seen.
    pub(crate) observed: &'a Observed,
    /// What the catalogue shows of the fleet.
    pub(crate) catalogue: &'a CatalogueObserved,
    /// What is to be carried out.
    pub(crate) actions: Vec<Action>,
    /// What goes into the history.
    pub(crate) events: Vec<Event>,
    /// What is waited for.
    pub(crate) waiting: Vec<Waiting>,
    /// What is held back.
    pub(crate) blocked: Vec<(InvariantId, Blocked)>,
    /// Entries that clients are not to find.
    pub(crate) hidden: Vec<InstanceId>,
    visible: BTreeSet<&'a InstanceId>,
    judged: BTreeMap<&'a InstanceId, Judgement>,
    before: &'a FleetState,
    changed: Option<Box<FleetState>>,
    random: fastrand::Rng,
}

impl<'a> Pass<'a> {
    /// Judges every instance of the fleet.
    pub(crate) fn new(
        input: &PlanInput<'a>,
        fleet: &'a FleetName,
        before: &'a FleetState,
        catalogue: &'a CatalogueObserved,
        answering: Answering,
    ) -> Self {
        let silent_after = before.spec.repair.silent_after.0;
        let mut judged = BTreeMap::new();
        for (id, instance) in &before.instances {
            let seen = input.observed.instances.get(id);
            let judgement = judge(instance, silent_after, seen, input.observed, answering);
            judged.insert(id, judgement);
        }
        let seed = Fnv::new().number(input.seed).text(fleet.as_str()).finish();
        Self {
            now: input.now,
            fleet,
            observed: input.observed,
            catalogue,
            actions: Vec::new(),
            events: Vec::new(),
            waiting: Vec::new(),
            blocked: Vec::new(),
            hidden: Vec::new(),
            visible: catalogue.visible.iter().collect(),
            judged,
            before,
            changed: None,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// The state, with what this pass has changed so far.
    pub(crate) fn state(&self) -> &FleetState {
        self.changed.as_deref().unwrap_or(self.before)
    }

    /// The state, to be changed.
    pub(crate) fn change(&mut self) -> &mut FleetState {
        self.changed
            .get_or_insert_with(|| Box::new(self.before.clone()))
    }

    /// The state as this pass leaves it, if it differs from what it found.
    pub(crate) fn take_change(&mut self) -> Option<Box<FleetState>> {
        self.changed.take().filter(|after| **after != *self.before)
    }

    /// The running rollout.
    pub(crate) fn running(&self) -> Option<&Rollout> {
        self.state().running()
    }

    /// One instance, unless its record is gone.
    pub(crate) fn instance(&self, id: &InstanceId) -> Option<&Instance> {
        self.state().instances.get(id)
    }

    /// How an instance is judged; one that was made in this pass, as one of which nothing is seen.
    pub(crate) fn judged(&self, id: &InstanceId) -> Judgement {
        self.judged.get(id).copied().unwrap_or(Judgement::NOTHING)
    }

    /// What is seen of an instance.
    pub(crate) fn seen(&self, id: &InstanceId) -> Option<&'a InstanceObserved> {
        self.observed.instances.get(id)
    }

    /// How clients find an instance now.
    pub(crate) fn role_read(&self, id: &InstanceId) -> CatalogueRole {
        self.catalogue.roles.get(id).copied().unwrap_or_default()
    }

    /// Whether an instance is found by clients in the role that it is to have, and every live
    /// agent serves that. Images without services have no names that anybody looks up.
    pub(crate) fn read_back(&self, id: &InstanceId) -> bool {
        let Some(instance) = self.instance(id) else {
            return true;
        };
        if !instance.build.services {
            return true;
        }
        let visible = match instance.catalogue {
            CatalogueRole::Absent | CatalogueRole::Standby => true,
            CatalogueRole::Entered | CatalogueRole::Active => self.visible(id),
        };
        self.role_read(id) == instance.catalogue && visible && self.confirmed()
    }

    /// Whether clients find an instance's entry.
    pub(crate) fn visible(&self, id: &InstanceId) -> bool {
        self.visible.contains(id)
    }

    /// Whether every live agent serves the newest names.
    pub(crate) fn confirmed(&self) -> bool {
        self.catalogue.unconfirmed.is_empty()
    }

    /// Whether an instance is found as active, stays, and answers as far as can be seen.
    pub(crate) fn counts_as_serving(&self, id: &InstanceId, instance: &Instance) -> bool {
        !instance.leaving()
            && instance.catalogue == CatalogueRole::Active
            && self.judged(id).serves()
    }

    /// How many serve.
    pub(crate) fn serving(&self) -> usize {
        let instances = self.state().instances.iter();
        instances
            .filter(|(id, instance)| self.counts_as_serving(id, instance))
            .count()
    }

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
                generation: wanted.generation.next(),
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
            (None, Phase::Provisioning | Phase::Soaking | Phase::Switching) => Cause::GivenUp,
            (
                _,
                Phase::Provisioning
                | Phase::Soaking
                | Phase::Switching
                | Phase::Settling
                | Phase::Baking
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

    /// Writes a line of the history.
    pub(crate) fn event(&mut self, instance: Option<&InstanceId>, kind: EventKind, text: String) {
        self.events.push(Event {
            fleet: self.fleet.clone(),
            instance: instance.cloned(),
            kind,
            text,
        });
    }

    /// Says what is waited for.
    pub(crate) fn wait(&mut self, what: String, since: Duration, until: Option<(Moment, &str)>) {
        let until = until.map(|(at, then)| (at.left(self.now), then.to_owned()));
        self.waiting.push(Waiting { what, since, until });
    }

    /// Says what is held back, by which rule.
    pub(crate) fn hold(&mut self, rule: InvariantId, what: String, fact: String) {
        let rule_name = rule.to_string();
        let blocked = Blocked {
            what,
            rule: rule_name,
            fact,
        };
        self.blocked.push((rule, blocked));
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
