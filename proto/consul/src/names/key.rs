//! Keys of the KV store, and prefixes of keys; never one for the other.
//!
//! Consul cleans the path of a key (`path.Clean` in `agent/kvs_endpoint.go`): `a/../b` is refused or
//! is `b`, `a//b` is `a/b`. So a key here is always its own clean form. Of characters it takes those
//! that every version of Consul takes (1.21.5 refused more than its neighbours do).

use std::{fmt, str::FromStr};

use super::{InvalidName, check_characters, check_length, rule};

/// Longest key. Consul names no limit; a key is a path of a few names.
pub const KEY_MAX: usize = 512;

/// The full name of one KV entry, such as `calvin/leader`. Never a prefix: it is not empty and does
/// not end in a slash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// What the names of several entries begin with, such as `calvin/`. It ends in a slash, so that
/// `app/` never means `application`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(String);

impl Key {
    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Prefix {
    /// The prefix as text, with its slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of this name below the prefix.
    ///
    /// # Errors
    /// Where that is none.
    pub fn key(&self, name: &str) -> Result<Key, InvalidName> {
        format!("{}{name}", self.0).parse()
    }
}

fn check(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    check_length(kind, text, KEY_MAX)?;
    check_characters(kind, text, "a-z, A-Z, 0-9, / , . _ -", |c| {
        c.is_ascii_alphanumeric() || matches!(c, '/' | ',' | '.' | '_' | '-')
    })
}

fn check_segments(kind: &'static str, text: &str, path: &str) -> Result<(), InvalidName> {
    for segment in path.split('/') {
        match segment {
            "" => {
                return Err(rule(
                    kind,
                    text,
                    "must not hold an empty name between slashes",
                ));
            }
            "." | ".." => return Err(rule(kind, text, "must not hold . or .. as a name")),
            _ => {}
        }
    }
    Ok(())
}

impl FromStr for Key {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let kind = "key";
        check(kind, text)?;
        if text.ends_with('/') {
            return Err(rule(
                kind,
                text,
                "must not end with a slash: that is a prefix",
            ));
        }
        check_segments(kind, text, text)?;
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for Prefix {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let kind = "prefix";
        check(kind, text)?;
        let Some(path) = text.strip_suffix('/') else {
            return Err(rule(kind, text, "must end with a slash"));
        };
        check_segments(kind, text, path)?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
