//! What others may see of the engine: one immutable picture for each pass, shared by reference.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc, time::Duration};

use calvin_model::{Epoch, FleetName, InstanceId};
use calvin_planner::{
    CommandInput, EnvironmentRules, EnvironmentState, FleetReport, FleetState, InvariantId,
    MachineState, Moment, Observed, invariant::Violation,
};

use crate::{
    hold::Held,
    ports::{CatalogueWord, NotPublished, Revision},
    recover::RecoveryView,
};

/// The engine after its newest pass. Cloning costs a few reference counts.
#[derive(Debug, Clone)]
pub struct View {
    /// Grows with each pass and each command.
    pub number: u64,
    /// Who decides.
    pub epoch: Epoch,
    /// The decision clock.
    pub moment: Moment,
    /// How long this run has lasted.
    pub up: Duration,
    /// Milliseconds since 1970 UTC.
    pub wall_ms: u64,
    /// The store's newest commit.
    pub revision: Revision,
    /// Why nothing is decided now, if nothing is.
    pub held: Option<Held>,
    /// What is found while this run recovers.
    pub recovery: Option<Arc<RecoveryView>>,
    /// How often a plan of this run broke a rule of the planner: a fault of ours, never of what
    /// it saw.
    pub breaches: u64,
    /// The same by the rule that was broken.
    pub breaches_by_rule: Arc<BTreeMap<InvariantId, u64>>,
    /// What was decided for the environment as a whole.
    pub environment: Arc<EnvironmentState>,
    /// What `calvin.toml` says that decisions rest on.
    pub rules: Arc<EnvironmentRules>,
    /// The committed state.
    pub fleets: Arc<BTreeMap<FleetName, FleetState>>,
    /// How many rollouts fleets had that were removed.
    pub gone: Arc<BTreeMap<FleetName, u64>>,
    /// The newest report of each fleet; while held, that of before.
    pub reports: Arc<BTreeMap<FleetName, FleetReport>>,
    /// What was seen in this pass.
    pub observed: Arc<Observed>,
    /// What the catalogue says of itself.
    pub catalogue: Arc<CatalogueWord>,
    /// What a person should look at.
    pub notices: Arc<Vec<Notice>>,
}

impl View {
    /// What an order would meet now.
    #[must_use]
    pub fn command_input(&self) -> CommandInput<'_> {
        CommandInput {
            now: self.moment,
            wall_ms: self.wall_ms,
            environment: &self.environment,
            rules: &self.rules,
            fleets: &self.fleets,
            windows: &self.observed.windows,
            gone: &self.gone,
        }
    }
}

/// Something that a person should look at. None of it is acted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A machine with our tag that has no record: nobody intended it, or its provider finished it
    /// after it was given up. It is shown, never removed.
    Stray {
        /// Whose list it is in.
        provider: String,
        /// The instance that its tag names.
        instance: InstanceId,
        /// Its state.
        state: MachineState,
        /// Its address, once it has one.
        address: Option<IpAddr>,
    },
    /// More than one machine carries the tag of one instance.
    Doubled {
        /// The instance.
        instance: InstanceId,
        /// The providers whose lists they are in, one entry for each machine.
        providers: Vec<String>,
    },
    /// Something is wrong with an instance's identity.
    Alarm {
        /// The instance.
        instance: InstanceId,
        /// What.
        text: String,
    },
    /// A fleet names a provider that `calvin.toml` does not have.
    NoProvider {
        /// The fleet.
        fleet: FleetName,
        /// The provider named.
        provider: String,
    },
    /// Entries of a fleet cannot be written: an image's manifest is not recorded here.
    NoManifest {
        /// The fleet.
        fleet: FleetName,
        /// The image.
        image: String,
    },
    /// Clients are not shown the newest names.
    NotPublished(NotPublished),
    /// A plan that breaks a rule of the planner.
    Breach(Violation),
    /// An action whose preconditions do not hold in the committed state; it was not carried out.
    /// The planner never plans one, so this is a fault of ours.
    Refused {
        /// The action.
        what: String,
        /// The precondition.
        why: &'static str,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stray {
                provider,
                instance,
                state,
                address,
            } => {
                write!(
                    f,
                    "provider {provider} has a machine for {instance} ({state:?}"
                )?;
                if let Some(address) = address {
                    write!(f, ", {address}")?;
                }
                write!(
                    f,
                    "), which has no record here: nobody intended it, or its provider finished it after it was given up; it is left alone: look at it, and delete it by hand if it is not needed"
                )
            }
            Self::Doubled {
                instance,
                providers,
            } => write!(
                f,
                "{} machines carry the tag of {instance}, at {}",
                providers.len(),
                providers.join(", ")
            ),
            Self::Alarm { instance, text } => write!(f, "identity of {instance}: {text}"),
            Self::NoProvider { fleet, provider } => write!(
                f,
                "fleet {fleet} is to be made on provider {provider}, which calvin.toml does not have"
            ),
            Self::NoManifest { fleet, image } => write!(
                f,
                "image {image} is not recorded here: the names of fleet {fleet} stay as they are, and before this run has published any, those of all fleets; add it with calvin image add"
            ),
            Self::NotPublished(why) => write!(
                f,
                "clients go on finding what they found before, because {why}"
            ),
            Self::Breach(violation) => write!(f, "a plan breaks {violation}; please report this"),
            Self::Refused { what, why } => {
                write!(f, "not carried out: {what}: {why}; please report this")
            }
        }
    }
}
