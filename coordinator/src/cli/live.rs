//! A few lines on a terminal that are drawn again in place.

use std::time::Duration;

use super::{failure::Failure, screen::Screen};

/// A coordinator says something every two seconds; one that misses two times has gone or hangs.
pub(crate) const SILENT: Duration = Duration::from_secs(5);

/// Lines that are drawn again and again. One write for each picture, so that it does not flicker.
#[derive(Debug)]
pub(crate) struct Live {
    screen: Screen,
    drawn: usize,
}

impl Live {
    /// Nothing is drawn yet.
    pub(crate) fn new(screen: Screen) -> Self {
        Self { screen, drawn: 0 }
    }

    /// Draws `text` over what was drawn before.
    pub(crate) fn draw(&mut self, text: &str) -> Result<(), Failure> {
        let text = format!("{}{text}", self.back());
        self.drawn = text.matches('\n').count();
        self.screen.text(&text)
    }

    /// Draws `text` over what was drawn before, for good.
    pub(crate) fn finish(&mut self, text: &str) -> Result<(), Failure> {
        self.draw(text)?;
        self.drawn = 0;
        Ok(())
    }

    /// To the first line that was drawn, and nothing below it: cursor up (CUU) and erase in
    /// display (ED), ECMA-48 sections 8.3.22 and 8.3.39.
    fn back(&self) -> String {
        match self.drawn {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r\x1b[J"),
        }
    }
}
