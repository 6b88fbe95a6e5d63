//! Each kind of trouble, made for real, and told apart.

use std::{
    net::{TcpListener, TcpStream},
    time::Duration,
};

use calvin_consul::{
    Client, Consistency, Error, Key, Reason, Settings, health::CheckStatus, names::Problem,
};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    registration::service,
    support::{Datacenter, agent, coordinator, datacenter::MANAGEMENT, shared, until},
};

fn rule(error: &Error) -> String {
    let rule = error.missing_rule();
    rule.unwrap_or_else(|| panic!("{error:?}")).hcl()
}

fn chain(error: &Error) -> String {
    format!("{error}: {}", error.reason)
}

#[tokio::test]
async fn a_denial_says_which_rule_is_missing() {
    let datacenter = shared();
    let coordinator = coordinator(datacenter, "err-deny").await;
    let agent = agent(datacenter, &coordinator, "err-deny", &["err-deny"]).await;
    let key: Key = "secret/of/others".parse().unwrap();

    let error = coordinator.kv_put(&key, vec![]).await.unwrap_err();
    assert_eq!(
        rule(&error),
        "key \"secret/of/others\" { policy = \"write\" }"
    );
    assert!(chain(&error).starts_with(
        "could not write key secret/of/others: the token may not do this: it lacks key:write on \
         \"secret/of/others\""
    ));
    let error = agent.kv_get(&key, Consistency::Default).await.unwrap_err();
    assert_eq!(
        rule(&error),
        "key \"secret/of/others\" { policy = \"read\" }"
    );
    let error = agent
        .register(&service("foreign", vec![]))
        .await
        .unwrap_err();
    assert_eq!(rule(&error), "service \"foreign\" { policy = \"write\" }");
    let error = agent
        .token("0c5f1c5e-0000-4000-8000-00000000a002")
        .await
        .unwrap_err();
    assert_eq!(rule(&error), "acl = \"read\"");
    let error = agent.policy_create("err-deny-x", "", "").await.unwrap_err();
    assert_eq!(rule(&error), "acl = \"write\"");
    let error = agent
        .deregister_ghost_node("calvin-node-2")
        .await
        .unwrap_err();
    assert_eq!(
        rule(&error),
        "node \"calvin-node-2\" { policy = \"write\" }"
    );
    assert!(error.is_denied() && !error.is_transient());

    // Without any token: the same rule, and that there was none.
    let nobody = datacenter.client(&datacenter.agents[0], None);
    let error = nobody.agent_self().await.unwrap_err();
    assert_eq!(
        rule(&error),
        "agent \"calvin-node-1\" { policy = \"read\" }"
    );
}

#[tokio::test]
async fn what_is_not_there_is_told_from_what_is_not_understood() {
    let datacenter = shared();
    let management = datacenter.client(&datacenter.agents[0], Some(MANAGEMENT));
    let error = management
        .update_check("err-none", CheckStatus::Passing, "")
        .await
        .unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
    let error = management
        .service_health("Not-A-Label", Consistency::Default)
        .await
        .unwrap_err();
    let Reason::Invalid(name) = &error.reason else {
        panic!("{error:?}");
    };
    assert!(matches!(
        name.problem,
        Problem::Character { found: 'N', .. }
    ));
    let none = management
        .service_health("err-none", Consistency::Default)
        .await;
    assert_eq!(none.unwrap().value, []);
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::new(Settings {
        address: address.parse().unwrap(),
        timeout: Duration::from_secs(5),
        tls: None,
        token: None,
    })
    .unwrap();
    for error in [
        client.leader().await.unwrap_err(),
        // By the given client: the same.
        client.service_names().await.unwrap_err(),
    ] {
        assert!(
            matches!(&error.reason, Reason::Unreachable { address: at, .. } if *at == address),
            "{error:?}"
        );
        assert!(error.is_transient());
    }
}

