//! Where clients look instances up: the implementations of the engine's `Catalogue`.

mod consul;
mod embedded;

pub use consul::{Consul, ConsulCatalogue, ConsulError, ConsulOptions, ConsulParts, Machines};
pub use embedded::{AgentNames, EmbeddedCatalogue, EpochNumber, NamesFeed, NamesPublisher};
