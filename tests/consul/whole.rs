//! Everything together: coordinator, machines with agents and Consul clients, a datacenter with ACLs
//! that deny, TLS and encrypted gossip, and HAProxy in front, under traffic.

mod acts;
mod agents;
mod clients;
mod crossed;
mod exclusive;
mod ghosts;
mod limits;
mod moved;
mod outage;
mod phases;
mod rotation;
mod switch;
mod two;

use std::time::Duration;

/// Machines of each set.
const COUNT: u32 = 3;
/// The same, where things are counted.
const COUNT_SIZE: usize = 3;

/// Whether everything is to be tried, however long that takes.
fn deep() -> bool {
    std::env::var_os("CALVIN_TESTS_DEEP").is_some()
}

/// How long all of Consul is away.
fn away() -> Duration {
    Duration::from_secs(if deep() { 60 } else { 15 })
}
