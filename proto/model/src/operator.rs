//! What an operator may do. The roles are ordered: each may do all that those before it may.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::config::nearest;

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorRole {
    /// Read.
    Viewer,
    /// Change fleets.
    Operator,
    /// Everything, identities included.
    Admin,
}

impl OperatorRole {
    /// Every role, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The role as text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for OperatorRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text is not a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a role: viewer, operator or admin{}", guess.map_or(String::new(), |guess| format!("; did you mean {guess}?")))]
pub struct OperatorRoleError {
    /// The text, cut to its first 80 characters.
    pub text: String,
    /// The role that is nearest to it.
    pub guess: Option<&'static str>,
}

impl FromStr for OperatorRole {
    type Err = OperatorRoleError;

    fn from_str(text: &str) -> Result<Self, OperatorRoleError> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| OperatorRoleError {
                text: text.chars().take(80).collect(),
                guess: nearest(text, Self::ALL.map(Self::as_str)),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_as_written_and_a_slip_gets_a_guess() {
        for role in OperatorRole::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        let error = "opreator".parse::<OperatorRole>().unwrap_err().to_string();
        assert!(error.contains("did you mean operator?"), "{error}");
    }
}
