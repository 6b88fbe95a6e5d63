//! HAProxy as it is put in front, with Consul alone: that its configurations, which the documentation
//! shows, go on serving while Consul is silent or gone, and follow it when it is not.

use std::{net::SocketAddr, time::Duration};

use calvin_consul::{
    Client, Consistency,
    agent::{CheckKind, CheckRegistration, ServiceRegistration},
    health::{CheckStatus, ServiceStatus},
};
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::sleep,
};

use crate::{
    registration,
    stage::{
        consul_template::{Access, Templated},
        edge::Edge,
        haproxy::{Haproxy, Route},
        load::Load,
    },
    support::{Datacenter, datacenter::MANAGEMENT, shared::NODE, until},
};

const SERVICE: &str = "web";

/// How long Consul is away: longer than any of HAProxy's own timeouts, and than Consul's own patience
/// with a server that it cannot reach (7 s).
const AWAY: Duration = Duration::from_secs(12);

/// A web server whose page is its version.
struct Web {
    version: &'static str,
    address: SocketAddr,
}

impl Web {
    async fn start(version: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut head = [0; 4096];
                    // Who asked may have gone.
                    let _ = stream.read(&mut head).await;
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{version}",
                        version.len()
                    );
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { version, address }
    }

    fn registration(&self, tag: &str) -> ServiceRegistration {
        let check = CheckRegistration {
            id: format!("page-{}", self.version),
            name: "page".to_owned(),
            notes: String::new(),
            status: CheckStatus::Passing,
            kind: CheckKind::Http {
                url: format!("http://{}/", self.address),
                method: String::new(),
                headers: std::collections::BTreeMap::new(),
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
            },
            success_before_passing: 0,
            failures_before_critical: 3,
        };
        ServiceRegistration {
            id: self.version.to_owned(),
            tags: vec![tag.to_owned()],
            address: self.address.ip().to_string(),
            port: self.address.port(),
            ..registration::service(SERVICE, vec![check])
        }
    }

    async fn register(&self, consul: &Client, tag: &str) {
        consul.register(&self.registration(tag)).await.unwrap();
    }
}

/// A datacenter with a node for the web servers, a consumer's Consul client, and a blue and a green web
/// server of which blue is active.
struct World {
    datacenter: Datacenter,
    edge: Edge,
    consul: Client,
    blue: Web,
    green: Web,
}

impl World {
    async fn start() -> Self {
        let mut datacenter = Datacenter::start(1, json!({})).await;
        datacenter.add_agent(NODE).await;
        let edge = Edge::start(&mut datacenter).await;
        let consul = datacenter.client(&datacenter.agents[0], Some(MANAGEMENT));
        let (blue, green) = (Web::start("1.0").await, Web::start("2.0").await);
        blue.register(&consul, "active").await;
        Self {
            datacenter,
            edge,
            consul,
            blue,
            green,
        }
    }

    /// Green serves and blue stands by: green first.
    async fn switch(&self) {
        self.green.register(&self.consul, "active").await;
        self.blue.register(&self.consul, "standby").await;
    }

    /// What the servers say, asked at a server.
    fn server(&self) -> Client {
        let server = &self.datacenter.servers[0];
        self.datacenter.client(server, Some(MANAGEMENT))
    }

