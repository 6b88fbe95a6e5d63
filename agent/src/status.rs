//! What the agent says of itself on the machine: one JSON line to whoever connects to
//! `run/agent.sock`, and sentences about what it waits for.

mod explain;
mod socket;
mod view;

pub use socket::{StatusError, StatusRequest, ask, serve};
pub use view::{CheckView, LockView, NamesFromView, SessionView, StatusView, WaitingView};
pub(crate) use view::{Sources, build};
