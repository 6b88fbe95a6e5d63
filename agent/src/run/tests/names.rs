//! A whole agent whose environment's names come from Consul, in the moment of its start.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use calvin_model::{CatalogueEntry, CatalogueRole, CatalogueService, NamesSnapshot, NamesVersion};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use serde_json::json;

use super::*;
use crate::testing::{Ca, ENVIRONMENT, INSTANCE, machine_toml};

const DOMAIN: &str = "build.example";
const DNS_PORT: u16 = 8653;

/// One of this process alone: the ports of a Consul client are fixed.
fn address() -> std::net::IpAddr {
    let process = std::process::id();
    let text = format!("127.{}.{}.3", 96 + process / 256 % 32, process % 256);
    text.parse().unwrap()
}

fn question(service: &str) -> Message {
    let name = Name::from_ascii(format!("{service}.service.{DOMAIN}.")).unwrap();
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(name, RecordType::A));
    message
}

/// What Consul said of `web` before: 127.9.0.7.
fn answers() -> String {
    let mut message = question("web");
    message.metadata.message_type = MessageType::Response;
    let name = message.queries[0].name().clone();
    let address = RData::A(A::new(127, 9, 0, 7));
    message.answers.push(Record::from_rdata(name, 0, address));
    let heard = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let message = STANDARD.encode(message.to_vec().unwrap());
    let answer = json!({ "heard": heard.as_millis() as u64, "message": message });
    json!({ "format": 1, "answers": [answer] }).to_string()
}

fn join() -> String {
    let consul = json!({
        "datacenter": ENVIRONMENT, "domain": DOMAIN, "servers": ["127.0.0.1:1"],
        "gossip_key": null, "ca_pem": "", "node": INSTANCE, "token": null,
    });
    json!({ "format": 1, "said": { "consul": consul } }).to_string()
}

/// What a coordinator published before the environment went over to Consul.
async fn snapshot(path: std::path::PathBuf) {
    let names = Arc::new(crate::dns::Names::new(DOMAIN, path).unwrap());
    let entry = CatalogueEntry {
        instance: INSTANCE.parse().unwrap(),
        fleet: "web".parse().unwrap(),
        address: "127.9.0.9".parse().unwrap(),
        role: CatalogueRole::Active,
        services: vec![CatalogueService {
            name: "web".parse().unwrap(),
            port: 80,
            tags: Vec::new(),
        }],
    };
    let snapshot = NamesSnapshot {
        version: NamesVersion {
            epoch: 1,
            number: 1,
        },
        domain: DOMAIN.into(),
        ttl: Duration::from_secs(5),
        entries: vec![entry],
    };
    names.admit(Arc::new(snapshot)).await.unwrap();
    names.keep().await.unwrap();
}

#[tokio::test]
async fn the_first_look_up_of_an_agent_is_answered_by_what_consul_said_before_it_was_started() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = "127.0.0.1:1".parse().unwrap();
    let ca = Ca::new();
    machine(dir.path(), &ca, nobody, IMAGE);
    let provision = machine_toml(&ca, nobody, &address().to_string(), DNS_PORT);
    std::fs::write(dir.path().join("provision.toml"), provision).unwrap();
    let state = dir.path().join("state");
    disk::make_private_dir(&state).unwrap();
    std::fs::write(state.join("join.json"), join()).unwrap();
    std::fs::write(state.join("answers.json"), answers()).unwrap();
    snapshot(state.join("names.json")).await;

    let provisioned = Provisioned::load(dir.path()).unwrap();
    let sockets = DnsSockets::bind((address(), DNS_PORT).into());
    // As one that came while no agent ran: it waits in the socket that the runner holds.
    let client = std::net::UdpSocket::bind((address(), 0)).unwrap();
    client.set_nonblocking(true).unwrap();
    client.connect((address(), DNS_PORT)).unwrap();
    client.send(&question("web").to_vec().unwrap()).unwrap();
    let (mut actor, inbox, parts) =
        assemble::assemble(provisioned, Ok(Some(sockets.unwrap()))).unwrap();
    // No task has run yet.
    let seen = actor.forwarder.seen().map(|seen| (seen.server, seen.kept));
    assert_eq!(seen, Some((None, 1)));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _parts = parts;
        actor.run(inbox).await.unwrap();
    });

    let client = tokio::net::UdpSocket::from_std(client).unwrap();
    let mut buffer = [0; 512];
    // No runner answers it, and no Consul client is there. That changes nothing later either.
    for _ in 0..3 {
        let length = timeout(DEADLINE, client.recv(&mut buffer)).await;
        let reply = Message::from_vec(&buffer[..length.unwrap().unwrap()]).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        let found: Vec<_> = reply
            .answers
            .iter()
            .map(|one| one.data.to_string())
            .collect();
        assert_eq!(found, ["127.9.0.7"]);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let again = question("web").to_vec().unwrap();
        client.send(&again).await.unwrap();
    }
}
