//! The look-up as a table, replies to any bytes, and the server on real sockets.

mod crowded;
mod forwarded;
mod lookup;
mod packets;
mod sockets;
mod stored;

use std::{sync::Arc, time::Duration};

use calvin_model::{CatalogueEntry, CatalogueRole, CatalogueService, NamesSnapshot, NamesVersion};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{Name, RecordType},
};

use super::*;

const DOMAIN: &str = "prod.example";

fn entry(instance: &str, role: CatalogueRole, address: &str, tags: &[&str]) -> CatalogueEntry {
    CatalogueEntry {
        instance: instance.parse().unwrap(),
        fleet: "web".parse().unwrap(),
        address: address.parse().unwrap(),
        role,
        services: vec![CatalogueService {
            name: "web".parse().unwrap(),
            port: 8080,
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        }],
    }
}

fn snapshot(number: u64, entries: Vec<CatalogueEntry>) -> Arc<NamesSnapshot> {
    Arc::new(NamesSnapshot {
        version: NamesVersion { epoch: 1, number },
        domain: DOMAIN.into(),
        ttl: Duration::from_secs(5),
        entries,
    })
}

/// Two active, one entered, one on standby, one with an IPv6 address.
fn mixed() -> Arc<NamesSnapshot> {
    snapshot(
        7,
        vec![
            entry(
                "web-a",
                CatalogueRole::Active,
                "127.9.0.1",
                &["fast", "fast"],
            ),
            entry("web-b", CatalogueRole::Active, "127.9.0.2", &[]),
            entry(
                "web-c",
                CatalogueRole::Entered,
                "127.9.0.3",
                &["Fast", "active"],
            ),
            entry("web-d", CatalogueRole::Standby, "127.9.0.4", &["fast"]),
            entry("web-e", CatalogueRole::Active, "fd00::5", &[]),
        ],
    )
}

fn crowd(count: u16) -> Arc<NamesSnapshot> {
    let entries = (0..count)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            let address = format!("127.9.{high}.{low}");
            entry(
                &format!("web-i{number}"),
                CatalogueRole::Active,
                &address,
                &[],
            )
        })
        .collect();
    snapshot(1, entries)
}

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap()
}

fn query(text: &str, kind: RecordType, edns: Option<u16>) -> Vec<u8> {
    let mut query = Message::new(77, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name(text), kind));
    if let Some(size) = edns {
        let mut own = Edns::new();
        own.set_max_payload(size).set_version(0);
        query.edns = Some(own);
    }
    query.to_vec().unwrap()
}

/// The data of records, as text.
fn data(records: &[hickory_proto::rr::Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| record.data.to_string())
        .collect()
}
