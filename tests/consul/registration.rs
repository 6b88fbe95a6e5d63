//! Services and checks, registered with the Consul client of a node and seen on the servers.

use std::{collections::BTreeMap, net::TcpListener, time::Duration};

use calvin_consul::{
    Client, Consistency,
    agent::{CheckKind, CheckRegistration, Maintenance, ServiceRegistration},
    catalog::{TaggedAddress, Weights},
    health::{CheckStatus, ServiceHealth, ServiceStatus},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{agent, coordinator, shared, shared::NODE, until};

const SECOND: Duration = Duration::from_secs(1);

fn text(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(pair).collect()
}

/// A TTL check that holds for a day, as an agent registers for what only it can know.
pub(crate) fn ttl(id: &str, status: CheckStatus) -> CheckRegistration {
    CheckRegistration {
        id: id.to_owned(),
        name: id.to_owned(),
        notes: "what only the agent can know".to_owned(),
        status,
        kind: CheckKind::Ttl {
            ttl: Duration::from_secs(24 * 3600),
        },
        success_before_passing: 0,
        failures_before_critical: 0,
    }
}

/// A service with this name, whose id is `<name>-1`, without checks.
pub(crate) fn service(name: &str, checks: Vec<CheckRegistration>) -> ServiceRegistration {
    ServiceRegistration {
        id: format!("{name}-1"),
        name: name.to_owned(),
        tags: vec!["standby".to_owned()],
        address: "127.0.0.9".to_owned(),
        port: 8080,
        meta: text(&[("fleet", "web"), ("boot_id", "b-1")]),
        tagged_addresses: BTreeMap::new(),
        weights: Weights::default(),
        enable_tag_override: true,
        checks,
    }
}

/// What the servers know of the one instance of a service, once it is so.
pub(crate) async fn seen(
    coordinator: &Client,
    service: &str,
    is: impl Fn(&ServiceHealth) -> bool,
) -> ServiceHealth {
    until(&format!("{service} on the servers"), async || {
        let read = coordinator
            .service_health(service, Consistency::Consistent)
            .await
            .unwrap();
        match <[ServiceHealth; 1]>::try_from(read.value) {
            Ok([one]) if is(&one) => Ok(one),
            Ok([one]) => Err(vec![one]),
            Err(other) => Err(other),
        }
    })
    .await
}

#[tokio::test]
async fn a_service_is_registered_with_all_that_consul_has_for_it() {
    let datacenter = shared();
    let coordinator = coordinator(datacenter, "reg-all").await;
    let agent = agent(datacenter, &coordinator, "reg-all", &["reg-all"]).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let check = |id: &str, kind| CheckRegistration {
        kind,
        ..ttl(id, CheckStatus::Passing)
    };
    let (interval, timeout) = (SECOND * 3600, SECOND);
    let mut wanted = service(
        "reg-all",
        vec![
            ttl("reg-all-agent", CheckStatus::Warning),
            check(
                "reg-all-http",
                CheckKind::Http {
                    url: "http://127.0.0.1:1/health".into(),
                    method: "HEAD".into(),
                    headers: BTreeMap::from([("X-Probe".into(), vec!["calvin".into()])]),
                    interval,
                    timeout,
                },
            ),
            check(
                "reg-all-tcp",
                CheckKind::Tcp {
                    address,
                    interval,
                    timeout,
                },
            ),
            check(
                "reg-all-grpc",
                CheckKind::Grpc {
                    address,
                    service: "web.v1".into(),
                    interval,
                    timeout,
                },
            ),
        ],
    );
    wanted.weights = Weights {
        passing: 10,
        warning: 2,
    };
    wanted.tagged_addresses = BTreeMap::from([(
        "wan".to_owned(),
        TaggedAddress {
            address: "198.51.100.7".into(),
            port: 80,
        },
    )]);
    agent.register(&wanted).await.unwrap();

    let one = seen(&coordinator, "reg-all", |one| one.checks.len() == 5).await;
    let found = &one.service;
    assert_eq!((&*found.id, found.port), ("reg-all-1", 8080));
    assert_eq!(found.tags, ["standby"]);
    assert_eq!(found.meta, wanted.meta);
    assert_eq!(found.weights, wanted.weights);
    assert_eq!(
        found.tagged_addresses["wan"],
        wanted.tagged_addresses["wan"]
    );
    assert!(found.enable_tag_override);
    assert_eq!(one.node.name, NODE);
    assert_eq!(one.gossip(), Some(CheckStatus::Passing));
    // Each check is what it was registered as; its first run is up to an hour away.
    let kinds: BTreeMap<_, _> = one
        .checks
        .iter()
        .map(|check| (&*check.id, (&*check.kind, check.status)))
        .collect();
    assert_eq!(kinds["reg-all-agent"], ("ttl", CheckStatus::Warning));
    assert_eq!(kinds["reg-all-http"].0, "http");
    assert_eq!(kinds["reg-all-tcp"].0, "tcp");
    assert_eq!(kinds["reg-all-grpc"].0, "grpc");
    assert!(
        one.checks
            .iter()
            .any(|check| check.notes == "what only the agent can know")
    );
}

/// Answers 200 to a `HEAD` with the probe's header, and 500 to everything else, for as long as the
/// test runs.
async fn answer_probes(listener: TcpListener) {
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut head = vec![0; 4096];
        let length = stream.read(&mut head).await.unwrap_or(0);
        let head = String::from_utf8_lossy(&head[..length]).to_lowercase();
        let right = head.starts_with("head /health http/1.1") && head.contains("x-probe: calvin");
        let status = if right { "200 OK" } else { "500 Wrong" };
        let text = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        let _ = stream.write_all(text.as_bytes()).await;
    }
}

