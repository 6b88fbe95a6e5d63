//! A real Consul for the tests: its certificates, its processes, a datacenter of them.

pub(crate) mod between;
pub(crate) mod certificates;
pub(crate) mod datacenter;
pub(crate) mod home;
pub(crate) mod people;
pub(crate) mod player;
pub(crate) mod process;
pub(crate) mod shared;
pub(crate) mod stranger;
pub(crate) mod waiting;

pub(crate) use crate::stage::calvin::{environment, files, operator};
pub(crate) use datacenter::Datacenter;
pub(crate) use people::{agent, coordinator};
pub(crate) use shared::shared;
pub(crate) use waiting::until;
