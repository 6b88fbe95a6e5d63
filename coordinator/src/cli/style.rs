//! Colour and width, kept apart from the text: what is rendered takes them as parameters, so that
//! tests see the same text as a terminal without its escapes.

use std::{borrow::Cow, fmt::Write as _};

use textwrap::{Options, WordSplitter};

/// Whether escapes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// On a terminal that wants them.
    Colour,
    /// In a pipe, and where `NO_COLOR` is set.
    Plain,
}

/// What a piece of text is, so that one place decides how that looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing special.
    #[default]
    Normal,
    /// As it should be.
    Good,
    /// A person should look.
    Warn,
    /// Something is wrong.
    Bad,
    /// What can be skipped.
    Dim,
    /// Headings.
    Bold,
    /// The set that serves.
    Blue,
}

impl Tone {
    const fn escape(self) -> &'static str {
        match self {
            Self::Normal => "",
            Self::Good => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[1;31m",
            Self::Dim => "\x1b[2m",
            Self::Bold => "\x1b[1m",
            Self::Blue => "\x1b[34m",
        }
    }
}

impl Paint {
    /// `text` in that tone.
    pub(crate) fn tone(self, tone: Tone, text: &str) -> String {
        match (self, tone) {
            (Self::Plain, _) | (Self::Colour, Tone::Normal) => text.to_owned(),
            (Self::Colour, tone) => format!("{}{text}\x1b[0m", tone.escape()),
        }
    }
}

/// What a text is rendered for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Canvas {
    /// Columns.
    pub(crate) width: usize,
    /// Escapes or not.
    pub(crate) paint: Paint,
}

/// Narrowest width that is rendered for: below it, lines run over.
const WIDTH_MIN: usize = 40;

impl Canvas {
    /// `label` in a column of its own of `indent` characters, then `text`, wrapped beside it.
    pub(crate) fn labelled(self, indent: usize, label: &str, tone: Tone, text: &str) -> String {
        let left_over = self.width.max(WIDTH_MIN).saturating_sub(indent);
        let mut out = String::new();
        for (number, line) in wrap(text, left_over).iter().enumerate() {
            let left = if number == 0 {
                let pad = indent.saturating_sub(width(label));
                format!("{}{}", self.paint.tone(tone, label), " ".repeat(pad))
            } else {
                " ".repeat(indent)
            };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{}", format!("{left}{line}").trim_end());
        }
        out
    }

    /// `text` as a paragraph, each line after `indent` spaces.
    pub(crate) fn paragraph(self, indent: usize, text: &str) -> String {
        self.labelled(indent, "", Tone::Normal, text)
    }
}

/// `text` in lines of at most `width` columns, broken between words; a word that is longer than
/// a line is broken inside.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    // At a hyphen nothing is broken: ids and commands are copied from here.
    let options = Options::new(width.max(1)).word_splitter(WordSplitter::NoHyphenation);
    let lines = textwrap::wrap(&text, options);
    lines.into_iter().map(Cow::into_owned).collect()
}

/// How many columns of a terminal `text` takes.
pub(crate) fn width(text: &str) -> usize {
    textwrap::core::display_width(text)
}

/// `one thing`, `two things`: a count and its noun.
pub(crate) fn count(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

/// `text` without what could move a terminal's cursor: strangers' bytes come through here.
pub(crate) fn tame(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words_and_long_words_inside() {
        assert_eq!(wrap("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(wrap("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(
            wrap("see web-bbbb0003 now", 8),
            ["see", "web-bbbb", "0003 now"]
        );
        assert_eq!(
            wrap("see web-bbbb0003 now", 14),
            ["see", "web-bbbb0003", "now"]
        );
    }

    #[test]
    fn without_colour_there_is_no_escape() {
        assert_eq!(Paint::Plain.tone(Tone::Bad, "x"), "x");
        assert_eq!(Paint::Colour.tone(Tone::Bad, "x"), "\x1b[1;31mx\x1b[0m");
    }

    #[test]
    fn escapes_of_strangers_do_not_reach_the_terminal() {
        assert_eq!(tame("a\x1b[2Jb\n"), "a [2Jb ");
    }
}
