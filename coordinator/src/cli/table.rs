//! Tables without borders that fit the width: every column is as wide as it needs, the last one
//! takes what is left and is wrapped, so that nothing is cut off.

use super::style::{Canvas, Tone, width, wrap};

/// Blanks between two columns.
const GAP: usize = 2;

/// Narrowest last column that is still read with pleasure; with less it goes below its row.
const LAST_MIN: usize = 24;

/// How far a last column is indented when it goes below its row.
const BELOW_INDENT: usize = 4;

/// One field of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A field that stands out as `tone` does.
    pub(crate) fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            tone,
        }
    }

    fn width(&self) -> usize {
        width(&self.text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(Tone::Normal, text)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(Tone::Normal, text)
    }
}

/// A table with a heading.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    indent: usize,
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    /// A table with these headings, each line after `indent` blanks.
    pub(crate) fn new(indent: usize, headings: [&str; N]) -> Self {
        let rows = vec![headings.map(|text| Cell::new(Tone::Dim, text))];
        Self { indent, rows }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, row: [Cell; N]) {
        self.rows.push(row);
    }

    /// The table's lines.
    pub(crate) fn render(&self, canvas: Canvas) -> String {
        let Some(last) = N.checked_sub(1) else {
            return String::new();
        };
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        let before: usize = self.indent
            + widths[..last]
                .iter()
                .map(|width| width + GAP)
                .sum::<usize>();
        let left = canvas.width.saturating_sub(before);
        let below = left < LAST_MIN.min(widths[last]);
        // A heading over nothing only widens the table.
        let empty = self.rows[1..].iter().all(|row| row[last].text.is_empty());
        let mut out = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            let mut line = " ".repeat(self.indent);
            for (cell, width) in row[..last].iter().zip(widths) {
                line.push_str(&canvas.paint.tone(cell.tone, &cell.text));
                line.push_str(&" ".repeat(width - cell.width() + GAP));
            }
            let cell = &row[last];
            if empty || (below && number == 0) {
                push_line(&mut out, &line);
                continue;
            }
            if below {
                push_line(&mut out, &line);
                let indent = self.indent + BELOW_INDENT;
                let lines = wrap(&cell.text, canvas.width.saturating_sub(indent));
                for text in lines.iter().filter(|text| !text.is_empty()) {
                    push_line(
                        &mut out,
                        &format!(
                            "{}{}",
                            " ".repeat(indent),
                            canvas.paint.tone(cell.tone, text)
                        ),
                    );
                }
                continue;
            }
            for (number, text) in wrap(&cell.text, left).iter().enumerate() {
                let text = canvas.paint.tone(cell.tone, text);
                if number == 0 {
                    push_line(&mut out, &format!("{line}{text}"));
                } else {
                    push_line(&mut out, &format!("{}{text}", " ".repeat(before)));
                }
            }
        }
        out
    }
}

fn push_line(out: &mut String, line: &str) {
    out.push_str(line.trim_end());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::{super::style::Paint, *};

    fn sample() -> Table<3> {
        let mut table = Table::new(0, ["NAME", "STATE", "WHY"]);
        table.row([
            "web".into(),
            "bad".into(),
            "its check says that it answers with 503".into(),
        ]);
        table
    }

    #[test]
    fn the_last_column_is_wrapped_into_what_is_left() {
        let canvas = Canvas {
            width: 40,
            paint: Paint::Plain,
        };
        assert_eq!(
            sample().render(canvas),
            "NAME  STATE  WHY\n\
             web   bad    its check says that it\n\
             \x20            answers with 503\n"
        );
    }

    #[test]
    fn without_room_the_last_column_goes_below_its_row() {
        let canvas = Canvas {
            width: 30,
            paint: Paint::Plain,
        };
        assert_eq!(
            sample().render(canvas),
            "NAME  STATE\nweb   bad\n    its check says that it\n    answers with 503\n"
        );
    }

    #[test]
    fn colour_does_not_move_a_column() {
        let mut table = Table::new(0, ["A", "B"]);
        table.row([Cell::new(Tone::Bad, "x"), "y".into()]);
        let canvas = Canvas {
            width: 80,
            paint: Paint::Colour,
        };
        assert!(table.render(canvas).ends_with("\x1b[1;31mx\x1b[0m  y\n"));
    }
}
