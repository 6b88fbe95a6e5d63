//! Decides what every fleet needs next. Pure: no clock, no IO, no global state, no hash maps.
//!
//! [`plan()`] sees the durable state of all fleets, the newest observations, each with its age, and
//! the moment on the decision clock. It returns the next durable state, actions that leave the
//! executor no choice, what goes into the history, and a report of what it waits for. The same
//! input gives the same plan, so a decision can be tested, replayed and explained.

mod by_id;
pub mod command;
mod distrust;
pub mod environment;
pub mod exclusive;
mod fnv;
pub mod invariant;
pub mod judge;
mod ledger;
pub mod moment;
pub mod observed;
mod pass;
pub mod people;
pub mod phase;
pub mod plan;
pub mod preview;
mod quorum;
pub mod repairs;
pub mod report;
mod spread;
pub mod state;
mod step;
pub mod sums;
pub mod transition;
mod turns;
pub mod wall;
mod waves;

pub use command::{Command, CommandInput, CommandOutcome, Refusal, command};
pub use environment::{
    EnvironmentRules, EnvironmentState, Freeze, FreezeScope, Order, ProviderRules,
};
pub use invariant::{InvariantId, Violation, check};
pub use judge::{Answering, Distrust, Judgement, ListTrust, Loss, judge};
pub use moment::Moment;
pub use observed::{
    AgentObserved, Capacity, CatalogueObserved, CheckObserved, FaultKind, GossipObserved,
    InstanceObserved, LockHolder, LockSeen, MachineObserved, MachineState, Observed, ProbeObserved,
    ProviderFault, SessionObserved, WindowObserved,
};
pub use people::{Aim, Approval, Gates, Pause, Promotion, Standing, Whose};
pub use phase::Phase;
pub use plan::{Action, DeleteBasis, Event, EventKind, FleetPlan, Next, Plan, PlanInput, plan};
pub use preview::{
    InstancePreview, PlanId, RolloutPreview, WavePreview, WayBack, preview, preview_in,
};
pub use repairs::{Flaps, Repairs};
pub use report::{Blocked, FleetReport, InstanceClass, InstanceReport, RestsOn, Waiting};
pub use state::{
    Build, Deletion, FleetState, Gap, Instance, Life, NextRollout, Owed, Purpose, Rollout, Wave,
    WaveOrder,
};
pub use step::RETIRE_GRACE;
pub use transition::{Cause, IllegalTransition, WhilePaused, diagram, transition, while_paused};
pub use wall::{LocalTime, date, windows_at};
pub use waves::waves_in_all;

/// Who decided what nobody ordered, in the history and as the one who started a rollout.
pub const PLANNER: &str = "planner";
