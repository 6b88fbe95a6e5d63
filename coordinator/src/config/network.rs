//! A range of IPv4 addresses, as `127.77.0.0/16`.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// A range of loopback addresses for process machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    first: Ipv4Addr,
    prefix: u8,
}

/// Why a text is not such a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// It is not written as one.
    #[error("{text:?} is not a network: write an address and its prefix, such as 127.77.0.0/16")]
    Text {
        /// The text, cut to its first 80 characters.
        text: String,
    },
    /// Its address has bits that the prefix does not cover.
    #[error("{given} is not the first address of its network: write {meant}")]
    NotFirst {
        /// As given.
        given: String,
        /// As meant.
        meant: Network,
    },
    /// Not loopback.
    #[error("{given} is not within 127.0.0.0/8: process machines have loopback addresses")]
    NotLoopback {
        /// As given.
        given: String,
    },
    /// It holds `localhost`.
    #[error(
        "{given} holds 127.0.0.0/24, which the host uses itself (localhost, local resolvers): choose another, such as 127.77.0.0/16"
    )]
    Host {
        /// As given.
        given: String,
    },
    /// Too small or too large.
    #[error("{given} has no room for machines: the prefix must be from 8 to 30")]
    Prefix {
        /// As given.
        given: String,
    },
}

impl Network {
    /// A range for `dev`, chosen by `seed` so that two environments rarely share addresses.
    pub(super) fn of_seed(seed: u8) -> Self {
        Self {
            first: Ipv4Addr::new(127, 64 + seed % 64, 0, 0),
            prefix: 16,
        }
    }

    /// Addresses that machines can have: all but the first and the last of the range.
    #[must_use]
    pub fn size(self) -> u32 {
        (1_u32 << (32 - u32::from(self.prefix))) - 2
    }

    /// The address with this number, from 0 to below `size`.
    #[must_use]
    pub fn address(self, number: u32) -> Option<Ipv4Addr> {
        (number < self.size()).then(|| Ipv4Addr::from(u32::from(self.first) + 1 + number))
    }

    /// Whether a machine can have `address`.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(u32::from(self.first));
        (1..=self.size()).contains(&offset)
    }

    /// The first address of the range, and the bits that all of it share.
    #[must_use]
    pub fn parts(self) -> (Ipv4Addr, u8) {
        (self.first, self.prefix)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let refusal = || NetworkError::Text {
            text: text.chars().take(80).collect(),
        };
        let (address, prefix) = text.split_once('/').ok_or_else(refusal)?;
        let address: Ipv4Addr = address.parse().map_err(|_| refusal())?;
        let prefix: u8 = prefix.parse().map_err(|_| refusal())?;
        let given = text.to_owned();
        if !(8..=30).contains(&prefix) {
            return Err(NetworkError::Prefix { given });
        }
        let mask = u32::MAX << (32 - u32::from(prefix));
        let first = Ipv4Addr::from(u32::from(address) & mask);
        if !first.is_loopback() {
            return Err(NetworkError::NotLoopback { given });
        }
        let network = Self { first, prefix };
        if first.octets()[..3] == [127, 0, 0] {
            return Err(NetworkError::Host { given });
        }
        if first != address {
            return Err(NetworkError::NotFirst {
                given,
                meant: network,
            });
        }
        Ok(network)
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_read_back_as_written_and_counts_its_addresses() {
        let network: Network = "127.77.4.0/29".parse().unwrap();
        assert_eq!(network.to_string(), "127.77.4.0/29");
        assert_eq!(network.size(), 6);
        assert_eq!(network.address(0), Some(Ipv4Addr::new(127, 77, 4, 1)));
        assert_eq!(network.address(5), Some(Ipv4Addr::new(127, 77, 4, 6)));
        assert_eq!(network.address(6), None);
        let contains = |last| network.contains(Ipv4Addr::new(127, 77, 4, last));
        assert!(contains(1) && contains(6));
        assert!(!contains(0) && !contains(7) && !contains(8));
    }

    #[test]
    fn what_is_no_loopback_network_is_refused_with_what_to_write() {
        let refusal = |text: &str| text.parse::<Network>().unwrap_err().to_string();
        assert!(refusal("127.77.4.9/24").contains("write 127.77.4.0/24"));
        assert!(refusal("10.0.0.0/8").contains("127.0.0.0/8"));
        assert!(refusal("127.77.0.0/31").contains("from 8 to 30"));
        assert!(refusal("127.0.0.0/8").contains("localhost"));
        assert!(refusal("127.0.0.128/25").contains("localhost"));
        assert!(refusal("127.0.0.0").contains("such as"));
    }
}
