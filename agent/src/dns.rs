//! Answers the environment's names on the machine, from the newest snapshot that the coordinator
//! published, stored on disk before it is served: names outlive the coordinator, and an agent
//! that starts serves at once what it served before.
//!
//! The look-up is pure ([`Zone`]), and so is everything from a packet to its reply ([`reply`]).
//! The server is our own loop over two sockets and not hickory's: that one starts a task for each
//! packet, drops replies above 32 in flight, and bounds neither connections nor what it logs.

mod reply;
mod server;
mod store;
#[cfg(test)]
mod tests;
mod zone;

pub use reply::{Transport, reply};
pub use server::{Server, serve};
pub use store::{Admitted, Names, NamesError};
pub use zone::{Answer, Zone, ZoneError};
