//! The engine and the agents' lifecycle in a world that is made of virtual time and one random
//! number: no thread, no socket, no disk, no clock within a run. The same seed gives the same run, byte for
//! byte, so every failure that is found can be looked at again.
//!
//! What is real here: the engine, the planner, the agents' lifecycle, and the conversion between
//! model and wire of each message. What is simulated stands behind the engine's ports: provider,
//! machines, network, catalogue, probes and the store, each with its faults.

mod agents;
mod campaign;
mod catalogue;
mod check;
mod desk;
mod event;
mod fault;
mod forecast;
mod fuse;
mod image;
mod log;
mod machine;
mod network;
mod probe;
mod provider;
mod scenario;
mod script;
mod shrink;
mod simulation;
mod store;
mod trace;
mod world;

#[cfg(test)]
mod tests;

pub use campaign::{Tally, campaign};
pub use check::{Rule, Violation};
pub use fault::{Fault, UnknownFault};
pub use forecast::{FleetForecast, Forecast, Question, Turnout, forecast, pace};
pub use image::{Behaviour, SimImage};
pub use log::Keep;
pub use scenario::{Cloud, Crash, Pace, Scenario, Side, Step};
pub use script::UnknownStep;
pub use shrink::{Shrunk, shrink};
pub use simulation::{Ended, Outcome, Simulation};
pub use trace::Trace;
pub use world::{FleetSample, Sample};
