//! What goes into the planner and what comes out.

mod words;

use std::{collections::BTreeMap, fmt};

use calvin_model::{CatalogueRole, FleetName, InstanceId, Mutant, Wanted, ZoneName};
use serde::{Deserialize, Serialize};

use crate::{
    PLANNER,
    by_id::with_seen,
    distrust::Doubts,
    environment::{EnvironmentRules, EnvironmentState, Freeze, Order},
    invariant::check,
    judge::{Answering, Distrust, ListTrust, PROVIDER_FRESH, returns},
    ledger::{Counts, Ledger},
    moment::Moment,
    observed::{
        CatalogueObserved, InstanceObserved, MachineObserved, MachineState, Observed,
        SessionObserved,
    },
    pass::Pass,
    report::FleetReport,
    state::{Build, FleetState, Instance, Life},
    step::{ImageVeto, plan_fleet},
    sums::list_is_short,
    turns::{turns, unready},
    wall::date,
};

/// All that a decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct PlanInput<'a> {
    /// The moment on the decision clock.
    pub now: Moment,
    /// Random number of this pass: new instance ids are made from it.
    pub seed: u64,
    /// Milliseconds since 1970 UTC. Only what people gave a date rests on it.
    pub wall_ms: u64,
    /// The durable state of the environment as a whole.
    pub environment: &'a EnvironmentState,
    /// What `calvin.toml` says.
    pub rules: &'a EnvironmentRules,
    /// The durable state of every fleet.
    pub fleets: &'a BTreeMap<FleetName, FleetState>,
    /// What is seen.
    pub observed: &'a Observed,
}

/// What to do now, for each fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "a plan that nobody carries out decides nothing"]
pub struct Plan {
    /// One entry for each fleet of the input.
    pub fleets: BTreeMap<FleetName, FleetPlan>,
    /// The next durable state of the environment as a whole, where it changes; to be committed with
    /// the fleets'.
    pub environment: Option<Box<EnvironmentState>>,
    /// What goes into the history about no fleet alone.
    pub events: Vec<Event>,
}

/// What to do now for one fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetPlan {
    /// The next durable state; to be committed, with `events`, before any action is carried out.
    pub next: Next,
    /// What the executor carries out. Every action is idempotent, and planned again until it is
    /// seen to be done.
    pub actions: Vec<Action>,
    /// What goes into the history.
    pub events: Vec<Event>,
    /// Entries that clients are not to find now, because they are freshly unhealthy or lost. Never
    /// on unknown, and never all: when many fail at once, the catalogue keeps them.
    pub hidden: Vec<InstanceId>,
    /// Nothing is to be shown to clients yet that they do not see from an earlier run: a switch that
    /// was decided there may never have been shown, and green was not heard since.
    pub names_wait: bool,
    /// What it waits for and what holds it back.
    pub report: FleetReport,
}

/// What becomes of a fleet's record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Next {
    /// Stays as it is.
    #[default]
    Same,
    /// Becomes this.
    Change(Box<FleetState>),
    /// Is removed: the fleet is deleted and nothing of it is left.
    Remove,
}

/// One thing to be done. Says everything: the executor chooses nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Make the machine of an instance whose intent is committed.
    CreateMachine {
        /// Which instance: the idempotency token.
        instance: InstanceId,
        /// Its fleet.
        fleet: FleetName,
        /// What to make it from.
        build: Build,
        /// On which provider.
        provider: String,
        /// In which zone; the provider chooses if none is named.
        #[serde(default)]
        zone: Option<ZoneName>,
    },
    /// Tell an agent its wanted state.
    SetWanted {
        /// Which instance.
        instance: InstanceId,
        /// What it is to be.
        wanted: Wanted,
    },
    /// Set the catalogue roles of a whole fleet, as one change.
    SetRoles {
        /// Which fleet.
        fleet: FleetName,
        /// Every instance of the fleet that is to have an entry, with its role.
        roles: BTreeMap<InstanceId, CatalogueRole>,
    },
    /// Revoke an instance's identity and close its streams, for good.
    RevokeIdentity {
        /// Which instance.
        instance: InstanceId,
    },
    /// Delete the machine of an instance.
    DeleteMachine {
        /// Which instance.
        instance: InstanceId,
        /// On which provider.
        provider: String,
        /// What gives the right to.
        basis: DeleteBasis,
    },
}

/// What gives the right to delete a machine. There is no other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeleteBasis {
    /// A rollout is through with it.
    Replaced,
    /// A rollout to it was given up.
    RolledBack,
    /// The fleet was made smaller.
    ScaledDown,
    /// The fleet is deleted, by an operator's order.
    FleetDeleted,
    /// An operator ordered its replacement.
    Ordered,
    /// Lost: by two sources of different kinds, at once; or by silence alone, that most others on the
    /// same path do not share, when another serves in its place.
    Lost,
    /// Its agent was gone for longer than `unmanaged_after`, and its replacement serves.
    Unmanaged,
    /// It never became healthy within its deadline.
    NeverHealthy,
    /// It was unhealthy for longer than `repair_after`, and its replacement serves, or nobody
    /// misses it.
    Unhealthy,
    /// A person says that its zone is lost: another is made elsewhere. It gives no right to delete:
    /// while the zone is lost, nothing there is removed.
    ZoneLost,
}

