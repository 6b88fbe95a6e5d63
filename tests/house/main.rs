//! The rules of the house, proved: who may use whom, what is pure, what is shipped, and how files look.
//!
//! What these tests read is what cargo itself resolved, not what the manifests seem to say.

mod arrows;
mod files;
mod graph;
mod shipped;
