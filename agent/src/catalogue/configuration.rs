//! The configuration of the machine's Consul client, as JSON. Pure, but for the writing of it.
//!
//! It says of itself what it is: its own hash is in the meta of the node, so that the running client
//! shows which one it has read. What a client takes over only at its start is hashed apart, and
//! handed to the runner with the command: a client with another one is another unit.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use calvin_consul::registered;
use calvin_model::{ConsulJoin, Provision, Secret};
use serde_json::{Map, Value, json};

use crate::disk::{self, DiskError};

/// Where the client answers, on the loopback address of the machine: Consul's own ports.
pub(super) const HTTP_PORT: u16 = 8500;
/// See above.
pub(super) const DNS_PORT: u16 = 8600;
/// Meta of the node: the hash of the configuration that the client has read.
pub(super) const CONFIGURATION: &str = "calvin-configuration";
/// Pause before servers that could not be joined are tried again.
const RETRY_INTERVAL: &str = "5s";
/// After this a machine that died without a word is no member of gossip any more, instead of after
/// Consul's three days: another machine takes its place within minutes. One that is back later joins again.
const FORGOTTEN_AFTER: &str = "1h";

/// What the client is to be told.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) join: &'a ConsulJoin,
    pub(super) provision: &'a Provision,
    /// The machine's own address.
    pub(super) address: IpAddr,
    /// The loopback address of its DNS.
    pub(super) loopback: IpAddr,
    /// Where all of it lies.
    pub(super) directory: &'a Path,
    /// Lets the agent, and nobody else, have the client read its configuration anew.
    pub(super) recovery: &'a Secret,
}

/// A configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Configuration {
    /// The file's content.
    json: Vec<u8>,
    /// The CA's certificates; empty where there is no TLS.
    ca_pem: String,
    directory: PathBuf,
    /// Of all of it.
    pub(super) hash: String,
    /// Of what a client takes over only at its start.
    pub(super) start_hash: String,
}

/// Where the HTTP API of the client is.
pub(super) fn http_address(loopback: IpAddr) -> String {
    format!("http://{}", SocketAddr::new(loopback, HTTP_PORT))
}

/// The directory of the client, in the agent's state.
pub(super) fn directory(state: &Path) -> PathBuf {
    state.join("consul")
}

/// What the client keeps itself.
pub(super) fn data_directory(directory: &Path) -> PathBuf {
    directory.join("data")
}

/// The file that the client is started with.
pub(super) fn file(directory: &Path) -> PathBuf {
    directory.join("config.json")
}

