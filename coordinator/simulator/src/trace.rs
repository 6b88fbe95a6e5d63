//! The record of a simulation: one line for each thing that happened, in virtual time.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

/// How a line begins, after its time, that says that a rule was broken.
pub(crate) const BREACH: &str = "BROKEN ";

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

    /// The lines up to the first that says that a rule was broken; all, if none does.
    #[must_use]
    pub fn up_to_breach(&self) -> &str {
        let Some(at) = self.text.find(BREACH) else {
            return &self.text;
        };
        let end = self.text[at..].find('\n');
        end.map_or(&*self.text, |length| &self.text[..at + length + 1])
    }
}
