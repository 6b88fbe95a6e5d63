//! What operators order, as pure changes of the state: an order is taken whole or refused with
//! the reason, and nothing else may change what is wanted.

use calvin_model::{FleetName, FleetSpec, InstanceId};
use serde::{Deserialize, Serialize};

use crate::state::Build;

/// An operator's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Make a fleet, or change how it is to be run. A new fleet starts its first rollout; a
    /// changed image waits for `StartRollout`; a changed count scales.
    ApplyFleet {
        /// The whole spec.
        spec: Box<FleetSpec>,
        /// The build that the spec's image stands for.
        build: Build,
    },
    /// Change the count only.
    Scale {
        /// Which fleet.
        fleet: FleetName,
        /// How many are to serve.
        count: u32,
    },
    /// Drain and remove every instance, then the fleet.
    DeleteFleet {
        /// Which fleet.
        fleet: FleetName,
    },
    /// Replace the fleet's image.
    StartRollout {
        /// Which fleet.
        fleet: FleetName,
        /// What is to serve.
        build: Build,
        /// The id of a previewed plan: refused if what would be done has changed since.
        plan: Option<String>,
    },
    /// Give the running rollout up before traffic was switched.
    Abort {
        /// Which fleet.
        fleet: FleetName,
        /// Why, for the history.
        reason: String,
    },
    /// Go back to the old image, in every phase in which it is still there.
    Rollback {
        /// Which fleet.
        fleet: FleetName,
        /// Why, for the history.
        reason: String,
    },
    /// After a rollout is done: a new one to the image that served before.
    Undo {
        /// Which fleet.
        fleet: FleetName,
    },
    /// Replace one instance: a new one first, then this one leaves.
    ReplaceInstance {
        /// Which instance.
        instance: InstanceId,
        /// Why, for the history.
        reason: String,
    },
}

/// Why an order is not taken. Says what was asked of what, why not, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such fleet.
    #[error("there is no fleet {fleet}")]
    NoFleet {
        /// The name given.
        fleet: FleetName,
        /// The fleets that there are, for a guess.
        known: Vec<FleetName>,
    },
    /// There is no such instance.
    #[error("there is no instance {instance}")]
    NoInstance {
        /// The id given.
        instance: InstanceId,
    },
    /// The state does not allow it.
    #[error("{what}: {why}")]
    NotNow {
        /// What was asked, on which object.
        what: String,
        /// Why not.
        why: String,
        /// What to do instead.
        hint: String,
    },
    /// What a previewed plan would do has changed.
    #[error("plan {plan} no longer holds: {changed}")]
    PlanChanged {
        /// The id given.
        plan: String,
        /// What is different now.
        changed: String,
    },
}