impl Wanted<'_> {
    /// Writes the configuration.
    pub(super) fn configuration(&self) -> Configuration {
        // A client asks for its certificate at its start. One of servers that lost all their data, and so
        // of another authority, is refused by those that there are now, and asks for no other.
        let start_hash = hash(&format!("{}{}", self.fixed(), self.join.trust_domain));
        let mut whole = self.fixed();
        let changing = self.changing();
        let all = format!("{whole}{changing}{}", self.join.ca_pem);
        let hash = hash(&all);
        merge(&mut whole, changing);
        merge(&mut whole, json!({ "node_meta": { CONFIGURATION: hash } }));
        Configuration {
            json: format!("{whole:#}\n").into_bytes(),
            ca_pem: self.join.ca_pem.clone(),
            directory: self.directory.to_owned(),
            hash,
            start_hash,
        }
    }

    /// What a running client does not take over.
    fn fixed(&self) -> Value {
        let join = self.join;
        let mut fixed = json!({
            "datacenter": join.datacenter.as_str(),
            "domain": join.domain,
            "node_name": join.node,
            // The same after its data are lost: the servers refuse another node of the same name.
            "node_id": node_id(&join.node, join.datacenter.as_str()),
            "data_dir": data_directory(self.directory),
            "bind_addr": self.address.to_string(),
            "client_addr": self.loopback.to_string(),
            "ports": {
                "http": HTTP_PORT, "dns": DNS_PORT, "https": -1, "grpc": -1, "grpc_tls": -1,
            },
            "disable_update_check": true,
            "disable_remote_exec": true,
            // SIGTERM leaves the datacenter, at the machine's end; SIGINT does not, at a restart.
            "leave_on_terminate": true,
            "skip_leave_on_interrupt": true,
            "advertise_reconnect_timeout": FORGOTTEN_AFTER,
            // Gossip's key is ours to keep: what is in this file counts at each start.
            "disable_keyring_file": true,
            // What does not fit into a datagram is said to be cut, so that the rest is asked for.
            "dns_config": { "enable_truncate": true },
            "log_level": "INFO",
        });
        if join.token.is_some() {
            let acl = json!({
                "enabled": true, "default_policy": "deny", "enable_token_persistence": false,
            });
            merge(&mut fixed, json!({ "acl": acl }));
        }
        if !join.ca_pem.is_empty() {
            let ca_file = self.directory.join("ca.pem");
            let tls = json!({
                "defaults": { "ca_file": ca_file, "verify_outgoing": true },
                "internal_rpc": { "verify_server_hostname": false },
            });
            // Its own certificate comes from the servers.
            merge(
                &mut fixed,
                json!({ "tls": tls, "auto_encrypt": { "tls": true } }),
            );
        }
        fixed
    }

    /// What it reads anew when it is told to, or needs only at its next start.
    fn changing(&self) -> Value {
        let join = self.join;
        let mut changing = json!({
            "retry_join": join.servers,
            "retry_interval": RETRY_INTERVAL,
            "node_meta": {
                registered::ENVIRONMENT: self.provision.environment.as_str(),
                registered::FLEET: self.provision.fleet.as_str(),
                registered::INSTANCE: self.provision.instance.as_str(),
            },
        });
        if let Some(key) = &join.gossip_key {
            merge(&mut changing, json!({ "encrypt": key.expose() }));
        }
        if let Some(token) = &join.token {
            // No `default`: whoever reaches the client over HTTP without a token of his own would be
            // the machine. DNS answers alone are given with it.
            let tokens = json!({
                "agent": token.expose(),
                "dns": token.expose(),
                "agent_recovery": self.recovery.expose(),
            });
            merge(&mut changing, json!({ "acl": { "tokens": tokens } }));
        }
        changing
    }
}

impl Configuration {
    /// Puts it on disk, unless it is there.
    pub(super) fn write(&self) -> Result<(), DiskError> {
        disk::make_private_dir(&self.directory)?;
        let ca = self.ca_pem.as_bytes();
        for (path, content) in [
            (self.directory.join("ca.pem"), ca),
            (file(&self.directory), &self.json[..]),
        ] {
            let limit = content.len() as u64;
            // What is larger is another one.
            let known = disk::read_bounded(&path, limit).ok().flatten();
            if known.as_deref() != Some(content) {
                disk::write_private(&path, content)?;
            }
        }
        Ok(())
    }
}

/// Adds to a value: objects are merged, everything else is replaced.
fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Object(Map::new())), value);
            }
        }
        (into, more) => *into = more,
    }
}

fn sha256(text: &str) -> [u8; 32] {
    let mut sum = [0; 32];
    // SHA-256 has 32 bytes.
    sum.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref());
    sum
}

