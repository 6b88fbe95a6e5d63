//! What is left in the catalogue of machines that are gone, and what must not be taken for that.

use calvin_consul::{
    Client, Consistency,
    agent::Maintenance,
    health::{CheckStatus, ServiceStatus},
    txn::{Op, Outcome},
};
use serde_json::json;

use crate::{
    registration::{seen, service},
    support::{
        Datacenter, agent, coordinator, datacenter::MANAGEMENT, shared, shared::NODE, until,
    },
};

async fn has_service(consul: &Client, node: &str, id: &str) -> bool {
    let read = consul
        .node_services(node, Consistency::Consistent)
        .await
        .unwrap();
    let services = read.value.map(|(_, services)| services).unwrap_or_default();
    services.iter().any(|service| service.id == id)
}

#[tokio::test]
async fn a_dead_machine_leaves_the_catalogue_and_no_other_does() {
    let mut datacenter = Datacenter::start(1, json!({})).await;
    for node in [NODE, "calvin-ghost"] {
        datacenter.add_agent(node).await;
    }
    let consul = coordinator(&datacenter, "ghost").await;
    let lives = agent(&datacenter, &consul, "ghost", &["ghost"]).await;
    for process in &datacenter.agents {
        let client = datacenter.client(process, Some(MANAGEMENT));
        client.register(&service("ghost", vec![])).await.unwrap();
    }
    let both = || async {
        let read = consul
            .service_health("ghost", Consistency::Consistent)
            .await;
        read.unwrap().value
    };
    until("both", async || match both().await.len() {
        2 => Ok(()),
        count => Err(count),
    })
    .await;
    // While it lives, a machine can be taken out of service on purpose, all of it.
    lives
        .node_maintenance(Maintenance::On { reason: "test" })
        .await
        .unwrap();
    let out = async || {
        let found = both().await;
        let out = found
            .iter()
            .filter(|one| one.status() == ServiceStatus::Maintenance);
        out.count()
    };
    until("the node's maintenance", async || match out().await {
        1 => Ok(()),
        count => Err(count),
    })
    .await;
    lives.node_maintenance(Maintenance::Off).await.unwrap();

    datacenter.agents[1].kill();
    until("gossip", async || {
        let found = both().await;
        let dead = found
            .iter()
            .find(|one| one.node.name == "calvin-ghost")
            .unwrap();
        match dead.gossip() {
            Some(CheckStatus::Critical) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    for _ in 0..2 {
        consul
            .deregister_ghost_service("calvin-ghost", "ghost-1")
            .await
            .unwrap();
        assert!(!has_service(&consul, "calvin-ghost", "ghost-1").await);
        assert!(has_service(&consul, NODE, "ghost-1").await);
    }
    for _ in 0..2 {
        consul.deregister_ghost_node("calvin-ghost").await.unwrap();
        let nodes = consul.nodes(Consistency::Consistent).await.unwrap().value;
        let mut names: Vec<_> = nodes.into_iter().map(|node| node.name).collect();
        names.sort();
        assert_eq!(names, [NODE, "server-0"]);
    }
    let gone = consul
        .node_services("calvin-ghost", Consistency::Consistent)
        .await;
    assert_eq!(gone.unwrap().value, None);
    // Nodes that are not its instances' it cannot take out.
    let error = consul.deregister_ghost_node("server-0").await.unwrap_err();
    assert!(error.is_denied(), "{error:?}");
}

#[tokio::test]
async fn an_entry_that_was_made_anew_is_no_ghost() {
    let datacenter = shared();
    let consul = coordinator(datacenter, "ghost-new").await;
    let agent = agent(datacenter, &consul, "ghost-new", &["ghost-new"]).await;
    agent.register(&service("ghost-new", vec![])).await.unwrap();
    let old = seen(&consul, "ghost-new", |_| true).await;
    // The machine comes back, with another boot.
    let mut again = service("ghost-new", vec![]);
    again.meta.insert("boot_id".to_owned(), "b-2".to_owned());
    agent.register(&again).await.unwrap();
    let new = seen(&consul, "ghost-new", |one| {
        one.service.meta["boot_id"] == "b-2"
    })
    .await;
    let delete = |index| {
        [Op::ServiceDeleteCas {
            node: NODE.to_owned(),
            id: "ghost-new-1".to_owned(),
            service: "ghost-new".to_owned(),
            index,
        }]
    };
    let outcome = consul
        .transaction(&delete(old.service.modify_index))
        .await
        .unwrap();
    assert!(matches!(outcome, Outcome::RolledBack(_)), "{outcome:?}");
    assert!(has_service(&consul, NODE, "ghost-new-1").await);
    let outcome = consul
        .transaction(&delete(new.service.modify_index))
        .await
        .unwrap();
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    let node = consul.nodes(Consistency::Consistent).await.unwrap().value;
    let node = node.into_iter().find(|node| node.name == NODE).unwrap();
    let outcome = consul
        .transaction(&[Op::NodeDeleteCas {
            node: NODE.to_owned(),
            index: node.modify_index + 1000,
        }])
        .await
        .unwrap();
    assert!(matches!(outcome, Outcome::RolledBack(_)), "{outcome:?}");
}
