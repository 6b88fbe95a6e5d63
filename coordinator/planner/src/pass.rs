//! One look at one fleet: what is judged, what is changed, what is said. The steps read and write
//! it in turn; each sees what the steps before it decided.

mod budget;
mod moves;
mod people;

use std::{collections::BTreeMap, time::Duration};

use calvin_model::{CatalogueRole, FleetName, InstanceId, Mutant};

use crate::{
    by_id::{ById, with_seen},
    environment::EnvironmentState,
    fnv::Fnv,
    invariant::InvariantId,
    judge::{Answering, Distrust, Judgement, ListTrust, judge},
    ledger::{Ledger, Shortage},
    moment::Moment,
    observed::{CatalogueObserved, InstanceObserved, Observed},
    plan::{Action, Event, EventKind, PlanInput},
    quorum::Members,
    report::{Blocked, Waiting},
    state::{FleetState, Instance, Rollout},
    step::{Guard, ImageVeto},
};

pub(crate) use moves::basis_of;
pub(crate) use people::{freeze_of, freeze_of_all, window_closed};

/// Whether a pass made or deleted anything that the budgets count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Granted {
    /// It did not.
    Nothing,
    /// It did.
    Some,
}

/// What is known of an instance whose record this pass found.
#[derive(Debug)]
struct Known<'a> {
    judgement: Judgement,
    seen: Option<&'a InstanceObserved>,
    /// How clients find it.
    role: CatalogueRole,
    visible: bool,
}

