//! How agents are told to join Consul and to be registered there: only those that can, and only the
//! newest.

use std::{collections::BTreeMap, sync::Arc};

use calvin_model::{ConsulJoin, Join, Registration, Secret};
use calvin_proto::convert::join::CONSUL;

use super::*;
use crate::catalogue::Machines as _;

fn join(token: &str) -> Arc<Join> {
    Arc::new(Join {
        consul: Some(ConsulJoin {
            datacenter: "test".parse().unwrap(),
            domain: "test.example".to_owned(),
            servers: vec!["127.0.0.1:8301".to_owned()],
            gossip_key: None,
            ca_pem: String::new(),
            node: "web-a".to_owned(),
            token: Some(Secret::new(token.to_owned())),
            trust_domain: "one.consul".to_owned(),
        }),
    })
}

fn told(bench: &Bench, token: &str, role: CatalogueRole) {
    let registration = Registration {
        role,
        exclusive: false,
    };
    let both = ["web-a", "web-b"].map(id);
    let joins = both.clone().map(|id| (id, join(token)));
    bench.agents.set_joins(BTreeMap::from(joins));
    let registrations = both.map(|id| (id, registration));
    bench
        .agents
        .set_registrations(BTreeMap::from(registrations));
}

/// The next token and the next role that an agent is told; other things come in between.
async fn next(session: &mut bench::Session) -> Result<String, CatalogueRole> {
    loop {
        match session.next().await.unwrap() {
            ToAgent::Join(join) => {
                let token = join.consul.unwrap().token.unwrap();
                return Ok(token.expose().to_owned());
            }
            ToAgent::Registration(order) => {
                assert_eq!(order.epoch, Bench::epoch());
                return Err(order.registration.role);
            }
            ToAgent::Welcome(_) | ToAgent::Wanted(_) | ToAgent::Trust(_) | ToAgent::Names(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_can_join_is_told_how_and_then_how_to_be_registered() {
    let bench = Bench::start().await;
    let agent = bench.enrolled("web-a").await;
    told(&bench, "first", CatalogueRole::Standby);
    let mut hello = bench.hello("web-a");
    hello.capabilities = vec![CONSUL.to_owned()];
    let mut session = bench.session(&agent, hello.clone()).await.unwrap();
    assert_eq!(next(&mut session).await, Ok("first".to_owned()));
    assert_eq!(next(&mut session).await, Err(CatalogueRole::Standby));
    assert_eq!(bench.agents.reachable(), [id("web-a")].into());

    // Only what has changed is told.
    told(&bench, "first", CatalogueRole::Entered);
    assert_eq!(next(&mut session).await, Err(CatalogueRole::Entered));
    told(&bench, "second", CatalogueRole::Entered);
    assert_eq!(next(&mut session).await, Ok("second".to_owned()));

    // Another session is told all of it again.
    let mut again = bench.session(&agent, hello).await.unwrap();
    assert_eq!(next(&mut again).await, Ok("second".to_owned()));
    assert_eq!(next(&mut again).await, Err(CatalogueRole::Entered));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_join_is_told_nothing_of_it() {
    let bench = Bench::start().await;
    let agent = bench.enrolled("web-a").await;
    told(&bench, "first", CatalogueRole::Standby);
    let mut session = bench.begun(&agent, "web-a").await;
    assert_eq!(bench.agents.reachable(), std::collections::BTreeSet::new());
    told(&bench, "second", CatalogueRole::Active);
    bench.publish(1);
    let message = session.next().await.unwrap();
    assert!(matches!(message, ToAgent::Names(_)), "{message:?}");
}