#[tokio::test]
async fn a_quorum_that_is_lost_is_no_leader() {
    let mut datacenter = Datacenter::start(2, json!({})).await;
    let client = datacenter.client(&datacenter.servers[0], Some(MANAGEMENT));
    let key: Key = "a".parse().unwrap();
    client.kv_put(&key, vec![1]).await.unwrap();
    let stale = async || {
        let read = client.kv_get(&key, Consistency::Stale).await.unwrap();
        let value = read.value.map(|entry| entry.value);
        (value == Some(vec![1]))
            .then_some(read.known_leader)
            .ok_or(value)
    };
    assert!(until("the entry on this server", stale).await);
    datacenter.servers[1].kill();
    let error = until("no leader", async || {
        match client.kv_put(&key, vec![2]).await {
            Err(error) if matches!(error.reason, Reason::NoLeader { .. }) => Ok(error),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(error.is_transient() && !error.is_denied());
    let error = client
        .kv_get(&key, Consistency::Consistent)
        .await
        .unwrap_err();
    assert!(matches!(error.reason, Reason::NoLeader { .. }), "{error:?}");
    // Old news can still be had, and say that they are, once the server has noticed.
    until("news that are known to be old", async || {
        match stale().await {
            Ok(false) => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

#[tokio::test]
async fn a_consul_client_without_servers_has_no_leader() {
    let mut datacenter = Datacenter::start(1, json!({})).await;
    datacenter.add_agent("calvin-lonely").await;
    let client = datacenter.client(&datacenter.agents[0], Some(MANAGEMENT));
    let key: Key = "a".parse().unwrap();
    client.kv_put(&key, vec![1]).await.unwrap();
    datacenter.servers[0].kill();
    // First its connection breaks, then no server answers, then it forgets them: each is the same.
    until("its servers forgotten", async || {
        let error = client.kv_put(&key, vec![2]).await.unwrap_err();
        assert!(matches!(error.reason, Reason::NoLeader { .. }), "{error:?}");
        let text = error.reason.to_string();
        if text.contains("No known Consul servers") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
}

fn limited(error: &Error) -> bool {
    matches!(error.reason, Reason::RateLimited { .. })
}

#[tokio::test]
async fn a_limit_that_is_reached_is_told_from_a_failure() {
    // Consul lets ten times as many through at once, and then so many a second. Writes are counted
    // where they come from a Consul client, and not where they come from a server.
    let limits = json!({ "limits": { "request_limits": {
        "mode": "enforcing", "read_rate": 2, "write_rate": 2,
    } } });
    let mut datacenter = Datacenter::start(1, limits).await;
    datacenter.add_agent("calvin-busy").await;
    let key: Key = "a".parse().unwrap();
    let server = datacenter.client(&datacenter.servers[0], Some(MANAGEMENT));
    let refused = until("a refused read", async || {
        match server.kv_get(&key, Consistency::Default).await {
            Err(error) if limited(&error) => Ok(error),
            Err(error) => panic!("{error:?}"),
            Ok(_) => Err("an answer"),
        }
    })
    .await;
    assert!(refused.is_transient() && !refused.is_denied());
    // A Consul client tries again by itself for a while: more at once than get through in that time.
    let agent = datacenter.client(&datacenter.agents[0], Some(MANAGEMENT));
    let mut writes = JoinSet::new();
    for _ in 0..80 {
        let (agent, key) = (agent.clone(), key.clone());
        writes.spawn(async move { agent.kv_put(&key, vec![]).await });
    }
    let mut refused = 0;
    for result in writes.join_all().await {
        match result {
            Ok(()) => {}
            Err(error) if limited(&error) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(refused > 0);
}

#[tokio::test]
async fn too_many_connections_are_a_limit_too() {
    let limits = json!({ "limits": { "http_max_conns_per_client": 3 } });
    let datacenter = Datacenter::start(1, limits).await;
    let server = &datacenter.servers[0];
    let address = (server.address, server.ports.https);
    let mut held = Vec::new();
    // A slot is free until Consul has seen the last of whoever had it before. Each look is a client of
    // its own: one that got through would keep its connection.
    let error = until("a connection too many", async || {
        held.push(TcpStream::connect(address).unwrap());
        let one_more = datacenter.client(server, Some(MANAGEMENT));
        match one_more.token_self().await {
            Err(error) if limited(&error) => Ok(error),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(error.to_string().contains("read the own token"));
    drop(held);
    let again = datacenter.client(server, Some(MANAGEMENT));
    until("room", async || again.token_self().await.map(drop)).await;
}

#[tokio::test]
async fn a_frozen_consul_is_a_time_out() {
    let datacenter = Datacenter::start(1, json!({})).await;
    let limit = Duration::from_millis(1500);
    let mut settings = datacenter.settings(&datacenter.servers[0], Some(MANAGEMENT));
    settings.timeout = limit;
    let client = Client::new(settings).unwrap();
    let key: Key = "a".parse().unwrap();
    until("an answer", async || client.kv_put(&key, vec![]).await).await;
    datacenter.servers[0].signal(Signal::SIGSTOP);
    // Its threads stop one after the other, and may answer until then.
    let frozen = until("a time-out", async || {
        match client.kv_get(&key, Consistency::Default).await {
            Err(error) => Ok(error),
            Ok(read) => Err(read),
        }
    })
    .await;
    // By the given client, and over a new connection: the same.
    for error in [frozen, client.kv_put(&key, vec![]).await.unwrap_err()] {
        assert!(
            matches!(error.reason, Reason::TimedOut { limit: told } if told == limit),
            "{error:?}"
        );
        assert!(error.is_transient());
    }
    datacenter.servers[0].signal(Signal::SIGCONT);
    until("an answer", async || client.kv_put(&key, vec![]).await).await;
}
