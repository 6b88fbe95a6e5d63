//! The binary `calvin`: the coordinator and its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    calvin_coordinator::cli::run()
}
