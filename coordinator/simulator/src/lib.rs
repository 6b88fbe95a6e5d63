//! The engine and the agents' lifecycle in a world that is made of virtual time and one random
//! number: no thread, no socket, no disk, no clock. The same seed gives the same run, byte for
//! byte, so every failure that is found can be looked at again.
//!
//! What is real here: the engine, the planner, the agents' lifecycle, and the conversion between
//! model and wire of each message. What is simulated stands behind the engine's ports: provider,
//! machines, network, catalogue, probes and the store, each with its faults.

mod agents;
mod catalogue;
mod check;
mod event;
mod fuse;
mod machine;
mod network;
mod probe;
mod provider;
mod scenario;
mod simulation;
mod store;
mod trace;
mod world;

#[cfg(test)]
mod tests;

pub use check::{Rule, Violation};
pub use scenario::{Behaviour, Crash, Fault, Scenario, Side, SimImage, Step};
pub use simulation::{Ended, Outcome, Simulation};
pub use trace::Trace;
