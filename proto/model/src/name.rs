//! Names that people choose. Each is a DNS label (RFC 1035 section 2.3.1, in lower case), because
//! every one of them ends up in a DNS name, a certificate or a directory.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("a {kind} must not be empty")]
    Empty {
        /// What the name was to name.
        kind: &'static str,
    },
    /// Longer than the kind allows.
    #[error("{kind} {text:?} has {length} characters, at most {max} are allowed")]
    TooLong {
        /// What the name was to name.
        kind: &'static str,
        /// The text, cut to its first 80 characters.
        text: String,
        /// Its length.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// A character that the kind does not allow, or a hyphen at an end.
    #[error("{kind} {text:?} may hold only {allowed}; {found:?} at position {position} is not")]
    Character {
        /// What the name was to name.
        kind: &'static str,
        /// The text.
        text: String,
        /// What is allowed, in words.
        allowed: &'static str,
        /// The character found.
        found: char,
        /// Its position, from 1.
        position: usize,
    },
}

/// Characters shown of a name that is far too long.
const SHOWN_CHARACTERS: usize = 80;

pub(crate) fn check_label(kind: &'static str, text: &str, max: usize) -> Result<(), NameError> {
    check(
        kind,
        text,
        max,
        "a-z, 0-9 and inner hyphens, beginning with a letter",
        |c, place| match place {
            Place::First => c.is_ascii_lowercase(),
            Place::Inner => c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-',
            Place::Last => c.is_ascii_lowercase() || c.is_ascii_digit(),
        },
    )
}

fn check_version(kind: &'static str, text: &str, max: usize) -> Result<(), NameError> {
    check(
        kind,
        text,
        max,
        "a-z, A-Z, 0-9, dot, plus, underscore and hyphen, beginning with a letter or digit",
        |c, place| match place {
            Place::First => c.is_ascii_alphanumeric(),
            Place::Inner | Place::Last => {
                c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '_' | '-')
            }
        },
    )
}

enum Place {
    First,
    Inner,
    Last,
}

fn check(
    kind: &'static str,
    text: &str,
    max: usize,
    allowed: &'static str,
    allows: impl Fn(char, Place) -> bool,
) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { kind });
    }
    let length = text.chars().count();
    if length > max {
        let text = text.chars().take(SHOWN_CHARACTERS).collect();
        return Err(NameError::TooLong {
            kind,
            text,
            length,
            max,
        });
    }
    for (index, found) in text.chars().enumerate() {
        let place = match index {
            0 => Place::First,
            last if last + 1 == length => Place::Last,
            _ => Place::Inner,
        };
        if !allows(found, place) {
            let text = text.to_owned();
            return Err(NameError::Character {
                kind,
                text,
                allowed,
                found,
                position: index + 1,
            });
        }
    }
    Ok(())
}

// Names are copied far more often than they are made: a copy shares the text.
macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal, $check:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Longest allowed, in characters.
            pub const MAX: usize = $max;

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $check($kind, text, $max)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    )*};
}
pub(crate) use names;

names! {
    /// An environment: the unit of isolation, with one coordinator.
    EnvironmentName, "environment name", 40, check_label;
    /// A fleet: interchangeable instances of one role. Leaves room for the instance's suffix.
    FleetName, "fleet name", 40, check_label;
    /// A zone: what fails together, such as a rack, a host or an availability zone.
    ZoneName, "zone name", 40, check_label;
    /// A limit of the environment, such as licences or connections.
    LimitName, "limit name", 40, check_label;
    /// A service as clients look it up. Leaves room for `-standby` within a DNS label.
    ServiceName, "service name", 55, check_label;
    /// An image, without its version.
    ImageName, "image name", 40, check_label;
    /// A person or a tool that operates an environment, as certificates and the audit name it.
    OperatorName, "operator name", 40, check_label;
    /// The version of an image; compared only for equality.
    ImageVersion, "image version", 40, check_version;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_dns_label() {
        for good in ["a", "web", "web-2", "a1"] {
            assert_eq!(good.parse::<FleetName>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "1a", "a_b", "a.b", "ä", "a\n"] {
            assert!(bad.parse::<FleetName>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(41).parse::<FleetName>().is_err());
    }

    #[test]
    fn a_refusal_names_the_character_and_its_position() {
        let error = "we_b".parse::<FleetName>().unwrap_err().to_string();
        assert!(error.contains("'_' at position 3"), "{error}");
    }
}
