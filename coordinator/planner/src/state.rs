//! The durable state of a fleet: everything that a new run of the coordinator must know. Nothing
//! that is observed is in it.

mod rollout;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use calvin_model::{
    CatalogueRole, FleetSpec, ImageRef, InstanceId, Role, RolloutId, Wanted, ZoneName,
    fleet::FleetKind, image::Work, wanted::DrainReason,
};
use serde::{Deserialize, Serialize};

use crate::{
    environment::{Freeze, Order},
    invariant::InvariantId,
    moment::Moment,
    people::{Aim, Standing},
    phase::Phase,
    plan::DeleteBasis,
    repairs::Repairs,
};

pub use rollout::{Gap, Rollout, Wave, WaveOrder};

/// An image, with what the planner must know of its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Which image.
    pub image: ImageRef,
    /// When its workload may run.
    pub work: Work,
    /// Whether it has services: whether the catalogue matters for it.
    pub services: bool,
    /// Whether its machines say how many voters each of them knows.
    #[serde(default)]
    pub quorum: bool,
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
    /// A rollout that starts when the running one has ended.
    pub next: Option<NextRollout>,
    /// How many rollouts there were.
    pub rollouts: u64,
    /// The fleet is being deleted.
    pub deleting: bool,
    /// The rules that hold something back now, so that the history tells when that began and
    /// when it ended, once each.
    #[serde(default)]
    pub holding: BTreeSet<InvariantId>,
    /// What is known to fail: until it is known to serve again, also for the next run of the
    /// coordinator, which has heard of nobody yet. Clients do not find it, unless most would go.
    #[serde(default)]
    pub failed: BTreeSet<InstanceId>,
    /// How often in a row instances that were made outside of rollouts were given up, because they
    /// never became healthy. Each time makes the next wait longer; when nobody waits any more, it
    /// begins anew.
    #[serde(default)]
    pub given_up_in_a_row: u32,
    /// What repairs must remember.
    #[serde(default)]
    pub repairs: Repairs,
    /// What must not begin now in this fleet.
    #[serde(default)]
    pub freeze: Option<Freeze>,
    /// Who keeps it on the image that serves: no rollout starts.
    #[serde(default)]
    pub pin: Option<Order>,
    /// The count that takes effect when a freeze has ended.
    #[serde(default)]
    pub later_count: Option<u32>,
    /// Since when deadlines stand still.
    #[serde(default)]
    pub standing: Option<Standing>,
    /// Since when machines that it needs, or deletions, wait for a budget or for room, and it got
    /// none. Who waits longest is served first.
    #[serde(default)]
    pub waiting_since: Option<Moment>,
    /// What began to be removed lately, where a budget counts deletions.
    #[serde(default)]
    pub deletions: Vec<Deletion>,
    /// Instances that were lost, with what each ran, and that could not be made again yet because
    /// a budget or the room did not allow it.
    #[serde(default)]
    pub owed: BTreeMap<InstanceId, Owed>,
    /// Every instance that may have a machine, an identity or an entry anywhere.
    pub instances: BTreeMap<InstanceId, Instance>,
}

/// Instances that began to be removed at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// When.
    pub at: Moment,
    /// How many.
    pub count: u32,
}

/// An instance that is to be made in the place of another, when it can be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// What it is made from.
    pub build: Build,
    /// Where the other one was.
    #[serde(default)]
    pub zone: Option<ZoneName>,
}

/// A rollout that waits for the running one to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextRollout {
    /// What is to serve.
    pub build: Build,
    /// Who wants it: an operator, or [`PLANNER`](crate::PLANNER).
    pub by: String,
    /// Why, where it is not simply wanted.
    pub reason: Option<String>,
    /// Whether it brings something new.
    #[serde(default)]
    pub aim: Aim,
    /// Who cannot wait, and why.
    #[serde(default)]
    pub emergency: Option<Order>,
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
    /// Since when.
    pub wanted_since: Moment,
    /// How clients are to find it.
    pub catalogue: CatalogueRole,
    /// Whether it has ever been healthy: from then on `healthy_deadline` no longer counts.
    pub proven: bool,
    /// It is to be replaced, on this basis: another serves first, then it leaves.
    #[serde(default)]
    pub replace: Option<DeleteBasis>,
    /// When a person ordered last that it is to be replaced: an order that is given in its silence is a
    /// second source for its loss (`judge`). `unprotect`, which may replace it too, does not say so.
    #[serde(default)]
    pub ordered: Option<Moment>,
    /// The zone that it is made in; the provider chose if none is named.
    #[serde(default)]
    pub zone: Option<ZoneName>,
    /// Who lets nothing happen to it, and why.
    #[serde(default)]
    pub protected: Option<Order>,
    /// In an exclusive fleet: it was told to be active, and its work is not known to have stopped
    /// since.
    #[serde(default)]
    pub at_work: bool,
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

impl FleetState {
    /// A fleet of which there is nothing yet.
    #[must_use]
    pub fn new(spec: FleetSpec) -> Self {
        Self {
            spec,
            serving: None,
            previous: None,
            rollout: None,
            next: None,
            rollouts: 0,
            deleting: false,
            holding: BTreeSet::new(),
            failed: BTreeSet::new(),
            given_up_in_a_row: 0,
            repairs: Repairs::default(),
            freeze: None,
            pin: None,
            later_count: None,
            standing: None,
            waiting_since: None,
            deletions: Vec::new(),
            owed: BTreeMap::new(),
            instances: BTreeMap::new(),
        }
    }