    /// Waits until this is registered, and has been for longer than names are held.
    async fn until_registered(&self, versions: &[&str]) {
        let server = self.server();
        until("all in the catalogue", async || {
            let read = server
                .service_health(SERVICE, Consistency::Consistent)
                .await;
            let mut found: Vec<String> = read
                .map_err(|error| error.to_string())?
                .value
                .into_iter()
                .filter(|one| one.status() == ServiceStatus::Passing)
                .map(|one| one.service.id)
                .collect();
            found.sort();
            if found == versions {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        })
        .await;
        sleep(Duration::from_secs(3)).await;
    }

    /// Consul stops answering, dies, comes back, and has forgotten who serves, one after the other.
    async fn trouble(&mut self, load: &Load, registered: &[&str]) {
        let client = self.edge.index;
        for (silent, what) in [(true, "server"), (false, "client")] {
            let process = match silent {
                true => &mut self.datacenter.servers[0],
                false => &mut self.datacenter.agents[client],
            };
            process.signal(Signal::SIGSTOP);
            sleep(AWAY).await;
            load.assert_none_failed(&format!("the {what} is silent"));
            process.signal(Signal::SIGCONT);
            process.kill();
            sleep(AWAY).await;
            load.assert_none_failed(&format!("the {what} is dead"));
            process.start_again();
            // A server that starts alone takes those for gone who have not joined again when it leads:
            // for half a minute the catalogue may be empty.
            self.datacenter.until_it_leads().await;
            self.until_registered(registered).await;
            load.assert_none_failed(&format!("the {what} is back"));
        }
        self.server().deregister_ghost_node(NODE).await.unwrap();
        sleep(AWAY).await;
        load.assert_none_failed("the catalogue is empty");
        self.datacenter.agents[0].start_again();
        self.until_registered(registered).await;
    }
}

/// Waits until only this page is answered.
async fn until_only(load: &Load, version: &str) {
    until(&format!("only {version}"), async || {
        let before = load.seen();
        let after = load.until_more(200).await;
        let count = |seen: &crate::stage::load::Seen| seen.by_page.get(version).copied();
        let more = count(&after).unwrap_or(0) - count(&before).unwrap_or(0);
        match after.requests - before.requests - more {
            0 => Ok(()),
            others => Err(others),
        }
    })
    .await;
}

#[tokio::test]
async fn haproxy_with_resolvers_serves_on_without_consul_and_follows_it_afterwards() {
    let mut world = World::start().await;
    let directory = TempDir::new().unwrap();
    let domain = world.datacenter.domain.clone();
    let routes = [
        Route::active(SERVICE, &domain),
        Route::untagged(SERVICE, &domain),
    ];
    let haproxy = Haproxy::with_resolvers(directory.path(), world.edge.dns, &routes).await;
    let blue = world.blue.address.to_string();
    until("blue", async || match haproxy.servers(0).await {
        servers if servers == [blue.clone()] => Ok(()),
        servers => Err(servers),
    })
    .await;
    // HAProxy makes its first check of a server before it sends anything there.
    sleep(Duration::from_secs(1)).await;
    let load = Load::start(routes[0].listen);
    load.until_more(500).await;
    load.assert_none_failed("in peace");

    // Without a tag green is found as soon as it is there, with the tag it is not.
    world.green.register(&world.consul, "standby").await;
    until("both", async || match haproxy.servers(1).await {
        servers if servers.len() == 2 => Ok(()),
        servers => Err(servers),
    })
    .await;
    assert_eq!(haproxy.servers(0).await, [blue]);

    world.trouble(&load, &["1.0", "2.0"]).await;
    assert_eq!(load.seen().by_page.len(), 1, "{:?}", load.seen());

    world.switch().await;
    until_only(&load, "2.0").await;
    load.assert_none_failed("through trouble and a switch");
}

#[tokio::test]
async fn haproxy_with_consul_template_serves_on_without_consul_and_follows_it_afterwards() {
    let mut world = World::start().await;
    let directory = TempDir::new().unwrap();
    let domain = world.datacenter.domain.clone();
    let route = Route::active(SERVICE, &domain);
    world.until_registered(&["1.0"]).await;
    let access = Access {
        address: world.edge.api,
        token: &world.edge.token.clone(),
        authority: &world.datacenter.authority,
    };
    let mut templated = Templated::start(directory.path(), &access, SERVICE, &route).await;
    assert_eq!(templated.written(), [world.blue.address.to_string()]);
    let load = Load::start(route.listen);
    load.until_more(500).await;
    load.assert_none_failed("in peace");

    world.trouble(&load, &["1.0"]).await;
    assert_eq!(
        templated.template.ended(),
        None,
        "{}",
        templated.template.log()
    );
    assert_eq!(templated.written(), [world.blue.address.to_string()]);

    world.switch().await;
    until_only(&load, "2.0").await;
    assert_eq!(templated.written(), [world.green.address.to_string()]);
    load.assert_none_failed("through trouble and a switch");
}
