//! The binary `calvin-crash`: `calvin` with numbered places at which it dies. For tests alone; it
//! is built only with the feature `crash-points`, and has a name of its own so that nobody takes it
//! for the other.

use std::process::ExitCode;

fn main() -> ExitCode {
    calvin_coordinator::cli::run()
}
