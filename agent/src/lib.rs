//! The agent of Calvinverse: one per instance. It learns who its machine is, gets an identity,
//! keeps a session with its coordinator, starts and checks the workload through its runner,
//! answers the environment's names, and obeys: stand by, serve, drain, retire.
//!
//! What to do next is decided by the pure state machine in `calvin-lifecycle`; every module here
//! is one subsystem that does the IO for it. A failing subsystem never takes another down.

pub mod catalogue;
pub mod cli;
pub mod clock;
pub mod command;
pub mod connections;
pub mod disk;
pub mod dns;
pub mod exit;
pub mod fault;
pub mod health;
pub mod hooks;
pub mod identity;
pub mod init;
pub mod local_socket;
pub mod provision;
pub mod quorum;
pub mod retry;
pub mod run;
pub mod session;
pub mod status;
#[cfg(test)]
mod testing;
pub mod workload;

// Another package of the same build may ask for the feature: then nothing that is shipped is built.
const _: () = assert!(
    !calvin_model::Mutant::BUILT_IN,
    "mutants are for tests: build without the feature"
);
