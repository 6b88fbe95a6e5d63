//! The rules that no plan may break, by name. They live once: a report that says why something is
//! held back names one, and the same functions check every plan in debug builds, in property
//! tests and in the simulator.

mod budget;
mod capacity;
mod exclusive;
mod people;
mod quorum;
mod removal;
mod repair;
mod rollout;
mod view;
mod zone;

use std::fmt;

use calvin_model::FleetName;
use serde::{Deserialize, Serialize};

use crate::plan::{Plan, PlanInput, answering};
use view::View;

/// Makes the rules from one table: names, documentation and words cannot drift apart.
macro_rules! invariants {
    ($($name:ident: $rule:literal,)*) => {
        /// A rule that no plan may break.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum InvariantId {
            $(#[doc = $rule] $name,)*
        }

        impl InvariantId {
            /// All of them.
            pub const ALL: [Self; [$(stringify!($name)),*].len()] = [$(Self::$name),*];

            /// The rule, one sentence for people.
            #[must_use]
            pub fn rule(self) -> &'static str {
                match self {
                    $(Self::$name => $rule,)*
                }
            }
        }
    };
}

invariants! {
    ServingCapacityNeverBelowMinimum: "what serves never ends by our doing, nor falls below the wanted count, or while a rollout runs below `min_serving`, other than by an order to delete",
    NoDeleteWithoutTwoSourcesOrOrder: "a machine is deleted only on a committed basis: an order, the end of a rollout, loss by two sources of different kinds or by silence while another serves in its place, or that it never was healthy, stayed unhealthy or lost its agent for as long as the fleet says",
    GenerationNeverGoesBack: "the generation of an instance's wanted state grows with each change and never falls",
    OneMachinePerIntent: "a machine is made only for a committed intent, and once",
    RolloutEndsOrSaysWhatItWaitsFor: "a rollout that does not move says what it waits for",
    RollbackRestoresBlue: "a rollout that went back ends with all of blue that can serve active, and nothing left of green",
    UnknownNeverKills: "nothing is hidden, replaced or removed because nothing is known of it",
    UnprovenNeverServes: "an instance is found under its service's name only when it is freshly healthy in its role, and a switch counts only when it is read back",
    BlueStaysUntilGreenIsProven: "blue's machines stay until green has baked",
    UnmanagedOneAtATime: "at most one unmanaged instance of a fleet is replaced at a time, and none while more than one, or 20 %, are unmanaged",
    HealthNeverHidesMost: "health hides at most half of a fleet's active entries, and never the last one",
    SilenceAloneNeedsWitnesses: "silence alone counts only while most others answer on the same path",
    ShortListNeedsWitnesses: "a provider's list that lacks most of its machines at once, and more than one, is no word against them",
    PolicyHolds: "what a policy leaves to a person waits for a person",
    MeltdownHolds: "while so many of a fleet fail at once that the cause is probably elsewhere, nothing of it is replaced or removed for that",
    DistrustHolds: "while most sessions end at once, or most probes or most of the catalogue's checks contradict the agents, nothing is replaced or removed for loss or ill health",
    LostZoneIsLeftAlone: "in a zone that a person says is lost, nothing that is silent is removed until it is found again",
    BudgetsNeverExceeded: "no more machines are in flight, and no more are deleted within a time, than the budgets of the fleet and of the environment allow; an order to delete a fleet, a way back, and what is lost by two sources or never was healthy are counted and not held",
    NothingMadeWithoutRoom: "a machine is intended only where its provider has one free and the declared limits last, over all fleets",
    FrozenStartsNothing: "while something is frozen no rollout, wave or switch of it begins; where all is frozen, nothing is made or removed, and only going back goes on; a rollout that cannot wait passes it for its own instances alone",
    ClosedWindowStartsNothing: "outside of its windows no rollout of a fleet, no wave and no switch begins; going back waits for no window",
    ProtectedNeverTouched: "a protected instance is not replaced, drained or removed, whatever else is decided",
    VetoedIsNeverMade: "nothing is made from a vetoed image",
    ApprovedByEnough: "a rollout passes a gate only when as many different persons approved as its fleet wants, and only those who may",
    PausedGoesNoFurther: "a paused rollout makes nothing and goes no further: it may go back, start a soak again that flapped, finish a switch whose old work has stopped, and end when nothing is left of its last blue; what serves is repaired",
    HistoryTellsEveryChange: "every change of a rollout's phase, of an instance's life, role or names, and of an order has its line in the history",
    ExclusiveNeverTwice: "of an exclusive fleet nobody is told to be active, nor found as it, while the work of another is not known to have stopped",
    QuorumOneAtATime: "one member of a quorum leaves at a time, while every other is healthy, has caught up and says itself that enough voters live; beside one that is lost or was never healthy, the lost are not asked",
}

impl fmt::Display for InvariantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A plan that breaks a rule: a fault of the planner, never of what it saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub invariant: InvariantId,
    /// In which fleet.
    pub fleet: FleetName,
    /// How, one sentence.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}: {}", self.invariant, self.fleet, self.text)
    }
}

/// Checks a plan against every rule.
#[must_use]
pub fn check(input: &PlanInput<'_>, plan: &Plan) -> Vec<Violation> {
    let answering = answering(input);
    let mut violations = Vec::new();
    for (fleet, before) in input.fleets {
        let Some(made) = plan.fleets.get(fleet) else {
            continue;
        };
        let view = View::new(
            input,
            fleet,
            before,
            made,
            answering.of(&before.spec.provider),
        );
        let mut found = Vec::new();
        capacity::check(&view, &mut found);
        removal::check(&view, &mut found);
        rollout::check(&view, &mut found);
        repair::check(&view, &mut found);
        zone::check(&view, &mut found);
        people::check(&view, &mut found);
        exclusive::check(&view, &mut found);
        quorum::check(&view, &mut found);
        violations.extend(found.into_iter().map(|(invariant, text)| Violation {
            invariant,
            fleet: fleet.clone(),
            text,
        }));
    }
    budget::check(input, plan, &mut violations);
    violations
}
