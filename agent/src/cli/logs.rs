//! Log lines to standard error, which the runner captures.

use std::io;

use tracing_subscriber::{
    filter::{LevelFilter, ParseError, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Environment variable with the filter: a level, or `target=level` separated by commas.
const FILTER_VARIABLE: &str = "CALVIN_LOG";

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
#[error("could not read the filter {text:?} of {FILTER_VARIABLE}")]
pub(super) struct LogsError {
    text: String,
    #[source]
    source: ParseError,
}

/// Starts to write log lines.
///
/// # Errors
/// Where the filter cannot be read.
pub(super) fn start() -> Result<(), LogsError> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(text) => text
            .parse::<Targets>()
            .map_err(|source| LogsError { text, source })?,
        Err(_) => Targets::new().with_default(LevelFilter::INFO),
    };
    let lines = tracing_subscriber::fmt::layer()
        // Telling that a line could not be written would panic where nothing can be written.
        .log_internal_errors(false)
        .with_writer(io::stderr)
        .with_ansi(false);
    // Fails only where logs were started before: then they go there.
    let _ = tracing_subscriber::registry()
        .with(lines)
        .with(filter)
        .try_init();
    Ok(())
}
