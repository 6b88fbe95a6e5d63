//! The names of one snapshot, and what is found under each. Pure.
//!
//! | name | finds |
//! |---|---|
//! | `<service>.service.<domain>` | every entered or active instance of the service |
//! | `active.<service>.service.<domain>` | the active ones |
//! | `<service>-standby.service.<domain>` | those on standby |
//! | `_<service>._<tag>.service.<domain>` | those entered or active with the tag; `active`, `standby` and `tcp` (all) are built in |
//! | `<instance>.node.<domain>` | one instance |
//!
//! Each has addresses (A or AAAA); all but the last have SRV, with the addresses of the targets
//! beside it (RFC 2782).

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use calvin_model::{CatalogueEntry, CatalogueRole, CatalogueService, NamesSnapshot};
use hickory_proto::{
    ProtoError,
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, SOA, SRV},
    },
};

/// Longest domain whose names can all be written: 253 characters (RFC 1035 section 2.3.4) less
/// the longest instance id (63), `node` and two dots.
const DOMAIN_MAX: usize = 253 - 63 - 6;
/// Negative answers are not kept: an instance that comes is found at once (RFC 2308 section 5).
const NEGATIVE_TTL: u32 = 0;
/// Refresh, retry and expiry of the SOA, seconds. No secondary server exists that would use them.
const SOA_TIMES: (i32, i32, i32) = (3600, 600, 86_400);
/// All targets are equal: the order of the answers spreads the load.
const SRV_PRIORITY: u16 = 1;
const SRV_WEIGHT: u16 = 1;

/// Why a snapshot cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// Its domain leaves no room for names.
    #[error("the domain has {length} characters, at most {DOMAIN_MAX} leave room for names")]
    DomainTooLong {
        /// Its length.
        length: usize,
    },
    /// Its domain is none.
    #[error("{domain:?} is not a DNS domain")]
    Domain {
        /// The text, cut to its first 80 characters.
        domain: String,
        /// Why.
        #[source]
        source: ProtoError,
    },
}

/// What is found under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The name is none of this environment's.
    Refused,
    /// The name does not exist: NXDOMAIN.
    NoSuchName {
        /// Says for how long that may be believed.
        soa: Box<Record>,
    },
    /// The name exists, with other types of records only.
    NoData {
        /// Says for how long that may be believed.
        soa: Box<Record>,
    },
    /// Records.
    Found {
        /// What was asked for.
        answers: Vec<Record>,
        /// Addresses of what the answers name.
        additionals: Vec<Record>,
    },
}

/// The names of one snapshot.
#[derive(Debug)]
pub struct Zone {
    snapshot: Arc<NamesSnapshot>,
    apex: Name,
    ttl: u32,
    /// By the labels below the domain, from the right, joined with dots: what lies below a name
    /// has its key as a prefix.
    index: BTreeMap<String, Vec<Target>>,
}

/// What one name finds once: an entry, and which of its services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    entry: usize,
    service: Option<usize>,
}

impl Zone {
    /// Orders a snapshot for look-ups.
    ///
    /// # Errors
    /// Where its domain cannot be one.
    pub fn of(snapshot: Arc<NamesSnapshot>) -> Result<Self, ZoneError> {
        let apex = apex(&snapshot.domain)?;
        let mut index: BTreeMap<String, Vec<Target>> = BTreeMap::new();
        for (entry_at, entry) in snapshot.entries.iter().enumerate() {
            if entry.role == CatalogueRole::Absent {
                continue;
            }
            let node = Target {
                entry: entry_at,
                service: None,
            };
            let key = format!("node.{}", entry.instance);
            index.entry(key).or_default().push(node);
            for (service_at, service) in entry.services.iter().enumerate() {
                for key in keys_of(entry.role, service) {
                    index.entry(key).or_default().push(Target {
                        entry: entry_at,
                        service: Some(service_at),
                    });
                }
            }
        }
        let ttl = u32::try_from(snapshot.ttl.as_secs()).unwrap_or(u32::MAX);
        Ok(Self {
            snapshot,
            apex,
            ttl,
            index,
        })
    }

    /// The snapshot that is served.
    #[must_use]
    pub fn snapshot(&self) -> &NamesSnapshot {
        &self.snapshot
    }

    /// Looks a name up. `turn` says which of several answers comes first: whoever takes the first
    /// only is spread over all by counting or drawing it.
    #[must_use]
    pub fn answer(&self, name: &Name, kind: RecordType, turn: usize) -> Answer {
        let Some(below) = labels_below(&self.apex, name) else {
            return Answer::Refused;
        };
        if below.is_empty() {
            return self.answer_apex(name, kind);
        }
        let Some(key) = key_of(&below) else {
            return self.no_such_name();
        };
        match self.index.get(&key) {
            Some(targets) => self.answer_targets(name, kind, targets, turn),
            None if self.has_names_below(&key) => self.no_data(),
            None => self.no_such_name(),
        }
    }

    fn answer_apex(&self, name: &Name, kind: RecordType) -> Answer {
        if kind != RecordType::SOA {
            return self.no_data();
        }
        let mut soa = self.soa();
        soa.name = name.clone();
        Answer::Found {
            answers: vec![soa],
            additionals: Vec::new(),
        }
    }

