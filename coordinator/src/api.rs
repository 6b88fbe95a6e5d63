//! The services that the coordinator offers: one to agents, one to operators. Each has listeners
//! of its own, so that neither's certificates open the other.

pub mod agent;

pub mod operator;
