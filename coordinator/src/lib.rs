//! The coordinator of Calvinverse: everything around the engine that does IO.
//!
//! The engine decides over traits; this crate holds the implementations that touch the world,
//! the two gRPC services, and the command line. One module for one subject:
//!
//! - `api`: what agents and operators call.
//! - `catalogue`: where clients look instances up.
//! - `cli`: every subcommand of `calvin`, as a client of the operator service.
//! - `config`: `calvin.toml`.
//! - `demo`: the demo and its workloads.
//! - `identity`: the CA, join tokens, operators and the audit.
//! - `images`: which images there are, and what they hold.
//! - `observe`: the coordinator's own probes.
//! - `provider`: what makes and deletes machines.
//! - `runtime`: opens, wires and stops all of it.
//! - `store`: durable state and history.

pub mod api;

pub mod catalogue;

pub mod cli;

pub mod config;

pub mod identity;

pub mod images;

pub mod observe;
pub mod provider;

pub mod runtime;

pub mod store;

pub mod demo;

// Another package of the same build may ask for the feature: then nothing that is shipped is built.
const _: () = assert!(
    !calvin_model::Mutant::BUILT_IN,
    "mutants are for tests: build without the feature"
);
