//! Which address a new machine gets. Each is claimed by a lock that all coordinators of the host
//! respect; the machine's init holds it from then on.

use std::{
    collections::BTreeSet,
    fs, io,
    net::IpAddr,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use calvin_proto::machine::AddressLock;

use super::super::Room;
use crate::config::Network;

/// Gives out the addresses of one network.
#[derive(Debug)]
pub(super) struct Addresses {
    network: Network,
    locks: PathBuf,
    /// The next one to be tried. They are given in turn, so that one that was just released stays
    /// unused for as long as possible: names that lead to it are still cached somewhere.
    next: Mutex<u32>,
}

impl Addresses {
    /// Begins anywhere: two coordinators with one network then rarely try the same.
    pub(super) fn new(network: Network, locks: PathBuf) -> Self {
        Self {
            network,
            locks,
            next: Mutex::new(fastrand::u32(..network.size())),
        }
    }

    /// Where the locks lie.
    pub(super) fn locks(&self) -> &PathBuf {
        &self.locks
    }

    /// Claims an address that no machine of ours has (`taken`; one that is stopped holds no lock)
    /// and that nobody else has claimed; `None` when there is none left.
    pub(super) fn claim(
        &self,
        taken: &BTreeSet<IpAddr>,
    ) -> io::Result<Option<(IpAddr, AddressLock)>> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..self.network.size() {
            let address = self.network.address(*next).map(IpAddr::V4);
            *next = (*next + 1) % self.network.size();
            let Some(address) = address.filter(|address| !taken.contains(address)) else {
                continue;
            };
            if let Some(lock) = AddressLock::try_take(&self.locks, address)? {
                return Ok(Some((address, lock)));
            }
        }
        Ok(None)
    }

    /// How many there are.
    pub(super) fn size(&self) -> u64 {
        u64::from(self.network.size())
    }

    /// Counts what is left. A lock file that nobody has locked is from a machine that is gone.
    pub(super) fn capacity(&self, taken: &BTreeSet<IpAddr>) -> io::Result<Room> {
        let ours = taken.iter().filter(|address| self.is_of_network(address));
        let mut used = ours.count() as u64;
        for entry in fs::read_dir(&self.locks)? {
            let name = entry?.file_name();
            let address = name.to_str().and_then(|name| name.parse::<IpAddr>().ok());
            let Some(address) = address else { continue };
            let counts = self.is_of_network(&address) && !taken.contains(&address);
            if counts && AddressLock::try_take(&self.locks, address)?.is_none() {
                used += 1;
            }
        }
        let total = u64::from(self.network.size());
        Ok(Room {
            free: total.saturating_sub(used),
            total,
        })
    }

    fn is_of_network(&self, address: &IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.network.contains(*address),
            IpAddr::V6(_) => false,
        }
    }
}

/// Where the agent of a machine answers DNS.
pub(super) const DNS_PORT: u16 = 8653;
