//! `calvin-agent`: only wires. Everything is in the library, so that tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    calvin_agent::cli::main().into()
}
