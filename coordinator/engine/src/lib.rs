//! Looks, decides, commits, acts: the loop around the planner. Deterministic: it reaches the
//! world only through the traits of [`ports`], reads no clock but theirs, and owns no thread.

mod act;
mod away;
mod batch;
pub mod clock;
pub mod command;
mod commit;
pub mod decide;
pub mod engine;
mod entries;
pub mod hold;
mod look;
#[cfg(feature = "mutants")]
mod mutants;
mod permit;
pub mod ports;
pub mod recover;
mod tell;
pub mod view;
mod windows;

pub use command::CommandError;
pub use decide::{Decide, Planner};
pub use engine::{Engine, PassOutcome, StartError};
pub use hold::{Held, chain};
pub use ports::{PortSet, Ports};
pub use recover::{Approval, RecoveryRefusal, RecoveryView, WhatBlocks};
pub use view::{Notice, View};

#[cfg(test)]
mod tests;
