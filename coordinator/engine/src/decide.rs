//! The engine's only source of decisions.

use std::fmt::Debug;

use calvin_planner::{Command, CommandInput, CommandOutcome, Plan, PlanInput, Refusal};

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
        input: &CommandInput<'_>,
        order: &Command,
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
        input: &CommandInput<'_>,
        order: &Command,
        who: &str,
    ) -> Result<CommandOutcome, Refusal> {
        calvin_planner::command(input, order, who)
    }
}