/// A hash, short: it tells configurations apart, and protects nothing.
fn hash(text: &str) -> String {
    sha256(text)[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The id of a node that is always the same, as a UUID made from its name.
fn node_id(node: &str, datacenter: &str) -> String {
    let sum = sha256(&format!("calvin node {node} of {datacenter}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&sum[..16]);
    uuid::Builder::from_custom_bytes(bytes)
        .into_uuid()
        .to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn provision() -> Provision {
        let text = format!(
            "environment = \"build\"\ninstance = \"web-abcdefgh\"\nfleet = \"web\"\n\
             coordinators = [\"127.0.0.1:1\"]\ndomain = \"build.example\"\njoin_token = \"\"\n\
             ca_pem = \"\"\n[image]\ntag = \"web@1.0\"\ndigest = \"sha256:{}\"\n",
            "01".repeat(32)
        );
        Provision::parse("provision.toml", &text).unwrap()
    }

    fn join() -> ConsulJoin {
        ConsulJoin {
            datacenter: "build".parse().unwrap(),
            domain: "build.example".into(),
            servers: vec!["10.0.0.1:8301".into()],
            gossip_key: Some(Secret::new("gossip".into())),
            ca_pem: "pem".into(),
            node: "web-abcdefgh".into(),
            token: Some(Secret::new("token-1".into())),
            trust_domain: "one.consul".into(),
        }
    }

    fn configuration(directory: &Path, join: &ConsulJoin) -> Configuration {
        Wanted {
            join,
            provision: &provision(),
            address: "10.0.0.9".parse().unwrap(),
            loopback: "127.0.0.1".parse().unwrap(),
            directory,
            recovery: &Secret::new("recovery".into()),
        }
        .configuration()
    }

    #[test]
    fn everything_is_in_it_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("consul");
        configuration(&directory, &join()).write().unwrap();
        let path = file(&directory);
        let written: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for (pointer, value) in [
            ("/datacenter", json!("build")),
            ("/client_addr", json!("127.0.0.1")),
            ("/bind_addr", json!("10.0.0.9")),
            ("/retry_join/0", json!("10.0.0.1:8301")),
            ("/encrypt", json!("gossip")),
            ("/acl/tokens/agent", json!("token-1")),
            ("/acl/tokens/dns", json!("token-1")),
            ("/acl/enable_token_persistence", json!(false)),
            ("/auto_encrypt/tls", json!(true)),
            ("/tls/internal_rpc/verify_server_hostname", json!(false)),
            ("/node_meta/calvin-instance", json!("web-abcdefgh")),
            ("/leave_on_terminate", json!(true)),
        ] {
            assert_eq!(written.pointer(pointer), Some(&value), "{pointer}");
        }
        assert_eq!(written.pointer("/acl/tokens/default"), None);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            std::fs::read_to_string(directory.join("ca.pem")).unwrap(),
            "pem"
        );
    }

    #[test]
    fn without_acl_and_tls_nothing_of_them_is_in_it() {
        let mut join = join();
        (join.token, join.gossip_key) = (None, None);
        join.ca_pem.clear();
        let dir = tempfile::tempdir().unwrap();
        let configuration = configuration(dir.path(), &join);
        let written: Value = serde_json::from_slice(&configuration.json).unwrap();
        for key in ["acl", "tls", "auto_encrypt", "encrypt"] {
            assert!(written.get(key).is_none(), "{key}");
        }
    }

    #[test]
    fn what_a_running_client_takes_over_is_no_reason_to_start_it_again() {
        let directory = Path::new("/m");
        let before = configuration(directory, &join());
        let mut rotated = join();
        rotated.token = Some(Secret::new("token-2".into()));
        rotated.servers.push("10.0.0.2:8301".into());
        rotated.ca_pem = "pem2".into();
        let after = configuration(directory, &rotated);
        assert_eq!(after.start_hash, before.start_hash);
        assert_ne!(after.hash, before.hash);
        let (mut moved, mut begun_anew) = (join(), join());
        moved.domain = "other.example".into();
        begun_anew.trust_domain = "two.consul".into();
        for other in [moved, begun_anew] {
            let start_hash = configuration(directory, &other).start_hash;
            assert_ne!(start_hash, before.start_hash);
        }
    }

    #[test]
    fn a_node_has_one_id_for_ever() {
        let id = node_id("web-abcdefgh", "build");
        assert_eq!(id, node_id("web-abcdefgh", "build"));
        assert_ne!(id, node_id("web-abcdefgh", "other"));
        assert_eq!(id.len(), 36);
    }
}
