//! A number of instances, or a share of a fleet.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A number of instances, or a share of a fleet: `2`, or `"20%"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AmountText", into = "AmountText")]
pub enum Amount {
    /// This many.
    Count(u32),
    /// This share of the fleet, 0 to 100.
    Percent(u8),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum AmountText {
    Number(u32),
    Text(String),
}

/// Why a text is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} is not a number such as 2, nor a share from \"0%\" to \"100%\"")]
pub struct AmountError {
    text: String,
}

impl Amount {
    /// None.
    pub const ZERO: Self = Self::Count(0);

    /// Instances of a fleet of `count`, a share rounded up: at most all, and at least one of what
    /// is not zero. For what may be added.
    #[must_use]
    pub fn of(self, count: u32) -> u32 {
        match self {
            Self::Count(number) => number.min(count),
            Self::Percent(share) => share_of(share, count, u64::div_ceil),
        }
    }

    /// The same, a share rounded down. For what may be missing: rounding never takes one more.
    #[must_use]
    pub fn of_at_most(self, count: u32) -> u32 {
        match self {
            Self::Count(number) => number.min(count),
            Self::Percent(share) => share_of(share, count, |scaled, whole| scaled / whole),
        }
    }

    /// Whether it is none of any fleet.
    #[must_use]
    pub fn is_zero(self) -> bool {
        match self {
            Self::Count(number) => number == 0,
            Self::Percent(share) => share == 0,
        }
    }
}

fn share_of(share: u8, count: u32, divide: impl Fn(u64, u64) -> u64) -> u32 {
    let scaled = u64::from(count) * u64::from(share.min(100));
    u32::try_from(divide(scaled, 100)).unwrap_or(count)
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let refusal = || AmountError {
            text: format!("{:?}", text.chars().take(80).collect::<String>()),
        };
        if let Some(share) = text.strip_suffix('%') {
            let share: u8 = share.parse().map_err(|_| refusal())?;
            return if share <= 100 {
                Ok(Self::Percent(share))
            } else {
                Err(refusal())
            };
        }
        text.parse().map(Self::Count).map_err(|_| refusal())
    }
}

impl TryFrom<AmountText> for Amount {
    type Error = AmountError;

    fn try_from(text: AmountText) -> Result<Self, AmountError> {
        match text {
            AmountText::Number(number) => Ok(Self::Count(number)),
            AmountText::Text(text) => text.parse(),
        }
    }
}

impl From<Amount> for AmountText {
    fn from(amount: Amount) -> Self {
        match amount {
            Amount::Count(number) => Self::Number(number),
            Amount::Percent(_) => Self::Text(amount.to_string()),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(number) => number.fmt(f),
            Self::Percent(share) => write!(f, "{share}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_added_is_rounded_up_and_what_is_missing_down() {
        let table = [
            // amount, fleet, added, missing
            ("20%", 5, 1, 1),
            ("20%", 1, 1, 0),
            ("1%", 3, 1, 0),
            ("50%", 3, 2, 1),
            ("2", 5, 2, 2),
            ("9", 5, 5, 5),
            ("100%", 5, 5, 5),
            ("0", 5, 0, 0),
            ("0%", 5, 0, 0),
        ];
        for (text, count, added, missing) in table {
            let amount = amount(text);
            assert_eq!(amount.of(count), added, "{text} of {count}");
            assert_eq!(amount.of_at_most(count), missing, "{text} of {count}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for bad in ["101%", "-1", "x", "", "%", "1.5", "4294967296"] {
            assert!(bad.parse::<Amount>().is_err(), "{bad}");
        }
        assert!(amount("0%").is_zero() && !amount("1%").is_zero());
    }
}
