//! The loopback network that machines get their addresses from: `127.77.0.0/16`.

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// An IPv4 network within 127.0.0.0/8, all of which every Linux host has on its loopback interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: u32,
    prefix: u32,
}

/// Why a text is not a network for machines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not a network at all.
    #[error("{text:?} is not a network: write it as 127.77.0.0/16")]
    Form {
        /// The text, cut to its first 80 characters.
        text: String,
    },
    /// Bits after the prefix are set.
    #[error("{text:?} is an address in a network; the network itself is {network}")]
    HostBits {
        /// The text.
        text: String,
        /// What was probably meant.
        network: String,
    },
    /// Not on the loopback interface.
    #[error("{text:?} is not within 127.0.0.0/8")]
    NotLoopback {
        /// The text.
        text: String,
    },
    /// It holds `localhost`.
    #[error(
        "{text:?} holds 127.0.0.0/24, which the host uses itself (localhost, local resolvers): choose another, such as 127.77.0.0/16"
    )]
    Host {
        /// The text.
        text: String,
    },
    /// Too small.
    #[error("{text:?} has no room for a machine: its prefix may be at most 30")]
    Small {
        /// The text.
        text: String,
    },
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let shown = || text.chars().take(80).collect::<String>();
        let form = || NetworkError::Form { text: shown() };
        let (address, prefix) = text.split_once('/').ok_or_else(form)?;
        let address: Ipv4Addr = address.parse().map_err(|_| form())?;
        let prefix: u32 = prefix.parse().map_err(|_| form())?;
        if prefix > 32 {
            return Err(form());
        }
        let base = u32::from(address);
        let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
        if base & !mask != 0 {
            let network = format!("{}/{prefix}", Ipv4Addr::from(base & mask));
            return Err(NetworkError::HostBits {
                text: shown(),
                network,
            });
        }
        if !address.is_loopback() || prefix < 8 {
            return Err(NetworkError::NotLoopback { text: shown() });
        }
        if base == u32::from(Ipv4Addr::new(127, 0, 0, 0)) || address.octets()[..3] == [127, 0, 0] {
            return Err(NetworkError::Host { text: shown() });
        }
        if prefix > 30 {
            return Err(NetworkError::Small { text: shown() });
        }
        Ok(Self { base, prefix })
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

impl Network {
    /// Addresses that machines can have: all but the first and the last, which people and tools
    /// take for the network's own and for broadcast.
    #[must_use]
    pub fn size(self) -> u32 {
        (1 << (32 - self.prefix)) - 2
    }

    /// The address of this number, from 0; after the last comes the first again.
    #[must_use]
    pub fn address(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1 + number % self.size())
    }

    /// Whether a machine of this network can have `address`.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(self.base);
        (1..=self.size()).contains(&offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_gives_all_addresses_but_its_first_and_last() {
        let network: Network = "127.77.0.0/30".parse().unwrap();
        assert_eq!(network.size(), 2);
        let addresses: Vec<_> = (0..3).map(|n| network.address(n).to_string()).collect();
        assert_eq!(addresses, ["127.77.0.1", "127.77.0.2", "127.77.0.1"]);
        assert!(network.contains("127.77.0.2".parse().unwrap()));
        assert!(!network.contains("127.77.0.3".parse().unwrap()));
        assert!(!network.contains("127.77.0.0".parse().unwrap()));
        assert_eq!(network.to_string(), "127.77.0.0/30");
    }

    #[test]
    fn what_is_no_network_for_machines_is_refused_with_the_reason() {
        for (text, reason) in [
            ("127.77.0.0", "write it as"),
            ("127.77.0.0/33", "write it as"),
            ("::1/64", "write it as"),
            ("127.77.0.1/16", "the network itself is 127.77.0.0/16"),
            ("10.0.0.0/8", "not within 127.0.0.0/8"),
            ("0.0.0.0/0", "not within 127.0.0.0/8"),
            ("127.0.0.0/8", "localhost"),
            ("127.0.0.128/25", "localhost"),
            ("127.77.0.0/31", "no room"),
        ] {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
