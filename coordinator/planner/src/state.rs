//! The durable state of a fleet: everything that a new run of the coordinator must know. Nothing
//! that is observed is in it.

use std::collections::BTreeMap;

use calvin_model::{
    CatalogueRole, FleetSpec, ImageRef, InstanceId, RolloutId, Wanted, image::Work,
    wanted::DrainReason,
};
use serde::{Deserialize, Serialize};

use crate::{moment::Moment, phase::Phase, plan::DeleteBasis};

/// An image, with what the planner must know of its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Which image.
    pub image: ImageRef,
    /// When its workload may run.
    pub work: Work,
    /// Whether it has services: whether the catalogue matters for it.
    pub services: bool,
}

/// One fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetState {
    /// What the operator wants, as applied last.
    pub spec: FleetSpec,
    /// The build that serves, and that repairs are made from. Replaced only when a rollout is
    /// done, so that there is always something to go back to. `None` until the first is done.
    pub serving: Option<Build>,
    /// The build that served before: what `undo` goes back to.
    pub previous: Option<Build>,
    /// The running rollout, or the newest one that ended.
    pub rollout: Option<Rollout>,
    /// A rollout that starts when the running one has gone back.
    pub next: Option<Build>,
    /// How many rollouts there were.
    pub rollouts: u64,
    /// The fleet is being deleted.
    pub deleting: bool,
    /// Every instance that may have a machine, an identity or an entry anywhere.
    pub instances: BTreeMap<InstanceId, Instance>,
}

/// One replacement of a fleet's image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its id.
    pub id: RolloutId,
    /// What served before; `None` for a fleet's first.
    pub from: Option<Build>,
    /// What is to serve.
    pub to: Build,
    /// Where it is.
    pub phase: Phase,
    /// When that phase began.
    pub phase_since: Moment,
    /// When the rollout began.
    pub started: Moment,
    /// Restarted by each green that becomes healthy; passing it rolls back.
    pub progress_by: Moment,
    /// The wave that is under way, from 0.
    pub wave: u32,
    /// The wave's sets. Waves before it are complete: green serves, blue is gone.
    pub sets: Wave,
    /// Greens that failed and were given up, over all waves.
    pub failures: u32,
    /// Why it goes or went back, or failed.
    pub reason: Option<String>,
    /// Who started it, as the audit names operators.
    pub started_by: String,
}

/// The two sets of one wave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// To take over.
    pub green: Vec<InstanceId>,
    /// To be replaced.
    pub blue: Vec<InstanceId>,
}

/// One instance. Its record is committed before its machine is asked for, and removed only after
/// its machine, its identity and its entries are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// What it is made from.
    pub build: Build,
    /// Why it was made.
    pub purpose: Purpose,
    /// Where it is between intent and gone.
    pub life: Life,
    /// When that began.
    pub since: Moment,
    /// When its record was made.
    pub created: Moment,
    /// What its agent is told.
    pub wanted: Wanted,
    /// How clients are to find it.
    pub catalogue: CatalogueRole,
    /// Whether it has ever been healthy: from then on `healthy_deadline` no longer counts.
    pub proven: bool,
}

/// Why an instance was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A green of this rollout.
    Rollout(RolloutId),
    /// Takes the place of another.
    Repair(InstanceId),
    /// The fleet was made larger.
    Scale,
}

/// Where an instance is between intent and gone. How it works is `wanted`; this is only about
/// whether it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    /// The intent is committed; machine and agent are on their way.
    Making,
    /// Its agent has reported.
    Up,
    /// Finishes what it has, then is retired for this reason.
    Draining(DrainReason),
    /// Identity, entries and machine are being removed, on this basis.
    Retiring(DeleteBasis),
}
