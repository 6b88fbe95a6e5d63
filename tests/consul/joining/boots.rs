//! What a client goes on saying of an instance when its agent or its machine was started again.

use std::{fs, path::PathBuf};

use calvin_consul::{Client, Settings, health::CheckStatus, registered};
use calvin_proto::wire;
use serde_json::json;

use super::{
    instances, is_critical,
    machine::{self, Kit, MANAGEMENT, Machine, consul_program, field},
    passing,
};
use crate::{
    support::{datacenter::TIMEOUT, until},
    testing::INSTANCE,
};

/// What the client says of the agent's check under the service's own name, once it has it.
async fn agents_word(client: &Client) -> CheckStatus {
    let id = registered::agent_check_id(&format!("web:{INSTANCE}"));
    until("the agent's check", async || {
        let checks = client.local_checks().await;
        let mut checks = checks.map_err(|error| error.to_string())?;
        checks.remove(&id).ok_or_else(|| format!("{checks:?}"))
    })
    .await
    .status
}

/// Waits until the client says so.
async fn agent_says(client: &Client, wanted: CheckStatus) {
    until(&format!("{wanted:?}"), async || {
        let found = agents_word(client).await;
        if found == wanted { Ok(()) } else { Err(found) }
    })
    .await;
}

/// Where the client keeps its checks. With a file in its place none can be written, as on a disk that
/// is full; to root all others are writable.
struct ClientDisk {
    checks: PathBuf,
    away: PathBuf,
}

impl ClientDisk {
    fn of(machine: &Machine) -> Self {
        let data = machine.files.state().join("consul/data");
        Self {
            checks: data.join("checks"),
            away: data.join("checks.away"),
        }
    }

    fn fill(&self) {
        fs::rename(&self.checks, &self.away).unwrap();
        fs::write(&self.checks, "").unwrap();
    }

    fn empty(&self) {
        fs::remove_file(&self.checks).unwrap();
        fs::rename(&self.away, &self.checks).unwrap();
    }
}

#[tokio::test]
async fn an_agent_that_is_started_again_says_what_fails_to_a_client_whose_disk_is_full() {
    let datacenter = field().await;
    let mut machine = Machine::start(&datacenter, 41).await;
    let consul = datacenter.client(&datacenter.servers[0], Some(MANAGEMENT));
    machine.register(wire::CatalogueRole::Entered).await;
    passing(&consul, "web").await;

    let disk = ClientDisk::of(&machine);
    disk.fill();
    machine.kill_agent().await;
    machine.hear_again().await;
    machine
        .hear(|report| {
            let consul = report.consul.as_ref();
            consul.is_some_and(|consul| consul.fault.contains("checks"))
        })
        .await;
    machine.set_disk_full(true);
    is_critical(&consul).await;
    machine.set_disk_full(false);
    passing(&consul, "web").await;
    disk.empty();
    machine.registered(wire::CatalogueRole::Entered).await;
}

#[tokio::test]
async fn a_client_that_is_started_in_another_boot_has_forgotten_what_was_said_in_the_last() {
    let datacenter = field().await;
    let mut machine = Machine::start(&datacenter, 42).await;
    let consul = datacenter.client(&datacenter.servers[0], Some(MANAGEMENT));
    machine.register(wire::CatalogueRole::Entered).await;
    passing(&consul, "web").await;
    machine.registered(wire::CatalogueRole::Entered).await;
    let told = machine.files.state().join("registration.json");
    until("what it was told is on disk", async || {
        told.exists().then_some(()).ok_or(())
    })
    .await;

    machine.cut();
    // So nothing is said by the agent: what the client serves is what it has kept.
    fs::remove_file(told).unwrap();
    machine.boot().await;
    assert_eq!(agents_word(&machine.client()).await, CheckStatus::Critical);
    until("critical for everybody", async || {
        let id = registered::agent_check_id(&format!("web:{INSTANCE}"));
        let found = instances(&consul, "web").await;
        let mut checks = found.iter().flat_map(|one| &one.checks);
        let found = checks.find(|check| check.id == id);
        let status = found.map(|found| found.status);
        if status == Some(CheckStatus::Critical) {
            Ok(())
        } else {
            Err(status)
        }
    })
    .await;
    assert_eq!(agents_word(&machine.client()).await, CheckStatus::Critical);
    machine.register(wire::CatalogueRole::Entered).await;
    passing(&consul, "web").await;
}

#[tokio::test]
async fn what_an_earlier_boot_said_is_taken_back_at_a_client_of_somebody_else_without_servers() {
    let mut datacenter = field().await;
    let plain = json!({ "ports": { "http": 8500 } });
    datacenter.add_agent_with(INSTANCE, plain).await;
    let address = format!("http://{}:8500", datacenter.agents[0].address);
    let ours = format!("program = \"{}\"", consul_program());
    let image = machine::image(&consul_program());
    let image = image.replace(&ours, &format!("address = \"{address}\""));
    let kit = Kit {
        number: 43,
        instance: INSTANCE,
        image,
        exclusive: false,
    };
    let mut machine = Machine::start_kit(&datacenter, kit).await;
    let consul = datacenter.client(&datacenter.servers[0], Some(MANAGEMENT));
    machine.register(wire::CatalogueRole::Entered).await;
    passing(&consul, "web").await;
    machine.registered(wire::CatalogueRole::Entered).await;
    let client = Client::new(Settings {
        address: address.parse().unwrap(),
        timeout: TIMEOUT,
        tls: None,
        token: Some(MANAGEMENT.parse().unwrap()),
    })
    .unwrap();
    assert_eq!(agents_word(&client).await, CheckStatus::Passing);

    machine.cut();
    datacenter.servers[0].kill();
    assert_eq!(agents_word(&client).await, CheckStatus::Passing);
    machine.boot().await;
    agent_says(&client, CheckStatus::Critical).await;
    datacenter.servers[0].start_again();
    datacenter.until_it_leads().await;
    passing(&consul, "web").await;
}
