//! The planner against a small deterministic world: machines, agents and a catalogue as plain
//! structs, a clock that only the test moves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod budgets;
mod capacity;
mod chaos;
mod docs;
mod exclusive;
mod exclusive_locks;
mod gates;
mod lost_zones;
mod order;
mod orders;
mod people;
mod people_freeze;
mod people_keep;
mod people_rules;
mod previews;
mod providers;
mod quorum;
mod repairs;
mod rollouts;
mod rules;
mod shared_rules;
mod size;
mod unhealthy;
mod vetoes;
mod waves;
mod way_back;
mod world;
mod zones;
