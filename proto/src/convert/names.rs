//! The names of an environment.

use std::collections::BTreeSet;

use calvin_model::{
    CatalogueEntry, CatalogueRole, CatalogueService, NamesSnapshot, NamesVersion, ServiceName,
};
use prost::Message as _;

use super::{ConvertError, bounded_text, check_size, duration, known, milliseconds, parse};
use crate::{limits, wire};

/// What the envelope of the stream adds to a snapshot: a tag and a length.
const ENVELOPE_BYTES: usize = 16;

/// A role in a snapshot, where nobody is absent.
fn role(value: i32) -> Result<CatalogueRole, ConvertError> {
    let field = "names.entry.role";
    known(field, value, |role: wire::CatalogueRole| match role {
        wire::CatalogueRole::Unspecified | wire::CatalogueRole::Absent => None,
        wire::CatalogueRole::Standby => Some(CatalogueRole::Standby),
        wire::CatalogueRole::Entered => Some(CatalogueRole::Entered),
        wire::CatalogueRole::Active => Some(CatalogueRole::Active),
    })
}

fn wire_role(role: CatalogueRole) -> Option<wire::CatalogueRole> {
    match role {
        CatalogueRole::Absent => None,
        CatalogueRole::Standby => Some(wire::CatalogueRole::Standby),
        CatalogueRole::Entered => Some(wire::CatalogueRole::Entered),
        CatalogueRole::Active => Some(wire::CatalogueRole::Active),
    }
}

impl TryFrom<wire::Names> for NamesSnapshot {
    type Error = ConvertError;

    fn try_from(names: wire::Names) -> Result<Self, ConvertError> {
        let field = "names.entries";
        check_size(field, names.entries.len(), "entries", limits::NAMES_ENTRIES)?;
        if names.epoch == 0 {
            return Err(ConvertError::Unspecified {
                field: "names.epoch",
            });
        }
        let entries: Vec<CatalogueEntry> = names
            .entries
            .into_iter()
            .map(entry)
            .collect::<Result<_, _>>()?;
        let distinct: BTreeSet<_> = entries.iter().map(|entry| &entry.instance).collect();
        if distinct.len() != entries.len() {
            let problem = "an instance is in it twice";
            return Err(ConvertError::Contradiction { field, problem });
        }
        Ok(Self {
            version: NamesVersion {
                epoch: names.epoch,
                number: names.number,
            },
            domain: domain(names.domain)?,
            ttl: duration("names.ttl_ms", names.ttl_ms)?,
            entries,
        })
    }
}

/// A domain is a list of DNS labels in lower case.
fn domain(text: String) -> Result<String, ConvertError> {
    let field = "names.domain";
    let text = bounded_text(field, text, limits::DOMAIN_BYTES)?;
    let label = |label: &str| {
        let allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        (1..=limits::TAG_BYTES).contains(&label.len()) && label.chars().all(allowed)
    };
    if !text.split('.').all(label) {
        let problem = "not a domain: labels of a-z, 0-9, - and _, with dots between them";
        return Err(ConvertError::Contradiction { field, problem });
    }
    Ok(text)
}

fn entry(entry: wire::NamesEntry) -> Result<CatalogueEntry, ConvertError> {
    let field = "names.entry.services";
    check_size(
        field,
        entry.services.len(),
        "entries",
        limits::ENTRY_SERVICES,
    )?;
    Ok(CatalogueEntry {
        instance: parse("names.entry.instance", &entry.instance)?,
        fleet: parse("names.entry.fleet", &entry.fleet)?,
        address: parse("names.entry.address", &entry.address)?,
        role: role(entry.role)?,
        services: entry
            .services
            .into_iter()
            .map(service)
            .collect::<Result<_, _>>()?,
    })
}

fn service(service: wire::NamesService) -> Result<CatalogueService, ConvertError> {
    let field = "names.entry.service.tags";
    check_size(field, service.tags.len(), "entries", limits::SERVICE_TAGS)?;
    for tag in &service.tags {
        // The same rule as in `image.toml`: each tag is a DNS label.
        parse::<ServiceName>(field, tag)?;
    }
    let port = u16::try_from(service.port).map_err(|source| ConvertError::Invalid {
        field: "names.entry.service.port",
        source: Box::new(source),
    })?;
    Ok(CatalogueService {
        name: parse("names.entry.service.name", &service.name)?,
        port,
        tags: service.tags,
    })
}

impl TryFrom<&NamesSnapshot> for wire::Names {
    type Error = ConvertError;

    /// Fails where the snapshot is larger than one message may be: said here, once, instead of
    /// by every session.
    fn try_from(names: &NamesSnapshot) -> Result<Self, ConvertError> {
        let field = "names.entries";
        check_size(field, names.entries.len(), "entries", limits::NAMES_ENTRIES)?;
        let wire = Self {
            epoch: names.version.epoch,
            number: names.version.number,
            domain: names.domain.clone(),
            ttl_ms: milliseconds(names.ttl),
            entries: names.entries.iter().filter_map(wire_entry).collect(),
        };
        let size = wire.encoded_len() + ENVELOPE_BYTES;
        check_size("names", size, "bytes", limits::TO_AGENT_BYTES)?;
        Ok(wire)
    }
}

/// An absent entry is one that is not there.
fn wire_entry(entry: &CatalogueEntry) -> Option<wire::NamesEntry> {
    Some(wire::NamesEntry {
        instance: entry.instance.as_str().to_owned(),
        fleet: entry.fleet.as_str().to_owned(),
        address: entry.address.to_string(),
        role: wire_role(entry.role)?.into(),
        services: entry
            .services
            .iter()
            .map(|service| wire::NamesService {
                name: service.name.as_str().to_owned(),
                port: u32::from(service.port),
                tags: service.tags.clone(),
            })
            .collect(),
    })
}
