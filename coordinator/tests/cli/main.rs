//! The binary `calvin` as a user types it, against an operator service that answers from a script
//! over a unix socket: commands, output, exit codes, Ctrl-C, a coordinator that goes away.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod changes;
mod fake;
mod orders;
mod policies;
mod reading;
mod recovering;
mod run;
mod simulating;
mod terminal;
mod tls;
mod tutorial;
mod watching;
