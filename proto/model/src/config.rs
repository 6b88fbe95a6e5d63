//! Reads the TOML files that people write, and says what is wrong as a person would: file, line,
//! column, the line itself, and what was probably meant.

use std::{fmt, ops::Range};

use serde::de::DeserializeOwned;

/// What is wrong in a file that a person wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as the person named it.
    pub file: String,
    /// Line from 1, column from 1 and the line's text, where the place is known.
    pub place: Option<Place>,
    /// What is wrong there.
    pub message: String,
    /// What was probably meant.
    pub guess: Option<String>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The line, without its end, cut to 160 characters.
    pub text: String,
}

/// Characters of the offending line that are shown.
const LINE_CHARACTERS: usize = 160;

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(place) = &self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(guess) = &self.guess {
            write!(f, "; did you mean {guess}?")?;
        }
        if let Some(place) = &self.place {
            let number = place.line.to_string();
            let before = " ".repeat(place.column.saturating_sub(1).min(LINE_CHARACTERS));
            write!(f, "\n  {number} | {}", place.text)?;
            write!(f, "\n  {} | {before}^", " ".repeat(number.len()))?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// An error about a whole file, or about a key that is known by its name only: the place is
    /// looked up in the text.
    #[must_use]
    pub fn about(file: &str, text: &str, key: &str, message: impl Into<String>) -> Self {
        let place = find_key(text, key).map(|range| place_of(text, range.start));
        Self {
            file: file.to_owned(),
            place,
            message: message.into(),
            guess: None,
        }
    }
}

/// Reads `text`, which came from `file`, into `T`.
///
/// # Errors
/// Syntax errors, unknown keys, missing keys and values of a wrong type or outside their range,
/// each with its place.
pub fn parse_toml<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let place = error.span().map(|span| place_of(text, span.start));
        let message = first_line(error.message());
        let guess = guess_from(&message);
        ConfigError {
            file: file.to_owned(),
            place,
            message,
            guess,
        }
    })
}

/// The word of `known` that is nearest to `given`, if any is near enough to be what was meant.
#[must_use]
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Jaro-Winkler above 0.8 takes one slip in a short word and two in a long one.
    const NEAR_ENOUGH: f64 = 0.8;
    known
        .into_iter()
        .map(|word| (strsim::jaro_winkler(given, word), word))
        .filter(|(likeness, _)| *likeness > NEAR_ENOUGH)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, word)| word)
}

fn first_line(message: &str) -> String {
    message
        .lines()
        .next()
        .unwrap_or("the file is not valid")
        .trim_end_matches('.')
        .to_owned()
}

/// serde says "unknown field `surg`, expected one of `surge`, `bake`"; the guess is taken from
/// its own list, so that it can never name a key that does not exist.
fn guess_from(message: &str) -> Option<String> {
    let mut words = message.split('`').skip(1).step_by(2);
    if !message.starts_with("unknown field") && !message.starts_with("unknown variant") {
        return None;
    }
    let given = words.next()?;
    nearest(given, words).map(|word| format!("`{word}`"))
}

fn place_of(text: &str, offset: usize) -> Place {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before[start..].chars().count() + 1;
    let whole = text[start..].lines().next().unwrap_or("");
    Place {
        line,
        column,
        text: whole.chars().take(LINE_CHARACTERS).collect(),
    }
}

/// Where `key` (the part after the last dot) stands at the beginning of a line.
fn find_key(text: &str, key: &str) -> Option<Range<usize>> {
    let name = key.rsplit('.').next()?;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        let rest = line.trim_start().trim_start_matches('[');
        let mut brackets = line.trim_start().len() - rest.len();
        let mut rest = rest;
        // Of a table within a table, `[repair.meltdown]`, the last name is what it is about.
        if brackets > 0
            && let Some((before, last)) = rest.rsplit_once('.')
        {
            brackets += before.len() + 1;
            rest = last;
        }
        if let Some(after) = rest.strip_prefix(name)
            && after.trim_start().starts_with(['=', ']', '.'])
        {
            let from = start + indent + brackets;
            return Some(from..from + name.len());
        }
        start += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether it parses is looked at")]
    struct File {
        surge: u32,
        bake: Option<String>,
    }

    #[test]
    fn an_unknown_key_is_shown_with_place_line_and_guess() {
        let error = parse_toml::<File>("web.toml", "surge = 1\nbaek = \"1m\"\n").unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("web.toml:2:1: unknown field `baek`"),
            "{text}"
        );
        assert!(text.contains("did you mean `bake`?"), "{text}");
        assert!(text.contains("2 | baek = \"1m\"\n    | ^"), "{text}");
    }

    #[test]
    fn a_syntax_error_is_shown_with_its_place() {
        let error = parse_toml::<File>("web.toml", "surge = = 1").unwrap_err();
        assert_eq!(error.place.as_ref().unwrap().line, 1, "{error}");
    }

    #[test]
    fn no_text_makes_it_panic() {
        for text in [
            "",
            "ä = \"",
            "[[",
            "\u{0}",
            "surge = 99999999999999999999",
            "a.b.c=1\r\n",
        ] {
            assert!(parse_toml::<File>("f", text).is_err());
        }
    }
}
