//! Writes results to standard output and errors to standard error: the only place that does.

use std::{
    error::Error,
    io::{self, Write as _},
};

use serde::Serialize;

use crate::{exit::Exit, fault::chain};

/// Writes bytes as they are. A reader that went away (`| head`) is no failure.
pub(super) fn bytes(content: &[u8]) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(content).and_then(|()| out.flush()) {
        Ok(()) => Exit::Done,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => failure(&error, Exit::Failed),
    }
}

/// Writes a text and a line's end.
pub(super) fn text(content: &str) -> Exit {
    bytes(format!("{content}\n").as_bytes())
}

/// Writes one JSON object on a line.
pub(super) fn json(value: &impl Serialize) -> Exit {
    match serde_json::to_string(value) {
        Ok(line) => text(&line),
        Err(error) => failure(&error, Exit::Failed),
    }
}

/// Writes an error with its whole chain of causes, and gives back `exit`.
pub(super) fn failure(error: &(dyn Error + 'static), exit: Exit) -> Exit {
    problem(&chain(error));
    exit
}

/// Writes what is wrong to standard error.
pub(super) fn problem(words: &str) {
    // Nothing is left to tell a failure to write to standard error to.
    let _ = writeln!(io::stderr().lock(), "error: {words}");
}
