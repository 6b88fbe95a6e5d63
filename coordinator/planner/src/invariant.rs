//! The rules that no plan may break, by name. They live once: a report that says why something is
//! held back names one, and the same functions check every plan in debug builds, in property
//! tests and in the simulator.

use std::fmt;

use serde::{Deserialize, Serialize};

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
    /// What a person is to decide waits for a person.
    PolicyHolds,
}

impl InvariantId {
    /// All of them.
    pub const ALL: [Self; 13] = [
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
        Self::PolicyHolds,
    ];
}

impl fmt::Display for InvariantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
