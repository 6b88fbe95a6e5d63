//! What operators order, as pure changes of the state: an order is taken whole or refused with
//! the reason, and nothing else may change what is wanted.

mod fits;
mod fleet;
mod freeze;
mod gate;
mod instance;
mod keep;
mod kind;
mod rollout;
mod start;
mod zone;

use std::collections::BTreeMap;

use calvin_model::{
    FleetName, FleetSpec, InstanceId, RolloutId, ZoneName, fleet::Gate, image::ImageTag,
};
use serde::{Deserialize, Serialize};

use crate::{
    environment::{EnvironmentRules, EnvironmentState, FreezeScope, Order},
    invariant::InvariantId,
    moment::Moment,
    observed::WindowObserved,
    plan::{Event, EventKind},
    state::{Build, FleetState},
};

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
        /// Why it cannot wait, where soak, waves, windows and freezes are to be skipped.
        emergency: Option<String>,
    },
    /// Hold the running rollout where it is; going back goes on.
    Pause {
        /// Which fleet.
        fleet: FleetName,
        /// Why, for the history.
        reason: String,
    },
    /// Let a paused rollout go on; its deadlines go on with the time that they had left.
    Resume {
        /// Which fleet.
        fleet: FleetName,
    },
    /// Do not wait for the rest of the soak: every green must be healthy all the same.
    Promote {
        /// Which fleet.
        fleet: FleetName,
        /// Why, for the history.
        reason: String,
    },
    /// Approve the running rollout at a gate.
    Approve {
        /// Which fleet.
        fleet: FleetName,
        /// Which gate; the one that it waits at if none is named.
        gate: Option<Gate>,
        /// Why, for the history.
        reason: String,
    },
    /// Let nothing begin, in one fleet or in all.
    Freeze {
        /// Which fleet; all if none is named.
        fleet: Option<FleetName>,
        /// How much is held.
        scope: FreezeScope,
        /// When it ends by itself, in milliseconds since 1970 UTC.
        until_wall_ms: Option<u64>,
        /// Why.
        reason: String,
    },
    /// End a freeze.
    Unfreeze {
        /// Of which fleet; of the environment if none is named.
        fleet: Option<FleetName>,
    },
    /// Let nothing happen to an instance, whatever else is decided.
    Protect {
        /// Which instance.
        instance: InstanceId,
        /// Why.
        reason: String,
    },
    /// End the protection of an instance.
    Unprotect {
        /// Which instance.
        instance: InstanceId,
    },
    /// Make nothing from an image any more.
    Veto {
        /// Which image.
        image: ImageTag,
        /// Why.
        reason: String,
    },
    /// End the veto of an image.
    Unveto {
        /// Which image.
        image: ImageTag,
    },
    /// Keep a fleet on the image that serves: no rollout starts.
    Pin {
        /// Which fleet.
        fleet: FleetName,
        /// Why.
        reason: String,
    },
    /// End a pin.
    Unpin {
        /// Which fleet.
        fleet: FleetName,
    },
    /// A person is the second source: a zone is lost. Capacity is made elsewhere, and nothing is
    /// deleted there.
    LoseZone {
        /// Which zone.
        zone: ZoneName,
        /// How that is known.
        reason: String,
    },
    /// A lost zone is back.
    FindZone {
        /// Which zone.
        zone: ZoneName,
    },
    /// Repair a fleet again that is held because too many failed at once.
    ResumeRepairs {
        /// Which fleet.
        fleet: FleetName,
        /// Why that is safe.
        reason: String,
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
        /// The rule that it protects, where it is one of the planner's.
        rule: Option<InvariantId>,
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

impl Refusal {
    /// The rule that the order would break; none where it has no object, or nothing to do.
    #[must_use]
    pub fn rule(&self) -> Option<InvariantId> {
        match self {
            Self::NotNow { rule, .. } => *rule,
            Self::NoFleet { .. } | Self::NoInstance { .. } | Self::PlanChanged { .. } => None,
        }
    }

    /// The same, for the sake of a rule.
    fn protecting(mut self, protected: InvariantId) -> Self {
        match &mut self {
            Self::NotNow { rule, .. } => *rule = Some(protected),
            Self::NoFleet { .. } | Self::NoInstance { .. } | Self::PlanChanged { .. } => {}
        }
        self
    }
}

/// What taking an order changes: to be committed, with its events, before anything is planned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "an order whose outcome is not committed was not taken"]
pub struct CommandOutcome {
    /// The environment as a whole as it is from now on, if that changes.
    pub environment: Option<EnvironmentState>,
    /// Fleets as they are from now on; only those that change.
    pub changes: BTreeMap<FleetName, FleetState>,
    /// For the history.
    pub events: Vec<Event>,
    /// What happens now, for the person who ordered it, one sentence each.
    pub lines: Vec<String>,
    /// The rollout that was started or is meant.
    pub rollout: Option<RolloutId>,
}

/// What an order meets.
#[derive(Debug, Clone, Copy)]
pub struct CommandInput<'a> {
    /// The moment on the decision clock.
    pub now: Moment,
    /// Milliseconds since 1970 UTC.
    pub wall_ms: u64,
    /// The environment as a whole.
    pub environment: &'a EnvironmentState,
    /// What `calvin.toml` says.
    pub rules: &'a EnvironmentRules,
    /// Every fleet.
    pub fleets: &'a BTreeMap<FleetName, FleetState>,
    /// Whether the windows of each fleet that has some are open.
    pub windows: &'a BTreeMap<FleetName, WindowObserved>,
    /// How many rollouts each fleet had that is no more: a new one of its name counts on, so that no
    /// id ever means two rollouts.
    pub gone: &'a BTreeMap<FleetName, u64>,
}