/// One look at one fleet.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    /// The moment on the decision clock.
    pub(crate) now: Moment,
    /// The fleet's name.
    pub(crate) fleet: &'a FleetName,
    /// What is seen.
    pub(crate) observed: &'a Observed,
    /// All that the plan rests on.
    pub(crate) input: PlanInput<'a>,
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
    /// Whether the provider's list is believed where it lacks a machine.
    pub(crate) list: ListTrust,
    /// Whether the coordinator has reasons to distrust its own eyes.
    pub(crate) distrust: Distrust,
    /// Images that are to be vetoed.
    pub(crate) vetoes: Vec<ImageVeto>,
    /// Why nothing is replaced for loss or ill health now, if so.
    pub(crate) guard: Option<Guard>,
    /// The environment as a whole.
    pub(crate) environment: &'a EnvironmentState,
    /// What all fleets share, and how much of it is left.
    pub(crate) ledger: Ledger<'a>,
    /// What could not be made or deleted in this pass, by reason, and how many.
    pub(crate) short: BTreeMap<Shortage, u32>,
    /// What the newest of these was refused for.
    pub(crate) refused: Option<Shortage>,
    /// Whether this pass made or deleted anything that the budgets count.
    pub(crate) granted: Granted,
    /// Agents that serve older names and are likely to come back.
    pub(crate) returning: usize,
    known: ById<'a, Known<'a>>,
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
        let mut known = ById::of(
            with_seen(before, input.observed).map(|(id, instance, seen)| {
                let known = Known {
                    judgement: judge(
                        instance,
                        silent_after,
                        seen,
                        input.observed,
                        answering,
                        input.now,
                    ),
                    seen,
                    role: CatalogueRole::default(),
                    visible: false,
                };
                (id, known)
            }),
        );
        for (id, role) in &catalogue.roles {
            if let Some(known) = known.get_mut(id) {
                known.role = *role;
            }
        }
        for id in &catalogue.visible {
            if let Some(known) = known.get_mut(id) {
                known.visible = true;
            }
        }
        let seed = Fnv::new().number(input.seed).text(fleet.as_str()).finish();
        Self {
            now: input.now,
            fleet,
            observed: input.observed,
            input: *input,
            catalogue,
            actions: Vec::new(),
            events: Vec::new(),
            waiting: Vec::new(),
            blocked: Vec::new(),
            hidden: Vec::new(),
            list: answering.list,
            distrust: answering.distrust,
            vetoes: Vec::new(),
            guard: None,
            environment: input.environment,
            ledger: Ledger::default(),
            short: BTreeMap::new(),
            refused: None,
            granted: Granted::Nothing,
            returning: answering.returning,
            known,
            before,
            changed: None,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// The state, with what this pass has changed so far.
    pub(crate) fn state(&self) -> &FleetState {
        self.changed.as_deref().unwrap_or(self.before)
    }

    /// The state as this pass found it.
    pub(crate) fn before(&self) -> &'a FleetState {
        self.before
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
        let known = self.known.get(id);
        known.map_or(Judgement::NOTHING, |known| known.judgement)
    }

    /// Whether an instance is known to fail, or was and nothing better is known since.
    pub(crate) fn fails(&self, id: &InstanceId) -> bool {
        let judgement = self.judged(id);
        judgement.failing() || self.state().failed.contains(id) && !judgement.serves()
    }

    /// How long an instance that flapped must still be healthy before clients find it again.
    pub(crate) fn backs_off(&self, id: &InstanceId) -> Option<Duration> {
        self.state().repairs.backs_off(id, self.judged(id))
    }

    /// What is seen of an instance.
    pub(crate) fn seen(&self, id: &InstanceId) -> Option<&'a InstanceObserved> {
        match self.known.get(id) {
            Some(known) => known.seen,
            None => self.observed.instances.get(id),
        }
    }

    /// How clients find an instance now.
    pub(crate) fn role_read(&self, id: &InstanceId) -> CatalogueRole {
        match self.known.get(id) {
            Some(known) => known.role,
            None => self.catalogue.roles.get(id).copied().unwrap_or_default(),
        }
    }

    /// Whether an instance is found by clients in the role that it is to have, and every live
    /// agent serves that. Images without services have no names that anybody looks up.
    pub(crate) fn read_back(&self, id: &InstanceId) -> bool {
        let Some(instance) = self.instance(id) else {
            return true;
        };
        if !instance.build.services || Mutant::SkipReadback.lives() {
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
        match self.known.get(id) {
            Some(known) => known.visible,
            None => self.catalogue.visible.contains(id),
        }
    }

    /// Whether every agent that lives, as far as can be seen, serves the newest names. One whose
    /// session has just ended, above all because this coordinator has just started, does not yet,
    /// and its clients would still look for what is about to go.
    pub(crate) fn confirmed(&self) -> bool {
        // A catalogue that was not read yet in this run says nothing; above all not that a name is
        // gone.
        let read = self.observed.catalogue.contains_key(self.fleet);
        read && self.catalogue.unconfirmed.is_empty() && self.returning == 0
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

    /// How many serve and are found: their entries were read back in this run. What is only to be
    /// found is no reason to let another go, be it that its machine is not listed yet.
    pub(crate) fn found_serving(&self) -> usize {
        let instances = self.state().instances.iter();
        instances
            .filter(|(id, instance)| {
                let found = !instance.build.services || self.visible(id);
                found && self.counts_as_serving(id, instance)
            })
            .count()
    }

    /// Whether a person says that an instance's zone is lost.
    pub(crate) fn zone_lost(&self, instance: &Instance) -> bool {
        self.input.environment.has_lost(instance.zone.as_ref())
    }

    /// How many are found as active, and how many of these are known to fail.
    pub(crate) fn active_and_failing(&self) -> (usize, usize) {
        let instances = self.state().instances.iter();
        let active = instances.filter(|(_, one)| one.catalogue == CatalogueRole::Active);
        active.fold((0, 0), |(all, failing), (id, _)| {
            (all + 1, failing + usize::from(self.fails(id)))
        })
    }

    /// Writes a line of the history.
    pub(crate) fn event(&mut self, instance: Option<&InstanceId>, kind: EventKind, text: String) {
        self.events.push(Event {
            fleet: Some(self.fleet.clone()),
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

impl Members for Pass<'_> {
    fn judged(&self, id: &InstanceId) -> Judgement {
        Pass::judged(self, id)
    }

    fn seen(&self, id: &InstanceId) -> Option<&InstanceObserved> {
        Pass::seen(self, id)
    }

    fn now(&self) -> Moment {
        self.now
    }
}
