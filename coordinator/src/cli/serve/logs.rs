//! A coordinator's log: lines on standard error, which whoever runs it (systemd, a container, a
//! terminal) keeps.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{EnvFilter, fmt};

use super::super::{exit::Exit, failure::Failure};

/// Writes what `filter` lets through to standard error from now on: `info`, or
/// `info,calvin_engine=debug`.
pub(super) fn to_standard_error(filter: &str) -> Result<(), Failure> {
    let tried = || format!("could not log as {filter:?} says (`log` in calvin.toml)");
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|error| Failure::new(Exit::Usage, tried()).because(error))?;
    fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // A line that cannot be written must not become a second one that cannot be written
        // either: that would be a panic, and a full disk would end the coordinator.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .try_init()
        .map_err(|error| Failure::new(Exit::Failed, tried()).reason(error.to_string()))
}