/// What every order needs to know.
#[derive(Debug, Clone, Copy)]
struct Desk<'a> {
    input: CommandInput<'a>,
    who: &'a str,
}

/// Takes an order, whole or not at all. Pure: the caller commits the outcome.
///
/// # Errors
/// The order does not fit the state, with what was asked, why not, and what to do instead.
pub fn command(
    input: &CommandInput<'_>,
    order: &Command,
    who: &str,
) -> Result<CommandOutcome, Refusal> {
    let desk = Desk { input: *input, who };
    match order {
        Command::ApplyFleet { spec, build } => fleet::apply(desk, spec, build),
        Command::Scale { fleet, count } => fleet::scale(desk, fleet, *count),
        Command::DeleteFleet { fleet } => fleet::delete(desk, fleet),
        Command::StartRollout {
            fleet,
            build,
            plan,
            emergency,
        } => rollout::start(desk, fleet, build, plan.as_deref(), emergency.as_deref()),
        Command::Abort { fleet, reason } => rollout::abort(desk, fleet, reason),
        Command::Rollback { fleet, reason } => rollout::roll_back(desk, fleet, reason),
        Command::Undo { fleet } => rollout::undo(desk, fleet),
        Command::ReplaceInstance { instance, reason } => instance::replace(desk, instance, reason),
        Command::Pause { fleet, reason } => gate::pause(desk, fleet, reason),
        Command::Resume { fleet } => gate::resume(desk, fleet),
        Command::Promote { fleet, reason } => gate::promote(desk, fleet, reason),
        Command::Approve {
            fleet,
            gate,
            reason,
        } => gate::approve(desk, fleet, *gate, reason),
        Command::Freeze {
            fleet,
            scope,
            until_wall_ms,
            reason,
        } => {
            let asked = freeze::Asked {
                scope: *scope,
                until_wall_ms: *until_wall_ms,
                reason,
            };
            freeze::freeze(desk, fleet.as_ref(), asked)
        }
        Command::Unfreeze { fleet } => freeze::unfreeze(desk, fleet.as_ref()),
        Command::Protect { instance, reason } => keep::protect(desk, instance, reason),
        Command::Unprotect { instance } => keep::unprotect(desk, instance),
        Command::Veto { image, reason } => keep::veto(desk, image, reason),
        Command::Unveto { image } => keep::unveto(desk, image),
        Command::Pin { fleet, reason } => keep::pin(desk, fleet, reason),
        Command::Unpin { fleet } => keep::unpin(desk, fleet),
        Command::LoseZone { zone, reason } => zone::lose(desk, zone, reason),
        Command::FindZone { zone } => zone::find(desk, zone),
        Command::ResumeRepairs { fleet, reason } => zone::resume(desk, fleet, reason),
    }
}

impl<'a> Desk<'a> {
    /// The fleet, if there is one that may be changed.
    fn fleet(self, name: &FleetName) -> Result<&'a FleetState, Refusal> {
        let Some(state) = self.input.fleets.get(name) else {
            return Err(Refusal::NoFleet {
                fleet: name.clone(),
                known: self.input.fleets.keys().cloned().collect(),
            });
        };
        if state.deleting {
            return Err(Refusal::NotNow {
                rule: None,
                what: format!("could not change fleet {name}"),
                why: "it is being deleted".to_owned(),
                hint: format!("wait until it is gone: calvin fleet show {name}"),
            });
        }
        Ok(state)
    }

    /// The fleet of an instance, if there is one that may be changed.
    fn fleet_of(self, id: &InstanceId) -> Result<(&'a FleetName, &'a FleetState), Refusal> {
        let mut fleets = self.input.fleets.iter();
        let found = fleets.find(|(_, state)| state.instances.contains_key(id));
        let Some((name, _)) = found else {
            return Err(Refusal::NoInstance {
                instance: id.clone(),
            });
        };
        Ok((name, self.fleet(name)?))
    }

    /// What was ordered now, by whom and why.
    fn order(self, reason: &str) -> Order {
        Order {
            by: self.who.to_owned(),
            reason: reason.to_owned(),
            wall_ms: self.input.wall_ms,
        }
    }

    /// Refuses an order without a reason, where one is needed.
    fn reason(self, what: &str, reason: &str, why: &str) -> Result<(), Refusal> {
        if !reason.trim().is_empty() {
            return Ok(());
        }
        Err(Refusal::NotNow {
            rule: None,
            what: what.to_owned(),
            why: format!("it needs a reason: {why}"),
            hint: "say why: --reason WHY".to_owned(),
        })
    }

    /// The outcome of an order that changes one fleet.
    fn changed(self, name: &FleetName, after: FleetState, line: String) -> CommandOutcome {
        let mut outcome = CommandOutcome {
            events: vec![Event {
                fleet: Some(name.clone()),
                instance: None,
                kind: EventKind::Command,
                text: format!("{}: {line}", self.who),
            }],
            lines: vec![line],
            ..CommandOutcome::default()
        };
        outcome.changes.insert(name.clone(), after);
        outcome
    }

    /// The outcome of an order that changes nothing.
    fn unchanged(line: String) -> CommandOutcome {
        CommandOutcome {
            lines: vec![line],
            ..CommandOutcome::default()
        }
    }
}