#[tokio::test]
async fn consul_runs_http_and_tcp_checks_by_itself() {
    let datacenter = shared();
    let coordinator = coordinator(datacenter, "reg-run").await;
    let agent = agent(datacenter, &coordinator, "reg-run", &["reg-run"]).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let probes = tokio::spawn(answer_probes(listener));
    let check = |id: &str, kind| CheckRegistration {
        kind,
        failures_before_critical: 2,
        ..ttl(id, CheckStatus::Critical)
    };
    let (interval, timeout) = (SECOND, SECOND * 5);
    let http = CheckKind::Http {
        url: format!("http://{address}/health"),
        method: "HEAD".into(),
        headers: BTreeMap::from([("X-Probe".into(), vec!["calvin".into()])]),
        interval,
        timeout,
    };
    let tcp = CheckKind::Tcp {
        address,
        interval,
        timeout,
    };
    let checks = vec![check("reg-run-http", http), check("reg-run-tcp", tcp)];
    agent.register(&service("reg-run", checks)).await.unwrap();
    let passing = |one: &ServiceHealth| one.status() == ServiceStatus::Passing;
    seen(&coordinator, "reg-run", passing).await;
    probes.abort();
    let both = |one: &ServiceHealth| {
        let critical = one.checks.iter();
        let critical = critical.filter(|check| check.status == CheckStatus::Critical);
        critical.count() == 2
    };
    seen(&coordinator, "reg-run", both).await;
}

#[tokio::test]
async fn a_ttl_check_is_what_the_agent_says_and_stays_it_when_the_service_is_registered_again() {
    let datacenter = shared();
    let coordinator = coordinator(datacenter, "reg-ttl").await;
    let agent = agent(datacenter, &coordinator, "reg-ttl", &["reg-ttl"]).await;
    let critical = service("reg-ttl", vec![ttl("reg-ttl-agent", CheckStatus::Critical)]);
    agent.register(&critical).await.unwrap();
    let says = format!("{}the end", "x".repeat(5000));
    agent
        .update_check("reg-ttl-agent", CheckStatus::Passing, &says)
        .await
        .unwrap();
    let passing = |one: &ServiceHealth| one.status() == ServiceStatus::Passing;
    let one = seen(&coordinator, "reg-ttl", passing).await;
    let check = one.checks.iter().find(|check| check.id == "reg-ttl-agent");
    assert!(check.unwrap().output.ends_with("the end"));

    agent.register(&critical).await.unwrap();
    let local = agent.local_checks().await.unwrap();
    assert_eq!(local["reg-ttl-agent"].status, CheckStatus::Passing);

    let error = agent
        .update_check("no-such-check", CheckStatus::Passing, "")
        .await
        .unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
}

