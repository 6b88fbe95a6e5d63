//! Looks, decides, commits, acts: the loop around the planner. Deterministic: it reaches the
//! world only through the traits of [`ports`], reads no clock but theirs, and owns no thread.

pub mod ports;
