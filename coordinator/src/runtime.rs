//! Opens, wires and stops the parts of a coordinator.

mod clock;
mod desk;
mod engine;

pub use clock::SystemClock;
pub(crate) use clock::wall_ms_now;
pub use desk::{Desk, OrderError, Poke};
pub use engine::{EngineEnd, EngineThread};
