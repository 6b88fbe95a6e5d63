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

/// A rule that no plan may break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvariantId {
    /// A plan never takes the last entries that serve, nor drops below the wanted count what
    /// could serve, other than by an operator's order to delete.
    ServingCapacityNeverBelowMinimum,
    /// A machine is deleted only on a committed basis: an order, a rollout's end, or loss by two
    /// sources of different kinds.
    NoDeleteWithoutTwoSourcesOrOrder,
    /// The generation of an instance's wanted state grows with each change and never falls.
    GenerationNeverGoesBack,
    /// A machine is made only for an instance whose record is committed, and once.
    OneMachinePerIntent,
    /// A rollout that does not move says what it waits for.
    RolloutEndsOrSaysWhatItWaitsFor,
    /// A rollout that went back ends with the old image active.
    RollbackRestoresBlue,
    /// Nothing is hidden, replaced or removed because nothing is known of it.
    UnknownNeverKills,
    /// An instance enters the catalogue under its service's name only when it is healthy.
    UnprovenNeverServes,
    /// Blue's machines stay until green has baked.
    BlueStaysUntilGreenIsProven,
    /// At most one unmanaged instance of a fleet is replaced at a time, and none while many are
    /// unmanaged: then the fault is probably elsewhere.
    UnmanagedOneAtATime,
    /// Health hides at most half of a fleet's active entries: when more fail at once, the fault is
    /// probably elsewhere, and the catalogue keeps them.
    HealthNeverHidesMost,
    /// Silence alone counts only while most others answer on the same path.
    SilenceAloneNeedsWitnesses,
    /// A provider's list that lacks most of its machines at once is no word against them.
    ShortListNeedsWitnesses,
    /// What a person is to decide waits for a person.
    PolicyHolds,
    /// While too many of a fleet fail at once, nothing of it is replaced or removed for that.
    MeltdownHolds,
    /// While the coordinator has reasons to distrust its own eyes, nothing is replaced or removed
    /// for loss or ill health.
    DistrustHolds,
    /// In a zone that a person says is lost, nothing that is silent is removed.
    LostZoneIsLeftAlone,
    /// No more machines are in flight, and no more are deleted within a time, than the budgets of
    /// the fleet and of the environment allow.
    BudgetsNeverExceeded,
    /// A machine is intended only where its provider has one free and the declared limits last.
    NothingMadeWithoutRoom,
    /// What is frozen starts nothing.
    FrozenStartsNothing,
    /// Outside of its windows no rollout starts or switches.
    ClosedWindowStartsNothing,
    /// A protected instance is never touched.
    ProtectedNeverTouched,
    /// Nothing is made from a vetoed image.
    VetoedIsNeverMade,
    /// A gate is passed only with enough approvals.
    ApprovedByEnough,
    /// A paused rollout goes no further.
    PausedGoesNoFurther,
    /// The history tells every change there was.
    HistoryTellsEveryChange,
    /// Never two instances of an exclusive fleet are at work at once.
    ExclusiveNeverTwice,
    /// One member of a quorum leaves at a time, while every other is healthy and knows enough voters.
    QuorumOneAtATime,
}

impl InvariantId {
    /// All of them.
    pub const ALL: [Self; 28] = [
        Self::ServingCapacityNeverBelowMinimum,
        Self::NoDeleteWithoutTwoSourcesOrOrder,
        Self::GenerationNeverGoesBack,
        Self::OneMachinePerIntent,
        Self::RolloutEndsOrSaysWhatItWaitsFor,
        Self::RollbackRestoresBlue,
        Self::UnknownNeverKills,
        Self::UnprovenNeverServes,
        Self::BlueStaysUntilGreenIsProven,
        Self::UnmanagedOneAtATime,
        Self::HealthNeverHidesMost,
        Self::SilenceAloneNeedsWitnesses,
        Self::ShortListNeedsWitnesses,
        Self::PolicyHolds,
        Self::MeltdownHolds,
        Self::DistrustHolds,
        Self::LostZoneIsLeftAlone,
        Self::BudgetsNeverExceeded,
        Self::NothingMadeWithoutRoom,
        Self::FrozenStartsNothing,
        Self::ClosedWindowStartsNothing,
        Self::ProtectedNeverTouched,
        Self::VetoedIsNeverMade,
        Self::ApprovedByEnough,
        Self::PausedGoesNoFurther,
        Self::HistoryTellsEveryChange,
        Self::ExclusiveNeverTwice,
        Self::QuorumOneAtATime,
    ];
}