    fn answer_targets(
        &self,
        name: &Name,
        kind: RecordType,
        targets: &[Target],
        turn: usize,
    ) -> Answer {
        let mut answers = Vec::new();
        let mut additionals = Vec::new();
        let start = turn % targets.len().max(1);
        for target in targets[start..].iter().chain(&targets[..start]) {
            let Some(entry) = self.snapshot.entries.get(target.entry) else {
                continue;
            };
            let address = self.address(name, entry);
            // Whatever is left out of ANY may be asked for by its type (RFC 8482).
            if kind == RecordType::ANY || kind == address.record_type() {
                answers.push(address);
            } else if kind == RecordType::SRV
                && let Some((service, node)) = self.srv(name, entry, target.service)
            {
                additionals.push(self.address(&node, entry));
                answers.push(service);
            }
        }
        if answers.is_empty() {
            return self.no_data();
        }
        Answer::Found {
            answers,
            additionals,
        }
    }

    fn address(&self, name: &Name, entry: &CatalogueEntry) -> Record {
        let data = match entry.address {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        Record::from_rdata(name.clone(), self.ttl, data)
    }

    fn srv(
        &self,
        name: &Name,
        entry: &CatalogueEntry,
        service: Option<usize>,
    ) -> Option<(Record, Name)> {
        let service: &CatalogueService = entry.services.get(service?)?;
        let node = Name::from_labels([entry.instance.as_str().as_bytes(), b"node"])
            .and_then(|below| below.append_domain(&self.apex))
            .ok()?;
        let data = SRV::new(SRV_PRIORITY, SRV_WEIGHT, service.port, node.clone());
        let record = Record::from_rdata(name.clone(), self.ttl, RData::SRV(data));
        Some((record, node))
    }

    fn has_names_below(&self, key: &str) -> bool {
        let prefix = format!("{key}.");
        self.index
            .range(prefix.clone()..)
            .next()
            .is_some_and(|(next, _)| next.starts_with(&prefix))
    }

    fn soa(&self) -> Record {
        let (refresh, retry, expire) = SOA_TIMES;
        // Only its low part fits; nobody compares serials here.
        let serial = (self.snapshot.version.number & u64::from(u32::MAX)) as u32;
        let data = SOA::new(
            self.apex.clone(),
            self.apex.clone(),
            serial,
            refresh,
            retry,
            expire,
            NEGATIVE_TTL,
        );
        Record::from_rdata(self.apex.clone(), NEGATIVE_TTL, RData::SOA(data))
    }

    fn no_data(&self) -> Answer {
        Answer::NoData {
            soa: Box::new(self.soa()),
        }
    }

    fn no_such_name(&self) -> Answer {
        Answer::NoSuchName {
            soa: Box::new(self.soa()),
        }
    }
}

/// The domain as a name.
///
/// # Errors
/// Where it cannot be one.
pub(super) fn apex(domain: &str) -> Result<Name, ZoneError> {
    let length = domain.len();
    if length > DOMAIN_MAX {
        return Err(ZoneError::DomainTooLong { length });
    }
    let mut apex = Name::from_ascii(domain).map_err(|source| ZoneError::Domain {
        domain: domain.chars().take(80).collect(),
        source,
    })?;
    apex.set_fqdn(true);
    Ok(apex.to_lowercase())
}

/// The labels of `name` that come before `apex`; `None` if it does not lie below.
pub(super) fn labels_below<'a>(apex: &Name, name: &'a Name) -> Option<Vec<&'a [u8]>> {
    if !apex.zone_of(name) {
        return None;
    }
    let labels: Vec<&[u8]> = name.iter().collect();
    let below = labels.len().checked_sub(apex.iter().len())?;
    Some(labels[..below].to_vec())
}

fn key_of(labels: &[&[u8]]) -> Option<String> {
    let mut key = String::new();
    for label in labels.iter().rev() {
        // A dot within a label is no separator, and none of our labels has one.
        if !label.is_ascii() || label.contains(&b'.') {
            return None;
        }
        if !key.is_empty() {
            key.push('.');
        }
        key.extend(
            label
                .iter()
                .map(|byte| char::from(byte.to_ascii_lowercase())),
        );
    }
    Some(key)
}

/// Under which names a service of an instance in `role` is found.
fn keys_of(role: CatalogueRole, service: &CatalogueService) -> Vec<String> {
    let name = &service.name;
    let tagged = |tag: &str| format!("service._{tag}._{name}");
    let mut keys = Vec::new();
    match role {
        CatalogueRole::Absent => return keys,
        CatalogueRole::Standby => {
            keys.push(format!("service.{name}-standby"));
            keys.push(tagged("standby"));
        }
        CatalogueRole::Entered | CatalogueRole::Active => {
            keys.push(format!("service.{name}"));
            keys.push(tagged("tcp"));
            let own = service.tags.iter().map(|tag| tag.to_ascii_lowercase());
            let built_in = |tag: &String| matches!(tag.as_str(), "active" | "standby" | "tcp");
            keys.extend(own.filter(|tag| !built_in(tag)).map(|tag| tagged(&tag)));
        }
    }
    if role == CatalogueRole::Active {
        keys.push(format!("service.{name}.active"));
        keys.push(tagged("active"));
    }
    // A tag that is written twice is found once.
    keys.sort_unstable();
    keys.dedup();
    keys
}
