//! Decides what every fleet needs next. Pure: no clock, no IO, no global state, no hash maps.
//!
//! [`plan`] sees the durable state of all fleets, the newest observations, each with its age, and
//! the moment on the decision clock. It returns the next durable state, actions that leave the
//! executor no choice, what goes into the history, and a report of what it waits for. The same
//! input gives the same plan, so a decision can be tested, replayed and explained.

pub mod command;
pub mod moment;
pub mod observed;
pub mod phase;
pub mod plan;
pub mod report;
pub mod state;

pub use command::{Command, Refusal};
pub use moment::Moment;
pub use observed::{
    AgentObserved, CatalogueObserved, InstanceObserved, MachineObserved, MachineState, Observed,
    ProbeObserved, ProviderFault, SessionObserved,
};
pub use phase::Phase;
pub use plan::{Action, DeleteBasis, Event, EventKind, FleetPlan, Next, Plan, PlanInput};
pub use report::{Blocked, FleetReport, InstanceClass, InstanceReport, Waiting};
pub use state::{Build, FleetState, Instance, Life, Purpose, Rollout, Wave};
