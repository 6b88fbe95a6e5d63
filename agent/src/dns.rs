//! Answers the environment's names on the machine, from the newest snapshot that the coordinator
//! published, stored on disk before it is served: names outlive the coordinator, and an agent
//! that starts serves at once what it served before.
//!
//! Where the machine joins Consul, its own client is asked instead, and what it said last is kept, on disk
//! too, for when it is silent ([`Forwarder`]).
//!
//! The look-up is pure ([`Zone`]), and so is everything from a packet to its reply ([`reply`]).
//! The server is our own loop over two sockets and not hickory's: that one starts a task for each
//! packet, drops replies above 32 in flight, and bounds neither connections nor what it logs.

mod flights;
mod forward;
mod kept;
mod reply;
mod server;
mod store;
#[cfg(test)]
mod tests;
mod upstream;
mod zone;

pub use forward::{Forwarder, ForwarderSeen, Target};
pub use reply::{Transport, reply};
pub use server::{Server, Sources, serve};
pub use store::{Admitted, Names, NamesError};
pub use zone::{Answer, Zone, ZoneError};
