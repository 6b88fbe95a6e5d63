//! A part of the terminal that is drawn again and again, and left as it was at the end.

use std::io::{self, Write as _};

/// What there is to draw on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Canvas {
    pub(super) columns: usize,
    pub(super) rows: usize,
    pub(super) colours: Colours,
}

/// Whether to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colours {
    On,
    Off,
}

/// Where nobody says how large the terminal is.
const COLUMNS: usize = 80;
const ROWS: usize = 24;

/// Hides the cursor while it lives.
#[derive(Debug)]
pub(super) struct Terminal {
    /// Lines of the last picture: the cursor stands below them.
    drawn: usize,
    colours: Colours,
}

impl Terminal {
    pub(super) fn open() -> Self {
        // https://no-color.org: any value but the empty one.
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        write("\x1b[?25l");
        Self {
            drawn: 0,
            colours: if unwanted { Colours::Off } else { Colours::On },
        }
    }

    /// Draws over the last picture. Lines are already cut to the canvas.
    pub(super) fn draw(&mut self, picture: impl FnOnce(Canvas) -> Vec<String>) {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let or = |value: u16, default| {
            if value == 0 {
                default
            } else {
                usize::from(value)
            }
        };
        let canvas = Canvas {
            columns: size.map_or(COLUMNS, |size| or(size.ws_col, COLUMNS)),
            rows: size.map_or(ROWS, |size| or(size.ws_row, ROWS)),
            colours: self.colours,
        };
        // The last row stays free: a line feed there would scroll the picture's first line away.
        let mut lines = picture(canvas);
        lines.truncate(canvas.rows.saturating_sub(1));
        // Begin and end of a synchronized update: terminals that know it never show half a picture.
        let mut text = String::from("\x1b[?2026h");
        if self.drawn > 0 {
            text.push_str(&format!(
                "\x1b[{}A",
                self.drawn.min(canvas.rows.saturating_sub(1))
            ));
        }
        for line in &lines {
            text.push_str(&format!("\r{line}\x1b[0m\x1b[K\n"));
        }
        text.push_str("\x1b[J\x1b[?2026l");
        self.drawn = lines.len();
        write(&text);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        write("\x1b[0m\x1b[?25h");
    }
}

fn write(text: &str) {
    let mut stdout = io::stdout().lock();
    // See `write_line`: a terminal that has gone is no reason to stop in the middle.
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}
