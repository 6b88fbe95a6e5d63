//! Durable state and history, in one `redb` database on local disk.
//!
//! `open` takes the data directory for this process and gives the shared `Database`, in which the
//! engine's state, the history, identities and images each have tables of their own. Everything
//! that is kept is JSON with a format number, so that a person can read it and a newer version's
//! record is refused by name instead of being half understood.

mod about;
pub mod backup;
mod database;
mod directory;
mod failure;
#[cfg(test)]
mod fault;
mod fleets;
mod history;
mod record;

pub use database::Database;
pub use directory::{Copies, DataDirectory, OpenError, open};
pub use failure::StoreFailure;
#[cfg(test)]
pub(crate) use fault::StoreFault;
pub use fleets::FleetStore;
pub use history::{History, Recorded};
pub use record::{FORMAT, RecordError, decode, encode};

#[cfg(test)]
mod tests;
