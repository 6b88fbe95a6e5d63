//! A line on the screen, whose width is known without the escapes that colour it.

use super::terminal::Colours;

/// What a piece of text is, as a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Bold,
    Dim,
    Good,
    Warn,
    Bad,
    Blue,
    Green,
}

impl Tone {
    const fn escape(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[1;31m",
            Self::Blue => "\x1b[1;34m",
            Self::Green => "\x1b[1;32m",
        }
    }
}

/// A line of pieces, each with its tone: its width is known without its escapes.
#[derive(Debug, Default)]
pub(super) struct Line {
    pieces: Vec<(Tone, String)>,
}

impl Line {
    /// Adds a piece.
    pub(super) fn add(mut self, tone: Tone, text: impl Into<String>) -> Self {
        self.pieces.push((tone, text.into()));
        self
    }

    fn width(&self) -> usize {
        self.pieces
            .iter()
            .map(|(_, text)| text.chars().count())
            .sum()
    }

    /// Blanks up to this column.
    pub(super) fn to(self, column: usize) -> Self {
        let missing = column.saturating_sub(self.width());
        self.add(Tone::Plain, " ".repeat(missing))
    }

    /// The pieces of both.
    pub(super) fn join(mut self, other: Self) -> Self {
        self.pieces.extend(other.pieces);
        self
    }

    /// As text, cut at this column.
    pub(super) fn draw(&self, columns: usize, colours: Colours) -> String {
        let mut left = columns;
        let mut out = String::new();
        for (tone, text) in &self.pieces {
            let shown: String = text.chars().take(left).map(tame).collect();
            left -= shown.chars().count();
            match (colours, tone.escape()) {
                (Colours::Off, _) | (Colours::On, "") => out.push_str(&shown),
                (Colours::On, escape) => out.push_str(&format!("{escape}{shown}\x1b[0m")),
            }
        }
        out
    }
}

/// Nothing that comes from elsewhere may move the cursor.
fn tame(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}
