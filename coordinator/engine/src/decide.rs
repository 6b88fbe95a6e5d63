//! The engine's only source of decisions.

use std::{collections::BTreeMap, fmt::Debug};

use calvin_model::FleetName;
use calvin_planner::{Command, CommandOutcome, FleetState, Moment, Plan, PlanInput, Refusal};

/// Decides. The planner does; tests of the executor let somebody else try.
pub trait Decide: Debug {
    /// What to do next.
    fn plan(&self, input: &PlanInput<'_>) -> Plan;
    /// What an order changes.
    ///
    /// # Errors
    /// The order does not fit the state.
    fn command(
        &self,
        fleets: &BTreeMap<FleetName, FleetState>,
        gone: &BTreeMap<FleetName, u64>,
        order: &Command,
        now: Moment,
        who: &str,
    ) -> Result<CommandOutcome, Refusal>;
}

/// The planner of `calvin-planner`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Planner;

impl Decide for Planner {
    fn plan(&self, input: &PlanInput<'_>) -> Plan {
        calvin_planner::plan(input)
    }

    fn command(
        &self,
        fleets: &BTreeMap<FleetName, FleetState>,
        gone: &BTreeMap<FleetName, u64>,
        order: &Command,
        now: Moment,
        who: &str,
    ) -> Result<CommandOutcome, Refusal> {
        calvin_planner::command(fleets, gone, order, now, who)
    }
}