impl InvariantId {
    /// The rule, one sentence for people.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::ServingCapacityNeverBelowMinimum => {
                "what serves never ends by our doing, nor falls below the wanted count, or while a rollout runs below `min_serving`, other than by an order to delete"
            }
            Self::NoDeleteWithoutTwoSourcesOrOrder => {
                "a machine is deleted only on a committed basis: an order, the end of a rollout, or loss by two sources of different kinds"
            }
            Self::GenerationNeverGoesBack => {
                "the generation of an instance's wanted state grows with each change and never falls"
            }
            Self::OneMachinePerIntent => "a machine is made only for a committed intent, and once",
            Self::RolloutEndsOrSaysWhatItWaitsFor => {
                "a rollout that does not move says what it waits for"
            }
            Self::RollbackRestoresBlue => {
                "a rollout that went back ends with all of blue that can serve active, and nothing left of green"
            }
            Self::UnknownNeverKills => {
                "nothing is hidden, replaced or removed because nothing is known of it"
            }
            Self::UnprovenNeverServes => {
                "an instance is found under its service's name only when it is freshly healthy in its role, and a switch counts only when it is read back"
            }
            Self::BlueStaysUntilGreenIsProven => "blue's machines stay until green has baked",
            Self::UnmanagedOneAtATime => {
                "at most one unmanaged instance of a fleet is replaced at a time, and none while more than one, or 20 %, are unmanaged"
            }
            Self::HealthNeverHidesMost => {
                "health hides at most half of a fleet's active entries, and never the last one"
            }
            Self::SilenceAloneNeedsWitnesses => {
                "silence alone counts only while most others answer on the same path"
            }
            Self::ShortListNeedsWitnesses => {
                "a provider's list that lacks most of its machines at once, and more than one, is no word against them"
            }
            Self::PolicyHolds => "what a policy leaves to a person waits for a person",
            Self::MeltdownHolds => {
                "while so many of a fleet fail at once that the cause is probably elsewhere, nothing of it is replaced or removed for that"
            }
            Self::DistrustHolds => {
                "while most sessions end at once, or most probes contradict the agents, nothing is replaced or removed for loss or ill health"
            }
            Self::LostZoneIsLeftAlone => {
                "in a zone that a person says is lost, nothing that is silent is removed until it is found again"
            }
            Self::BudgetsNeverExceeded => {
                "no more machines are in flight, and no more are deleted within a time, than the budgets of the fleet and of the environment allow; an order to delete a fleet, a way back, and what is lost by two sources or never was healthy are counted and not held"
            }
            Self::NothingMadeWithoutRoom => {
                "a machine is intended only where its provider has one free and the declared limits last, over all fleets"
            }
            Self::FrozenStartsNothing => {
                "while something is frozen no rollout, wave or switch of it begins; where all is frozen, nothing is made or removed, and only going back goes on"
            }
            Self::ClosedWindowStartsNothing => {
                "outside of its windows no rollout of a fleet, no wave and no switch begins; going back waits for no window"
            }
            Self::ProtectedNeverTouched => {
                "a protected instance is not replaced, drained or removed, whatever else is decided"
            }
            Self::VetoedIsNeverMade => "nothing is made from a vetoed image",
            Self::ApprovedByEnough => {
                "a rollout passes a gate only when as many different persons approved as its fleet wants, and only those who may"
            }
            Self::PausedGoesNoFurther => {
                "a paused rollout makes nothing and goes no further; it may only go back or end"
            }
            Self::HistoryTellsEveryChange => {
                "every change of a rollout's phase, of an instance's life, role or names, and of an order has its line in the history"
            }
            Self::QuorumOneAtATime => {
                "one member of a quorum leaves at a time, while every other is healthy, has caught up and says itself that enough voters live"
            }
            Self::ExclusiveNeverTwice => {
                "of an exclusive fleet nobody is told to be active, nor found as it, while the work of another is not known to have stopped"
            }
        }
    }
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
