//! Wire to model and back. What arrives is a stranger's: every text is parsed, every list and
//! length is bounded, and a value that this version does not know is refused with its name and
//! number. What is sent comes from the model and cannot fail, but for a snapshot that is too
//! large.

pub mod hello;
pub mod join;
pub mod names;
pub mod report;
pub mod stream;
pub mod wanted;

use std::{error::Error, str::FromStr, time::Duration};

pub use hello::{Hello, Trust, Welcome};
pub use join::RegistrationOrder;
pub use stream::{FromAgent, Order, ToAgent};

use crate::limits;

/// Why a message is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A field that must be there is not.
    #[error("{field} is missing")]
    Missing {
        /// Message and field.
        field: &'static str,
    },
    /// An enum has its zero value.
    #[error("{field} is not specified")]
    Unspecified {
        /// Message and field.
        field: &'static str,
    },
    /// An enum has a value that this version does not know.
    #[error("{field} has the value {value}, which this version does not know")]
    Unknown {
        /// Message and field.
        field: &'static str,
        /// The value.
        value: i32,
    },
    /// A text, a list or a number is above its limit.
    #[error("{field} has {size} {unit}, at most {max} are allowed")]
    TooLarge {
        /// Message and field.
        field: &'static str,
        /// What it has.
        size: u64,
        /// Of what.
        unit: &'static str,
        /// The limit.
        max: u64,
    },
    /// A value that cannot be together with another.
    #[error("{field}: {problem}")]
    Contradiction {
        /// Message and field.
        field: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// A text that is not what the field holds.
    #[error("{field} is not valid")]
    Invalid {
        /// Message and field.
        field: &'static str,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl ConvertError {
    /// The error and its causes in one line.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self.source() {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

/// Parses a text whose type bounds its length itself.
fn parse<T: FromStr>(field: &'static str, text: &str) -> Result<T, ConvertError>
where
    T::Err: Error + Send + Sync + 'static,
{
    text.parse().map_err(|source| ConvertError::Invalid {
        field,
        source: Box::new(source),
    })
}

fn bounded_text(field: &'static str, text: String, max: usize) -> Result<String, ConvertError> {
    check_size(field, text.len(), "bytes", max)?;
    Ok(text)
}

fn check_size(
    field: &'static str,
    size: usize,
    unit: &'static str,
    max: usize,
) -> Result<(), ConvertError> {
    if size <= max {
        return Ok(());
    }
    Err(ConvertError::TooLarge {
        field,
        size: u64::try_from(size).unwrap_or(u64::MAX),
        unit,
        max: u64::try_from(max).unwrap_or(u64::MAX),
    })
}

fn capabilities(field: &'static str, list: Vec<String>) -> Result<Vec<String>, ConvertError> {
    check_size(field, list.len(), "entries", limits::CAPABILITIES)?;
    for capability in &list {
        check_size(field, capability.len(), "bytes", limits::CAPABILITY_BYTES)?;
    }
    Ok(list)
}

fn duration(field: &'static str, ms: u64) -> Result<Duration, ConvertError> {
    if ms <= limits::DURATION_MS {
        return Ok(Duration::from_millis(ms));
    }
    Err(ConvertError::TooLarge {
        field,
        size: ms,
        unit: "milliseconds",
        max: limits::DURATION_MS,
    })
}

/// Whole milliseconds, at most the longest duration that the other side accepts.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .min(limits::DURATION_MS)
}

/// Gives the model's value for an enum's number, or says why there is none.
fn known<W, M>(
    field: &'static str,
    value: i32,
    model: impl FnOnce(W) -> Option<M>,
) -> Result<M, ConvertError>
where
    W: TryFrom<i32>,
{
    let wire = W::try_from(value).map_err(|_| ConvertError::Unknown { field, value })?;
    model(wire).ok_or(ConvertError::Unspecified { field })
}

#[cfg(test)]
mod tests;
