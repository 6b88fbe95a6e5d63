//! Where output goes: a terminal or a pipe, its width, its colours, and the format asked for. The
//! only file that writes to standard output and standard error.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsFd,
};

use clap::ValueEnum;
use serde::Serialize;

use super::{
    exit::Exit,
    failure::{Failure, Page},
    style::{Canvas, Paint},
};

/// Columns where nobody says how many there are.
const WIDTH_DEFAULT: usize = 80;

/// Widest layout: longer lines are hard to read.
const WIDTH_MAX: usize = 160;

/// What output is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: one object; for what goes on, one object a line.
    Json,
}

/// What is at the other end of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sink {
    /// Somebody looks at it.
    Terminal,
    /// A pipe or a file.
    Pipe,
}

/// Where output goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// The format asked for.
    pub(crate) format: Format,
    /// What is at the other end.
    pub(crate) sink: Sink,
    canvas: Canvas,
}

impl Screen {
    /// Looks where this process's output goes.
    pub(crate) fn detect(format: Format) -> Self {
        let sink = if io::stdout().is_terminal() {
            Sink::Terminal
        } else {
            Sink::Pipe
        };
        let canvas = Canvas {
            width: width(io::stdout()),
            paint: paint_for(io::stdout().is_terminal()),
        };
        Self {
            format,
            sink,
            canvas,
        }
    }

    /// What to render for.
    pub(crate) fn canvas(&self) -> Canvas {
        self.canvas
    }

    /// Lines that a live view may use: one less than the terminal has, so that it never scrolls.
    pub(crate) fn lines_max(&self) -> usize {
        rustix::termios::tcgetwinsize(io::stdout())
            .map_or(24, |size| usize::from(size.ws_row).max(4))
            - 1
    }

    /// Shows a result: as an object, or as the text that `render` makes.
    pub(crate) fn show<T: Serialize>(
        &self,
        value: &T,
        render: impl FnOnce(&T, Canvas) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(value),
            Format::Table => write(&render(value, self.canvas)),
        }
    }

    /// Shows an object on one line.
    pub(crate) fn json<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        let mut text = serde_json::to_string(value).map_err(|error| {
            Failure::new(Exit::Failed, "could not show the result").because(error)
        })?;
        text.push('\n');
        write(&text)
    }

    /// Writes a text for people as it is.
    pub(crate) fn text(&self, text: &str) -> Result<(), Failure> {
        write(text)
    }

    /// Writes raw bytes.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        write_bytes(bytes)
    }

    /// Says something beside the result, to standard error.
    pub(crate) fn remark(&self, text: &str) {
        // There is nobody left to tell when standard error is gone.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Writes a text to standard error as it is.
    pub(crate) fn say(&self, text: &str) {
        // There is nobody left to tell when standard error is gone.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    /// Tells a failure, to standard error.
    pub(crate) fn fail(&self, failure: &Failure) {
        let page = if io::stderr().is_terminal() {
            Page::Terminal(Canvas {
                width: width(io::stderr()),
                paint: paint_for(true),
            })
        } else {
            Page::Lines
        };
        let _ = io::stderr()
            .lock()
            .write_all(failure.report(self.format, page).as_bytes());
    }

    /// Whether a person can be asked: both ends are a terminal, and the format is for people.
    pub(crate) fn can_ask(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal() && self.format == Format::Table
    }

    /// Asks a question that is answered with yes or no; only `y` and `yes` mean yes.
    pub(crate) fn ask(&self, question: &str) -> Result<Answer, Failure> {
        let refused =
            |error| Failure::new(Exit::Failed, "could not read the answer").because(error);
        let mut stderr = io::stderr().lock();
        write!(stderr, "{question} [y/N] ").map_err(refused)?;
        stderr.flush().map_err(refused)?;
        let mut line = String::new();
        io::stdin().read_line(&mut line).map_err(refused)?;
        Ok(match line.trim().to_lowercase().as_str() {
            "y" | "yes" => Answer::Yes,
            _ => Answer::No,
        })
    }
}

/// What a person answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Go on.
    Yes,
    /// Leave it.
    No,
}

fn paint_for(terminal: bool) -> Paint {
    // https://no-color.org: any value but the empty one.
    let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = env::var_os("TERM").is_some_and(|value| value == "dumb");
    if terminal && !unwanted && !dumb {
        Paint::Colour
    } else {
        Paint::Plain
    }
}

fn width(stream: impl AsFd) -> usize {
    let columns = rustix::termios::tcgetwinsize(stream)
        .map(|size| usize::from(size.ws_col))
        .ok()
        .filter(|columns| *columns > 0);
    columns.unwrap_or(WIDTH_DEFAULT).min(WIDTH_MAX)
}

fn write(text: &str) -> Result<(), Failure> {
    write_bytes(text.as_bytes())
}

fn write_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::reader_gone()),
        Err(error) => Err(Failure::new(Exit::Failed, "could not write the output").because(error)),
    }
}
