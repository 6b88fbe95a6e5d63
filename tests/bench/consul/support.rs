//! The real Consul of the tests, for this bench: the same files.

#[path = "../../consul/support/certificates.rs"]
pub(crate) mod certificates;
#[path = "../../consul/support/datacenter.rs"]
pub(crate) mod datacenter;
#[path = "../../consul/support/home.rs"]
pub(crate) mod home;
#[path = "../../consul/support/player.rs"]
pub(crate) mod player;
#[path = "../../consul/support/process.rs"]
pub(crate) mod process;
#[path = "../../consul/support/waiting.rs"]
pub(crate) mod waiting;

pub(crate) use crate::stage::calvin::{environment, files};
pub(crate) use datacenter::Datacenter;
pub(crate) use waiting::until;
