//! What the coordinator sees for itself, without asking an agent: its own probes of every
//! service's port.

mod attempt;
mod probes;

pub use probes::{OnChange, ProbePort, Prober, prober};
