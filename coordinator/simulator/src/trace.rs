//! The record of a simulation: one line for each thing that happened, in virtual time.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

/// What happened, in order. Equal traces are equal runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    text: String,
}

impl Trace {
    pub(crate) fn line(&mut self, now: Duration, what: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(
            self.text,
            "{:>7}.{:03} {what}",
            now.as_secs(),
            now.subsec_millis()
        );
    }

    /// The lines.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The last lines, for a report of what went wrong.
    #[must_use]
    pub fn tail(&self, lines: usize) -> &str {
        let from = self.text.rmatch_indices('\n').nth(lines);
        from.map_or(&*self.text, |(at, _)| &self.text[at + 1..])
    }
}
