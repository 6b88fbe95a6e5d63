//! Where clients look instances up: the roles that an instance can have there, and the snapshot
//! that every agent answers names from.

use std::{fmt, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::InstanceId,
    name::{FleetName, ServiceName},
};

/// How an instance is found.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum CatalogueRole {
    /// Not at all.
    #[default]
    Absent,
    /// Only as `<service>-standby`: nobody finds an unproven instance under the service's name.
    Standby,
    /// Under the service's own name, not yet under `active.<service>`.
    Entered,
    /// Under the service's own name and as `active.<service>`.
    Active,
}

impl fmt::Display for CatalogueRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Absent => "absent",
            Self::Standby => "standby",
            Self::Entered => "entered",
            Self::Active => "active",
        })
    }
}

/// Orders the snapshots of one environment: the coordinator's epoch first, then a count in it.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct NamesVersion {
    /// The epoch of the coordinator that published it.
    pub epoch: u64,
    /// Grows with each snapshot of that epoch.
    pub number: u64,
}

impl fmt::Display for NamesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

/// All names of an environment at one moment. An agent serves it as soon as it comes, and
/// for as long as no newer one does; up to five seconds later it is on disk for the next start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesSnapshot {
    /// Which one.
    pub version: NamesVersion,
    /// The environment's DNS domain, without a dot at its end, in lower case.
    pub domain: String,
    /// How long clients may keep an answer.
    pub ttl: Duration,
    /// The instances that can be found, in the order of their ids.
    pub entries: Vec<CatalogueEntry>,
}

/// One instance in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogueEntry {
    /// Which instance.
    pub instance: InstanceId,
    /// Its fleet.
    pub fleet: FleetName,
    /// Where it is reached.
    pub address: IpAddr,
    /// How it is found. Never `Absent` in a snapshot.
    pub role: CatalogueRole,
    /// What it serves.
    pub services: Vec<CatalogueService>,
}

/// One service of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogueService {
    /// The name that clients look up.
    pub name: ServiceName,
    /// Where it listens.
    pub port: u16,
    /// Tags of the image's author: `_<service>._<tag>` finds by them.
    pub tags: Vec<String>,
}
