//! The real binaries, end to end: each test has an environment of its own, with a coordinator,
//! machines, names and traffic, and ends all of it also when it fails.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test that cannot go on panics, and shows what it knows"
)]

mod agents;
mod clocks;
mod crashes;
mod dev;
mod enrolment;
mod identity;
mod kinds;
mod malformed;
mod people;
mod recovery;
mod rollouts;
mod rotation;
mod start;
mod store;
mod strangers;
mod support;
mod workloads;
