//! The workload, as the agent handles it: what to start ([`WorkloadSpec`]), and the connection to
//! the runner that starts it ([`Runner`]).
//!
//! The workload is not a child of the agent: it must not end with it. Its parent is the machine's
//! first process (`crate::init`), and this is the agent's side of their [`protocol`].

mod client;
#[cfg(test)]
pub(crate) mod fake;
mod orders;
pub mod protocol;
mod spec;
mod unit;
mod variables;

pub use client::{Runner, RunnerConnection, RunnerError};
pub use orders::{Command, Commands, WorkloadOrder};
pub use protocol::{ConsoleCounts, End, RunnerState};
pub(crate) use spec::resolve;
pub use spec::{SpecError, WorkloadSpec};
pub use unit::{UnitName, UnitNameError, UnitState};
pub use variables::{UnknownVariable, Variables};
