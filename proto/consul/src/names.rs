//! What a name, tag, meta key or KV key may be. Whatever else is refused before it goes out: Consul
//! itself takes nearly everything, and then answers nothing for it in DNS, or cleans a path and
//! does what was asked to another one.

mod key;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use key::{KEY_MAX, Key, Prefix};

/// Longest service name: a DNS label (RFC 1035 section 2.3.4; Consul's `MaxLabelLength`).
pub const SERVICE_MAX: usize = 63;
/// Longest id of a service, check or node: what Consul puts into one path segment. Consul names no
/// limit; four DNS labels are more than anybody has made.
pub const ID_MAX: usize = 255;
/// Longest tag. Consul names no limit; proxies that route by tag prefix put a path and options into it.
pub const TAG_MAX: usize = 255;
/// Most tags of one service. Consul names no limit; every answer about the service carries all of them.
pub const TAGS_MAX: usize = 64;
/// Most pairs of meta (Consul's `metaMaxKeyPairs`).
pub const META_PAIRS_MAX: usize = 64;
/// Longest key of meta (Consul's `metaKeyMaxLength`).
pub const META_KEY_MAX: usize = 128;
/// Longest value of meta (Consul's `metaValueMaxLength`).
pub const META_VALUE_MAX: usize = 512;
/// Longest text for people: notes, reasons, descriptions. Consul names no limit; more than half a page is not read.
pub const TEXT_MAX: usize = 1024;

/// Bytes shown of a name that is far too long.
const SHOWN_CHARACTERS: usize = 80;

/// Why a name cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} {problem}")]
pub struct InvalidName {
    /// What it was to name.
    pub kind: &'static str,
    /// The text, cut to its first 80 characters.
    pub text: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing was given.
    #[error("must not be empty")]
    Empty,
    /// Too long.
    #[error("has {length} bytes, at most {max} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// A character that does not belong there.
    #[error("may hold only {allowed}; {found:?} at position {position} is not")]
    Character {
        /// What is allowed, in words.
        allowed: &'static str,
        /// What was found.
        found: char,
        /// Where, from 1.
        position: usize,
    },
    /// Another rule.
    #[error("{0}")]
    Rule(&'static str),
}

fn invalid(kind: &'static str, text: &str, problem: Problem) -> InvalidName {
    InvalidName {
        kind,
        text: text.chars().take(SHOWN_CHARACTERS).collect(),
        problem,
    }
}

fn check_length(kind: &'static str, text: &str, max: usize) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(invalid(kind, text, Problem::Empty));
    }
    let length = text.len();
    if length > max {
        return Err(invalid(kind, text, Problem::TooLong { length, max }));
    }
    Ok(())
}

fn check_characters(
    kind: &'static str,
    text: &str,
    allowed: &'static str,
    allows: impl Fn(char) -> bool,
) -> Result<(), InvalidName> {
    for (index, found) in text.chars().enumerate() {
        if !allows(found) {
            let position = index + 1;
            let problem = Problem::Character {
                allowed,
                found,
                position,
            };
            return Err(invalid(kind, text, problem));
        }
    }
    Ok(())
}

fn rule(kind: &'static str, text: &str, says: &'static str) -> InvalidName {
    invalid(kind, text, Problem::Rule(says))
}

/// A name that DNS can say: a label of RFC 1123 section 2.1, in lower case, because the catalogue
/// tells `Web` from `web` and DNS does not.
fn check_label(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    check_length(kind, text, SERVICE_MAX)?;
    check_characters(kind, text, "a-z, 0-9 and inner hyphens", |c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
    })?;
    if text.starts_with('-') || text.ends_with('-') {
        return Err(rule(kind, text, "must not begin or end with a hyphen"));
    }
    Ok(())
}

/// Checks the name of a service that is to be registered or looked up.
///
/// # Errors
/// Where DNS cannot say it.
pub fn check_service(name: &str) -> Result<(), InvalidName> {
    check_label("service name", name)
}

/// Checks the name of a node of our own.
///
/// # Errors
/// Where DNS cannot say it.
pub fn check_node(name: &str) -> Result<(), InvalidName> {
    check_label("node name", name)
}

/// Checks the id of a service or check, or the name of a node that somebody else may have chosen.
///
/// # Errors
/// Where it is empty, over-long, or not one segment of a path: Consul's server cleans paths, and
/// `..` would then be a request for something else.
pub fn check_id(kind: &'static str, id: &str) -> Result<(), InvalidName> {
    check_length(kind, id, ID_MAX)?;
    check_characters(kind, id, "visible characters other than /", |c| {
        !c.is_control() && !c.is_whitespace() && c != '/'
    })?;
    if id.chars().all(|c| c == '.') {
        return Err(rule(kind, id, "must not be only dots"));
    }
    Ok(())
}

/// Checks the tags of a service. They need not be DNS labels: proxies that route by tag prefix put
/// more into them, and such a tag is then only not found by DNS.
///
/// # Errors
/// Where there are too many, or one is empty, over-long, holds control characters or ends in spaces.
pub fn check_tags(tags: &[String]) -> Result<(), InvalidName> {
    for tag in tags {
        let kind = "tag";
        check_length(kind, tag, TAG_MAX)?;
        check_characters(kind, tag, "printable characters", |c| !c.is_control())?;
        if tag.trim() != tag {
            return Err(rule(kind, tag, "must not begin or end with a space"));
        }
    }
    match tags.get(TAGS_MAX) {
        None => Ok(()),
        Some(tag) => Err(rule("tag", tag, "is the 65th, at most 64 are allowed")),
    }
}

/// Checks the meta of a service or node, by the rules of Consul's own `ValidateServiceMetadata`, and
/// control characters besides.
///
/// # Errors
/// Where there are too many pairs, or a key or value is not allowed.
pub fn check_meta(meta: &BTreeMap<String, String>) -> Result<(), InvalidName> {
    for (key, value) in meta {
        let kind = "meta key";
        check_length(kind, key, META_KEY_MAX)?;
        check_characters(kind, key, "a-z, A-Z, 0-9, underscore and hyphen", |c| {
            c.is_ascii_alphanumeric() || c == '_' || c == '-'
        })?;
        if key.starts_with("consul-") {
            return Err(rule(
                kind,
                key,
                "must not begin with consul-, which Consul keeps for itself",
            ));
        }
        if !value.is_empty() {
            check_length("meta value", value, META_VALUE_MAX)?;
            check_characters("meta value", value, "printable characters", |c| {
                !c.is_control()
            })?;
        }
    }
    match meta.keys().nth(META_PAIRS_MAX) {
        None => Ok(()),
        Some(key) => Err(rule("meta key", key, "is the 65th, at most 64 are allowed")),
    }
}

/// Checks a text for people: notes, a reason, a description. May be empty.
///
/// # Errors
/// Where it is over-long or holds control characters.
pub fn check_text(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Ok(());
    }
    check_length(kind, text, TEXT_MAX)?;
    check_characters(kind, text, "printable characters", |c| !c.is_control())
}

/// Checks a UUID as Consul writes them: sessions and accessors of tokens.
///
/// # Errors
/// Where it is none.
pub fn check_uuid(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    let shape = |(index, c): (usize, char)| match index {
        8 | 13 | 18 | 23 => c == '-',
        _ => c.is_ascii_hexdigit(),
    };
    if text.len() == 36 && text.chars().enumerate().all(shape) {
        Ok(())
    } else {
        Err(rule(kind, text, "is not a UUID"))
    }
}
