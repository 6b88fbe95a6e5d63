//! Decides what the agent does next. A state machine without clock, IO or randomness: each thing
//! that happened goes in with the time at which it did, and what must be done comes out. So the
//! agent and the simulator run the same decisions, and every order of events can be tried.
//!
//! Three rules hold everywhere:
//! - What a coordinator said is committed to disk before anything is done about it or answered
//!   ([`Output::Persist`], then [`Input::Committed`]).
//! - An older epoch, the same epoch of another run, and an older generation change nothing.
//! - The workload goes on as it is when servers, coordinator or agent are gone: only a wanted
//!   state ends it.

mod checks;
mod drain;
mod health;
mod input;
mod lifecycle;
mod orders;
mod output;
mod quorum;
mod record;
mod refusal;
mod report;
mod role;
mod spec;
#[cfg(test)]
mod tests;
mod waiting;
mod workload;

pub use input::{CheckOutcome, HookOutcome, Input, QuorumOutcome};
pub use lifecycle::Lifecycle;
pub use output::{HookKind, HookRun, Output};
pub use record::{AgentRecord, Applied, RECORD_FORMAT, RecordError};
pub use refusal::Refusal;
pub use spec::{CheckRule, Spec};
pub use waiting::{Waiting, WaitingFor};