    /// How many stay and are not to be replaced.
    #[must_use]
    pub fn kept(&self) -> usize {
        let stays = |instance: &&Instance| {
            !instance.leaving() && instance.replace.is_none() && !self.set_aside(instance)
        };
        self.instances.values().filter(stays).count()
    }

    /// Whether an instance is protected, runs another image than serves, and is not found by
    /// clients: it is kept to be looked at, and is no part of the count.
    #[must_use]
    pub fn set_aside(&self, instance: &Instance) -> bool {
        let serving = self.serving.as_ref().map(|serving| &serving.image);
        instance.protected.is_some()
            && instance.catalogue < CatalogueRole::Entered
            && serving != Some(&instance.build.image)
    }

    /// How many must go on serving whatever is replaced. While a rollout runs that ends with
    /// another count, of the smaller one.
    #[must_use]
    pub fn must_serve(&self) -> usize {
        let count = self.spec.count;
        let count = self
            .running()
            .map_or(count, |rollout| rollout.count.min(count));
        let may_miss = self.spec.replace.unavailable.of_at_most(count);
        let least = self.spec.repair.min_serving;
        let least = least.unwrap_or(count - may_miss).min(count);
        usize::try_from(least).unwrap_or(usize::MAX)
    }

    /// How many began to be removed within the last `window`.
    #[must_use]
    pub fn deleted_within(&self, now: Moment, window: Duration) -> u32 {
        let lately = self
            .deletions
            .iter()
            .filter(|one| now.since(one.at) < window);
        lately.fold(0, |sum, one| sum.saturating_add(one.count))
    }

    /// The rollout, while it runs.
    #[must_use]
    pub fn running(&self) -> Option<&Rollout> {
        self.rollout
            .as_ref()
            .filter(|rollout| !rollout.phase.ended())
    }

    /// Whether an instance is part of a running rollout that cannot wait: of its sets, made for it,
    /// or left by an attempt before a first one that it takes the place of.
    #[must_use]
    pub fn of_emergency(&self, id: &InstanceId) -> bool {
        let Some(rollout) = self.running().filter(|one| one.emergency.is_some()) else {
            return false;
        };
        let made_for_it = |one: &Instance| one.purpose == Purpose::Rollout(rollout.id.clone());
        rollout.from.is_none()
            || rollout.sets.green.contains(id)
            || rollout.sets.blue.contains(id)
            || self.instances.get(id).is_some_and(made_for_it)
    }

    /// Whether the running rollout's greens are active in the catalogue: from then on traffic is
    /// theirs, and going back means to switch back.
    #[must_use]
    pub fn switched(&self) -> bool {
        let Some(rollout) = self.running() else {
            return false;
        };
        match rollout.phase {
            Phase::Settling
            | Phase::Baking
            | Phase::AwaitingRetire
            | Phase::Draining
            | Phase::Retiring => true,
            Phase::Switching => rollout.sets.green.iter().any(|id| {
                self.instances
                    .get(id)
                    .is_some_and(|green| green.catalogue == CatalogueRole::Active)
            }),
            Phase::Provisioning
            | Phase::MakingRoom
            | Phase::Soaking
            | Phase::AwaitingSwitch
            | Phase::Stopping
            | Phase::RollingBack
            | Phase::Done
            | Phase::RolledBack
            | Phase::Failed => false,
        }
    }
}

impl FleetState {
    /// Instances that are not to serve clients now: green before the switch, blue after it, and all
    /// that is left of a first rollout that failed, and of its earlier attempts.
    #[must_use]
    pub fn not_to_serve(&self) -> BTreeSet<InstanceId> {
        let Some(rollout) = &self.rollout else {
            return BTreeSet::new();
        };
        let not_to_serve = match rollout.phase {
            Phase::Failed => return self.instances.keys().cloned().collect(),
            // In between nobody is: what was stopped must not begin again by itself.
            Phase::Stopping | Phase::Switching if self.spec.kind == FleetKind::Exclusive => {
                return self.instances.keys().cloned().collect();
            }
            Phase::Provisioning
            | Phase::MakingRoom
            | Phase::Soaking
            | Phase::AwaitingSwitch
            | Phase::Stopping
            | Phase::RollingBack => &rollout.sets.green,
            Phase::Switching if self.switched() => &rollout.sets.blue,
            Phase::Switching => &rollout.sets.green,
            Phase::Settling
            | Phase::Baking
            | Phase::AwaitingRetire
            | Phase::Draining
            | Phase::Retiring => &rollout.sets.blue,
            Phase::Done | Phase::RolledBack => return BTreeSet::new(),
        };
        let mut not_to_serve: BTreeSet<InstanceId> = not_to_serve.iter().cloned().collect();
        // What earlier attempts left never served, whoever protects it.
        if rollout.from.is_none() {
            let left = self.instances.keys();
            let left = left.filter(|id| !rollout.sets.green.contains(id));
            not_to_serve.extend(left.cloned());
        }
        not_to_serve
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Making => f.pad("being made"),
            Self::Up => f.pad("up"),
            Self::Draining(reason) => write!(f, "draining ({reason})"),
            Self::Retiring(basis) => write!(f, "being removed ({basis})"),
        }
    }
}

impl Instance {
    /// Drains or is being removed.
    #[must_use]
    pub fn leaving(&self) -> bool {
        match self.life {
            Life::Draining(_) | Life::Retiring(_) => true,
            Life::Making | Life::Up => false,
        }
    }

    /// Whether it may be at work, in an exclusive fleet.
    #[must_use]
    pub fn may_work(&self) -> bool {
        self.at_work || self.wanted.role == Role::Active
    }
}
