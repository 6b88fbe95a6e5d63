//! Opens, wires and stops the parts of a coordinator.

mod clock;
mod coordinator;
#[cfg(feature = "crash-points")]
mod crash_points;
mod desk;
mod engine;
mod error;
mod first_boot;
mod health;
mod listen;
mod machines;
mod metrics;
mod serve;
mod signals;
#[cfg(test)]
mod tests;
mod threads;

pub use clock::SystemClock;
pub(crate) use clock::{local, rfc3339, wall_ms, wall_ms_now};
pub use desk::{Desk, OrderError, Poke};
pub use engine::{EngineEnd, EngineThread};
pub use error::ServeError;
pub use machines::AtEnd;
pub use serve::{Ready, run};
pub use signals::told_to_end;
pub use threads::block_on;
