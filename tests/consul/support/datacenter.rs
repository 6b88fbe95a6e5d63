//! A datacenter with ACLs that deny by default, TLS both ways and encrypted gossip.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use calvin_consul::{
    Client, Settings, Token,
    acl::{NodeIdentity, TokenRequest},
};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    certificates::Authority,
    process::{Ports, Process, free_ports, own_address},
    until,
};

/// What a datacenter of the tests is called unless it is given a name: also what its servers'
/// certificates say.
pub(crate) const NAME: &str = "calvin-test";
/// The domain of its DNS, likewise.
const DOMAIN: &str = "consul";
/// The token that may do everything. The tests make others with it.
pub(crate) const MANAGEMENT: &str = "11111111-2222-3333-4444-555555555555";
/// Limit of one request: far above what Consul needs, because the machine may be busy.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// A datacenter.
pub(crate) struct Datacenter {
    pub(crate) name: String,
    pub(crate) domain: String,
    pub(crate) authority: Authority,
    pub(crate) servers: Vec<Process>,
    pub(crate) agents: Vec<Process>,
    pub(crate) gossip_key: String,
    directory: TempDir,
}

/// Adds to a configuration: objects are merged, everything else is replaced.
fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

/// Where servers keep their data: in memory, where `tests/run` found room for it.
fn directory() -> std::io::Result<TempDir> {
    std::env::var_os("CALVIN_TESTS_MEMORY").map_or_else(TempDir::new, TempDir::new_in)
}

impl Datacenter {
    /// Starts so many servers with this added to their configuration, and waits for a leader.
    pub(crate) async fn start(servers: usize, more: Value) -> Self {
        let name = more["datacenter"].as_str().unwrap_or(NAME).to_owned();
        Self::start_named(&name, DOMAIN, servers, more).await
    }

    /// The same, with a name and a DNS domain of its own.
    pub(crate) async fn start_named(name: &str, domain: &str, servers: usize, more: Value) -> Self {
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key).unwrap();
        let mut datacenter = Self {
            name: name.to_owned(),
            domain: domain.to_owned(),
            authority: Authority::new(),
            servers: Vec::new(),
            agents: Vec::new(),
            gossip_key: STANDARD.encode(key),
            directory: directory().unwrap(),
        };
        for index in 0..servers {
            let mut configuration = json!({
                "server": true,
                "bootstrap_expect": servers,
                "performance": { "raft_multiplier": 1 },
                "acl": { "tokens": { "initial_management": MANAGEMENT, "agent": MANAGEMENT } },
            });
            merge(&mut configuration, more.clone());
            let server = datacenter.process(&format!("server-{index}"), configuration);
            datacenter.servers.push(server);
        }
        datacenter.until_it_leads().await;
        datacenter
    }

    /// Waits until there is a leader and the token that may do everything.
    pub(crate) async fn until_it_leads(&self) {
        let client = self.client(&self.servers[0], Some(MANAGEMENT));
        until("a leader", async || match client.leader().await {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        // The token that may do everything is made by the leader in its first moments.
        until("the first token", async || {
            client.token_self().await.map(drop)
        })
        .await;
    }

    /// Starts a Consul client on a node of this name, with a token for exactly that, and waits until
    /// it is in the catalogue.
    pub(crate) async fn add_agent(&mut self, node: &str) {
        self.add_agent_with(node, json!({})).await;
    }

    /// The same, with this added to its configuration.
    pub(crate) async fn add_agent_with(&mut self, node: &str, more: Value) {
        let management = self.client(&self.servers[0], Some(MANAGEMENT));
        let token = TokenRequest {
            description: format!("consul client of {node}"),
            node_identities: vec![NodeIdentity {
                node_name: node.to_owned(),
                datacenter: self.name.clone(),
            }],
            ..TokenRequest::default()
        };
        let token = management.token_create(&token).await.unwrap();
        let mut configuration = json!({
            "acl": { "tokens": { "agent": token.secret.secret() } },
        });
        merge(&mut configuration, more);
        let agent = self.process(node, configuration);
        self.agents.push(agent);
        until("the client in the catalogue", async || {
            let nodes = management
                .nodes(calvin_consul::Consistency::Consistent)
                .await;
            let nodes = nodes.map_err(|error| error.to_string())?.value;
            let found = nodes.iter().any(|known| known.name == node);
            found.then_some(()).ok_or_else(|| format!("{nodes:?}"))
        })
        .await;
    }

    /// The key of its gossip, base64.
    pub(crate) fn gossip_key(&self) -> &str {
        &self.gossip_key
    }

    /// A client of one of the processes, with this token.
    pub(crate) fn client(&self, process: &Process, token: Option<&str>) -> Client {
        Client::new(self.settings(process, token)).unwrap()
    }

    /// What a client of one of the processes is made from.
    pub(crate) fn settings(&self, process: &Process, token: Option<&str>) -> Settings {
        Settings {
            address: process.url().parse().unwrap(),
            timeout: TIMEOUT,
            tls: Some(self.authority.tls()),
            token: token.map(|token| token.parse::<Token>().unwrap()),
        }
    }

    /// Where its servers are joined.
    pub(crate) fn gossip_addresses(&self) -> Vec<String> {
        let servers = self.servers.iter();
        servers
            .map(|server| SocketAddr::new(server.address, server.ports.serf).to_string())
            .collect()
    }

    /// Whatever all processes share.
    fn process(&self, node: &str, more: Value) -> Process {
        let address = own_address();
        let ports = free_ports(address);
        let directory = self.directory.path().join(node);
        std::fs::create_dir_all(&directory).unwrap();
        let name = format!("server.{}.{}", self.name, self.domain);
        let identity = self.authority.issue(&[&name, "localhost"], Some(address));
        for (file, text) in [
            ("ca.pem", &self.authority.pem),
            ("certificate.pem", &identity.certificate_pem),
            ("key.pem", &identity.key_pem),
        ] {
            std::fs::write(directory.join(file), text).unwrap();
        }
        let Ports {
            https,
            dns,
            serf,
            server: server_port,
        } = ports;
        let mut configuration = json!({
            "datacenter": self.name,
            "domain": self.domain,
            "node_name": node,
            "data_dir": directory.join("data"),
            "bind_addr": address,
            "client_addr": address.to_string(),
            "ports": {
                "http": -1, "https": https, "dns": dns, "grpc": -1, "grpc_tls": -1,
                "serf_lan": serf, "serf_wan": -1, "server": server_port,
            },
            "retry_join": self.gossip_addresses(),
            "retry_interval": "1s",
            "encrypt": self.gossip_key,
            "tls": {
                "defaults": {
                    "ca_file": directory.join("ca.pem"),
                    "cert_file": directory.join("certificate.pem"),
                    "key_file": directory.join("key.pem"),
                    "verify_incoming": true,
                    "verify_outgoing": true,
                },
                "internal_rpc": { "verify_server_hostname": true },
            },
            "acl": {
                "enabled": true,
                "default_policy": "deny",
                "enable_token_persistence": true,
            },
            "connect": { "enabled": false },
            "disable_update_check": true,
            "enable_debug": false,
            "log_level": "INFO",
        });
        merge(&mut configuration, more);
        // Who configures a port of his own means that one.
        let server = configuration["ports"]["server"].as_u64();
        let ports = Ports {
            server: server
                .and_then(|port| port.try_into().ok())
                .unwrap_or(server_port),
            ..ports
        };
        Process::start(address, ports, &directory, &configuration)
    }
}