impl fmt::Display for DeleteBasis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Replaced => "replaced",
            Self::RolledBack => "rolled back",
            Self::ScaledDown => "scaled down",
            Self::FleetDeleted => "fleet deleted",
            Self::Ordered => "ordered by an operator",
            Self::Lost => "lost",
            Self::Unmanaged => "unmanaged",
            Self::NeverHealthy => "never healthy",
            Self::Unhealthy => "unhealthy",
            Self::ZoneLost => "its zone is lost",
        })
    }
}

/// One line of the history: a decision and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The fleet it is about, if one.
    pub fleet: Option<FleetName>,
    /// The instance it is about, if one.
    pub instance: Option<InstanceId>,
    /// What kind of thing happened, a fixed word such as `phase` or `instance_lost`.
    pub kind: EventKind,
    /// What was decided and on which facts, one sentence for people.
    pub text: String,
}

/// The kinds of history lines that the planner writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// An operator's command was taken.
    Command,
    /// A rollout started, changed its phase, or ended.
    Phase,
    /// An instance's intent was made.
    InstanceIntended,
    /// An instance became healthy for the first time.
    InstanceProven,
    /// An instance was given up: never healthy, lost or unmanaged.
    InstanceFailed,
    /// An instance drains, with its reason.
    InstanceDraining,
    /// An instance is being removed, with the basis.
    InstanceRetiring,
    /// Nothing of an instance is left.
    InstanceGone,
    /// The catalogue's roles were switched, or read back as switched.
    Switch,
    /// The planner began or stopped to hold something back.
    Hold,
    /// An instance's life, role or place in the catalogue changed.
    Role,
    /// Nothing was decided for a while: no coordinator ran, or its store could not be written.
    Away,
    /// What was left of an instance in the catalogue was taken out, or its access to it taken back.
    Catalogue,
}

/// What a catalogue says of a fleet that it does not know.
static UNREAD: CatalogueObserved = CatalogueObserved {
    roles: BTreeMap::new(),
    visible: Vec::new(),
    unconfirmed: Vec::new(),
    checks: BTreeMap::new(),
};

/// Decides the next moves of every fleet. Same input, same plan: no clock, no IO, no global state.
pub fn plan(input: &PlanInput<'_>) -> Plan {
    let (mut passes, mut ledger) = look(input);
    let mut plan = Plan::default();
    for turn in turns(&passes) {
        let Some(pass) = passes.get_mut(turn) else {
            continue;
        };
        pass.ledger = ledger;
        let next = plan_fleet(pass);
        ledger = std::mem::take(&mut pass.ledger);
        veto(input, std::mem::take(&mut pass.vetoes), &mut plan);
        plan.fleets.insert(pass.fleet.clone(), next);
    }
    end_freeze(input, &mut plan);
    debug_assert_eq!(check(input, &plan), Vec::new(), "a plan keeps every rule");
    plan
}

/// Vetoes images that failed again and again, in the planner's name.
fn veto(input: &PlanInput<'_>, vetoes: Vec<ImageVeto>, plan: &mut Plan) {
    for ImageVeto { image, reason } in vetoes {
        let environment = plan.environment.take();
        let mut environment = environment.unwrap_or_else(|| Box::new(input.environment.clone()));
        let order = Order {
            by: PLANNER.to_owned(),
            reason,
            wall_ms: input.wall_ms,
        };
        environment.vetoes.entry(image).or_insert(order);
        plan.environment = Some(environment);
    }
}

/// Ends the environment's freeze at its end.
fn end_freeze(input: &PlanInput<'_>, plan: &mut Plan) {
    let over = |freeze: &&Freeze| !freeze.holds(input.wall_ms);
    let Some(freeze) = input.environment.freeze.as_ref().filter(over) else {
        return;
    };
    let until = freeze.until_wall_ms.map(date).unwrap_or_default();
    plan.events.push(Event {
        fleet: None,
        instance: None,
        kind: EventKind::Hold,
        text: format!(
            "the freeze of the environment by {} is over: it was until {until}",
            freeze.order.by
        ),
    });
    let environment = plan.environment.take();
    let mut environment = environment.unwrap_or_else(|| Box::new(input.environment.clone()));
    environment.freeze = None;
    plan.environment = Some(environment);
}

