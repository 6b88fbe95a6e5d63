//! Where clients look instances up: the implementations of the engine's `Catalogue`.

mod embedded;

pub use embedded::{AgentNames, EmbeddedCatalogue, EpochNumber, NamesFeed, NamesPublisher};
