//! The planner against a small deterministic world: machines, agents and a catalogue as plain
//! structs, a clock that only the test moves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod chaos;
mod docs;
mod gates;
mod orders;
mod previews;
mod repairs;
mod rollouts;
mod rules;
mod size;
mod unhealthy;
mod way_back;
mod world;
mod zones;