/// Judges every instance of every fleet, and counts what all share.
pub(crate) fn look<'a>(input: &PlanInput<'a>) -> (Vec<Pass<'a>>, Ledger<'a>) {
    let answering = answering(input);
    let mut passes: Vec<Pass<'a>> = Vec::with_capacity(input.fleets.len());
    for (name, state) in input.fleets {
        let answering = answering.of(&state.spec.provider);
        let catalogue = input.observed.catalogue.get(name).unwrap_or(&UNREAD);
        passes.push(Pass::new(input, name, state, catalogue, answering));
    }
    let counts = Counts::of(input, input.fleets.iter());
    let ledger = Ledger::new(input.rules, counts, unready(input.fleets, &passes));
    (passes, ledger)
}

/// Who answers, over all fleets: whether silence is one machine's or the network's, and whether a
/// provider's list lacks one machine or most of them.
#[derive(Debug, Default)]
pub(crate) struct Answers<'a> {
    all: usize,
    alive: usize,
    returning: usize,
    /// By provider: what its list lacks.
    lists: BTreeMap<&'a str, Lacking>,
    distrust: Distrust,
}

impl Answers<'_> {
    /// As it concerns a fleet with this provider.
    pub(crate) fn of(&self, provider: &str) -> Answering {
        let list = self.lists.get(provider).copied().unwrap_or_default();
        Answering {
            all: self.all,
            alive: self.alive,
            returning: self.returning,
            list: list.trust(),
            distrust: self.distrust,
        }
    }
}

/// What a provider's list lacks of the machines that it is to have.
#[derive(Debug, Clone, Copy, Default)]
struct Lacking {
    /// Of those that were up or are draining: how many, of how many.
    up: (usize, usize),
    /// Of these, those that it was asked to make, and those that are being removed since the list: a
    /// machine is in every list from the request until it is gone.
    all: (usize, usize),
}

impl Lacking {
    fn count(&mut self, up: bool, machine: MachineObserved) {
        let absent = usize::from(machine.state == MachineState::Absent);
        self.all.0 += absent;
        self.all.1 += 1;
        if up {
            self.up.0 += absent;
            self.up.1 += 1;
        }
    }

    /// Where it lacks most of either: one that is up is no witness that the others are gone, nor
    /// is one that is being made.
    fn trust(self) -> ListTrust {
        let mut counts = [self.up, self.all].into_iter();
        let short = counts.find(|(lacks, of)| list_is_short(*lacks, *of));
        short.filter(|_| !Mutant::BelieveShortLists.lives()).map_or(
            ListTrust::Believed,
            |(lacks, of)| ListTrust::Doubted { lacks, of },
        )
    }
}

/// Counts who answers.
pub(crate) fn answering<'a>(input: &PlanInput<'a>) -> Answers<'a> {
    let mut answers = Answers::default();
    let mut doubts = Doubts::default();
    let watching_for = input.observed.watching_for;
    for fleet in input.fleets.values() {
        let list = answers.lists.entry(&fleet.spec.provider).or_default();
        for (id, instance, seen) in with_seen(fleet, input.observed) {
            if let Some(seen) = seen {
                doubts.count(input, fleet, id, instance, seen);
            }
            let alive = seen.is_some_and(|seen| matches!(seen.session, SessionObserved::Alive(_)));
            // What is silent in a zone that a person says is lost is no witness of anything.
            if !alive && input.environment.has_lost(instance.zone.as_ref()) {
                continue;
            }
            let up = instance.life == Life::Up;
            answers.all += usize::from(up);
            let Some(seen) = seen else {
                continue;
            };
            answers.alive += usize::from(up && alive);
            answers.returning += usize::from(there(instance) && returns(seen, watching_for));
            let machine = seen.machine.filter(|machine| machine.age <= PROVIDER_FRESH);
            if let Some(machine) =
                machine.filter(|machine| must_list(input, instance, seen, *machine))
            {
                list.count(there(instance), machine);
            }
        }
    }
    answers.distrust = doubts.distrust();
    answers
}

/// Whether an instance is up, or as one that is until it has drained.
fn there(instance: &Instance) -> bool {
    match instance.life {
        Life::Up | Life::Draining(_) => true,
        Life::Making | Life::Retiring(_) => false,
    }
}

/// Whether a provider's list must have a machine, if it is whole. One that is being made: when its
/// agent was heard, or the list is younger than the request and the provider did not refuse. One
/// that is being removed: when the list is older than that.
fn must_list(
    input: &PlanInput<'_>,
    instance: &Instance,
    seen: &InstanceObserved,
    machine: MachineObserved,
) -> bool {
    match instance.life {
        Life::Up | Life::Draining(_) => true,
        Life::Making => {
            let younger = machine.age < input.now.since(instance.created);
            seen.session != SessionObserved::Never || (seen.fault.is_none() && younger)
        }
        Life::Retiring(_) => machine.age > input.now.since(instance.since),
    }
}
