//! A real Consul for the tests: its certificates, its processes, a datacenter of them.

pub(crate) mod certificates;
pub(crate) mod datacenter;
pub(crate) mod people;
pub(crate) mod process;
pub(crate) mod shared;
pub(crate) mod stranger;
pub(crate) mod waiting;

/// The environments of the end-to-end tests: a coordinator with process machines.
#[allow(dead_code, reason = "the end-to-end tests use all of it")]
#[path = "../e2e/support/environment.rs"]
pub(crate) mod environment;
#[allow(dead_code, reason = "the end-to-end tests use all of it")]
#[path = "../e2e/support/files.rs"]
pub(crate) mod files;
pub(crate) mod home;
#[allow(dead_code, reason = "the end-to-end tests use all of it")]
#[path = "../e2e/support/operator.rs"]
pub(crate) mod operator;
pub(crate) mod player;
#[allow(dead_code, reason = "the end-to-end tests use all of it")]
#[path = "../e2e/support/processes.rs"]
pub(crate) mod processes;

pub(crate) use datacenter::Datacenter;
pub(crate) use people::{agent, coordinator};
pub(crate) use shared::shared;
pub(crate) use waiting::until;
