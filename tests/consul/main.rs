//! calvin-consul against a real Consul: a server with ACLs that deny by default, TLS both ways and
//! encrypted gossip, and a Consul client on a node of its own. Coordinator and agent have tokens of
//! their least policies and nothing more.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on panics, and shows what it knows"
)]

mod coordinator;
mod errors;
mod exclusive;
mod ghosts;
mod guards;
mod joining;
mod kv;
mod least;
mod locks;
mod names;
mod proxies;
mod reference;
mod registration;
mod roles;
mod signs;
#[allow(dead_code, reason = "the whole-system tests use all of it")]
mod stage;
mod support;
mod switch;
mod tls;
mod tokens;
mod transactions;
mod watching;
mod whole;

// The coordinator that the agent's own tests have: real wire, scripted words.
#[allow(dead_code, unreachable_pub, reason = "each test takes what it needs")]
#[path = "../../agent/src/testing.rs"]
mod testing;
