//! `calvin demo`: what Calvinverse is for, in under a minute, with nothing pretended.

pub mod workload;