#[tokio::test]
async fn a_check_comes_and_goes_alone() {
    let datacenter = shared();
    let coordinator = coordinator(datacenter, "reg-one").await;
    let agent = agent(datacenter, &coordinator, "reg-one", &["reg-one"]).await;
    agent.register(&service("reg-one", vec![])).await.unwrap();
    let check = ttl("reg-one-extra", CheckStatus::Critical);
    agent
        .register_check(&check, Some("reg-one-1"))
        .await
        .unwrap();
    let critical = |one: &ServiceHealth| one.status() == ServiceStatus::Critical;
    let one = seen(&coordinator, "reg-one", critical).await;
    let found = one.checks.iter().find(|check| check.id == "reg-one-extra");
    assert_eq!(found.unwrap().service_id, "reg-one-1");
    for _ in 0..2 {
        agent.deregister_check("reg-one-extra").await.unwrap();
    }
    let passing = |one: &ServiceHealth| one.status() == ServiceStatus::Passing;
    seen(&coordinator, "reg-one", passing).await;
    // What is not named in a registration goes with it.
    agent
        .register_check(&check, Some("reg-one-1"))
        .await
        .unwrap();
    agent.register(&service("reg-one", vec![])).await.unwrap();
    assert!(
        !agent
            .local_checks()
            .await
            .unwrap()
            .contains_key("reg-one-extra")
    );
}

#[tokio::test]
async fn maintenance_takes_a_service_out_and_back() {
    let datacenter = shared();
    let coordinator = coordinator(datacenter, "reg-mnt").await;
    let agent = agent(datacenter, &coordinator, "reg-mnt", &["reg-mnt"]).await;
    agent.register(&service("reg-mnt", vec![])).await.unwrap();
    let out = Maintenance::On {
        reason: "draining: 100 % & more",
    };
    let is = |status| move |one: &ServiceHealth| one.status() == status;
    agent.service_maintenance("reg-mnt-1", out).await.unwrap();
    let one = seen(&coordinator, "reg-mnt", is(ServiceStatus::Maintenance)).await;
    assert!(
        one.checks
            .iter()
            .any(|check| check.notes == "draining: 100 % & more")
    );
    agent
        .service_maintenance("reg-mnt-1", Maintenance::Off)
        .await
        .unwrap();
    seen(&coordinator, "reg-mnt", is(ServiceStatus::Passing)).await;
    let error = agent.service_maintenance("no-such", out).await.unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
}

#[tokio::test]
async fn a_deregistered_service_leaves_the_catalogue() {
    let datacenter = shared();
    let coordinator = coordinator(datacenter, "reg-off").await;
    let agent = agent(datacenter, &coordinator, "reg-off", &["reg-off"]).await;
    agent.register(&service("reg-off", vec![])).await.unwrap();
    seen(&coordinator, "reg-off", |_| true).await;
    assert!(
        coordinator
            .service_names()
            .await
            .unwrap()
            .contains(&"reg-off".to_owned())
    );
    assert!(
        agent
            .local_services()
            .await
            .unwrap()
            .contains_key("reg-off-1")
    );
    for _ in 0..2 {
        agent.deregister("reg-off-1").await.unwrap();
    }
    until("nothing of it on the servers", async || {
        let read = coordinator.service_health("reg-off", Consistency::Consistent);
        let left = read.await.unwrap().value;
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}
