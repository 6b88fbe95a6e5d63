//! Ids that programs make. They are opaque: nothing reads a meaning out of them.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::name::{FleetName, NameError, check_label, names};

names! {
    /// An instance: `<fleet>-<8 characters>`, a DNS label, made before the machine exists and
    /// never used twice. It is host name, machine tag, idempotency token and part of the
    /// certificate's identity.
    InstanceId, "instance id", 63, check_label;
    /// A rollout: `<fleet>-<number>`, numbered from 1 within its fleet.
    RolloutId, "rollout id", 63, check_label;
}

impl InstanceId {
    /// Characters of the random part: 32^8 = 10^12 ids for each fleet.
    pub const SUFFIX_CHARACTERS: usize = 8;
    /// The alphabet of the random part; without letters that read like digits.
    const ALPHABET: &'static [u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";

    /// Makes the id from a fleet and a random number (its lower 40 bits are used).
    #[must_use]
    pub fn new(fleet: &FleetName, random: u64) -> Self {
        let mut text = format!("{fleet}-");
        for place in 0..Self::SUFFIX_CHARACTERS {
            let index = (random >> (5 * place)) & 31;
            text.push(char::from(
                Self::ALPHABET[usize::try_from(index).unwrap_or(0)],
            ));
        }
        Self::from_parts(text)
    }

    fn from_parts(text: String) -> Self {
        // A fleet's name is a label of at most 40 characters; hyphen and 8 of the alphabet keep
        // it a label of at most 49.
        Self(text.into())
    }
}

impl RolloutId {
    /// Makes the id from a fleet and the rollout's number.
    #[must_use]
    pub fn new(fleet: &FleetName, number: u64) -> Self {
        Self(format!("{fleet}-{number}").into())
    }
}

/// One boot of one machine: random, made by the agent's parent at each start of the machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BootId(Arc<str>);

impl BootId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BootId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let hexadecimal = text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        if text.is_empty() || text.len() > 36 || !hexadecimal {
            return Err(IdError::Boot {
                text: text.chars().take(80).collect(),
            });
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for BootId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<BootId> for String {
    fn from(id: BootId) -> Self {
        id.as_str().to_owned()
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The SHA-256 of some content, written `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(Arc<str>);

impl Digest {
    /// Makes the digest from the 32 bytes of a SHA-256.
    #[must_use]
    pub fn from_sha256(bytes: [u8; 32]) -> Self {
        let mut text = String::with_capacity(7 + 64);
        text.push_str("sha256:");
        for byte in bytes {
            text.push_str(&format!("{byte:02x}"));
        }
        Self(text.into())
    }

    /// The digest as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 hexadecimal digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(7..19).unwrap_or(&self.0)
    }
}

impl FromStr for Digest {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let refusal = || IdError::Digest {
            text: text.chars().take(80).collect(),
        };
        let digits = text.strip_prefix("sha256:").ok_or_else(refusal)?;
        let lower_hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if digits.len() != 64 || !digits.chars().all(lower_hexadecimal) {
            return Err(refusal());
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Digest {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.as_str().to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a boot id.
    #[error("{text:?} is not a boot id: 1 to 36 hexadecimal digits and hyphens")]
    Boot {
        /// The text, cut to its first 80 characters.
        text: String,
    },
    /// Not a digest.
    #[error("{text:?} is not a digest: sha256: and 64 lower-case hexadecimal digits")]
    Digest {
        /// The text, cut to its first 80 characters.
        text: String,
    },
    /// Not a run id.
    #[error("{text:?} is not a run id: 1 to 36 hexadecimal digits and hyphens")]
    Run {
        /// The text, cut to its first 80 characters.
        text: String,
    },
    /// Not an image with its version.
    #[error("{text:?} is not an image: write name@version, such as web@1.0")]
    Image {
        /// The text, cut to its first 80 characters.
        text: String,
    },
    /// A part of the text is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_id_is_a_label_for_every_random_number() {
        let fleet: FleetName = "a".repeat(40).parse().unwrap();
        for random in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let id = InstanceId::new(&fleet, random);
            assert_eq!(id.as_str().parse::<InstanceId>().unwrap(), id);
        }
    }

    #[test]
    fn a_digest_is_read_back_as_written() {
        let digest = Digest::from_sha256([0xab; 32]);
        assert_eq!(digest.as_str().parse::<Digest>().unwrap(), digest);
        assert_eq!(digest.short(), "abababababab");
        assert!("sha256:AB".parse::<Digest>().is_err());
    }
}
