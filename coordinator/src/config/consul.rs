//! `[consul]` of `calvin.toml`: how the coordinator reaches Consul, and what machines are told of it.
//! Secrets stand in files of their own, which are read again when they change.

use std::{
    io,
    path::{Path, PathBuf},
};

use calvin_consul::Address;
use calvin_model::HumanDuration;
use calvin_proto::limits::{CONSUL_SERVER_BYTES, CONSUL_SERVERS};
use serde::{Deserialize, Serialize};

use super::{CatalogueKind, within};

/// How Consul is reached, and what machines are told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsulConfig {
    /// The Consul agent or server that the coordinator asks.
    #[serde(default = "default_address")]
    pub address: String,
    /// Where machines find Consul's servers: host and serf port.
    pub servers: Vec<String>,
    /// File with the coordinator's ACL token. Without it the datacenter has no ACL, and machines get
    /// no token either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// File with the CA of Consul's servers, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// File with the coordinator's own certificate, PEM, where Consul wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// File with its private key, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The name in the certificate of the Consul that is asked, where that is not the host of
    /// `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// File with the key of the gossip, base64, where it is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gossip_key_file: Option<PathBuf>,
    /// Longest time for one request.
    #[serde(default = "default_timeout")]
    pub timeout: HumanDuration,
}

fn default_address() -> String {
    "http://127.0.0.1:8500".to_owned()
}

fn default_timeout() -> HumanDuration {
    HumanDuration::from_secs(5)
}

/// Below, a busy server would look like one that is gone; above, the lock could be lost while one
/// request is waited for.
const TIMEOUT: [HumanDuration; 2] = [
    HumanDuration::from_millis(500),
    HumanDuration::from_secs(10),
];

impl ConsulConfig {
    /// Every file that it names.
    fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [
            &mut self.token_file,
            &mut self.ca_file,
            &mut self.certificate_file,
            &mut self.key_file,
            &mut self.gossip_key_file,
        ]
        .into_iter()
        .flatten()
    }

    /// Takes relative paths from the directory of the file that they stand in.
    pub(super) fn place<E>(
        &mut self,
        from_here: impl Fn(&Path) -> Result<PathBuf, E>,
    ) -> Result<(), E> {
        for file in self.files() {
            *file = from_here(file)?;
        }
        Ok(())
    }

    /// The first key that is wrong, and why.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let address: Result<Address, _> = self.address.parse();
        address.map_err(|error| ("address", error.to_string()))?;
        within("timeout", self.timeout, TIMEOUT)?;
        if self.servers.is_empty() || self.servers.len() > CONSUL_SERVERS {
            let message = format!(
                "consul.servers must name from 1 to {CONSUL_SERVERS} servers, which machines join"
            );
            return Err(("servers", message));
        }
        for server in &self.servers {
            if let Some(why) = server_fault(server) {
                return Err(("servers", format!("{server:?} of consul.servers {why}")));
            }
        }
        match (&self.certificate_file, &self.key_file) {
            (Some(_), None) => Err((
                "certificate_file",
                "consul.certificate_file needs consul.key_file beside it".to_owned(),
            )),
            (None, Some(_)) => Err((
                "key_file",
                "consul.key_file needs consul.certificate_file beside it".to_owned(),
            )),
            (Some(_), Some(_)) | (None, None) => self.check_tls(),
        }
    }

    fn check_tls(&self) -> Result<(), (&'static str, String)> {
        if self.ca_file.is_some() {
            return Ok(());
        }
        if self.address.starts_with("https:") {
            let message = "an https address needs consul.ca_file: no public authority is trusted";
            return Err(("address", message.to_owned()));
        }
        if self.certificate_file.is_some() {
            let message = "consul.certificate_file needs consul.ca_file beside it";
            return Err(("certificate_file", message.to_owned()));
        }
        Ok(())
    }
}

fn server_fault(server: &str) -> Option<&'static str> {
    let Some((host, port)) = server.rsplit_once(':') else {
        return Some("names no port: write HOST:PORT with the port of serf, such as :8301");
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    if host.is_empty() || server.len() > CONSUL_SERVER_BYTES || !host.chars().all(plain) {
        return Some("is no host with a port");
    }
    (!port.parse::<u16>().is_ok_and(|port| port > 0)).then_some("has no port from 1 to 65535")
}

/// Whether the kind of catalogue and the section agree.
pub(super) fn check_kind(
    kind: CatalogueKind,
    consul: Option<&ConsulConfig>,
) -> Result<(), (&'static str, String)> {
    match (kind, consul) {
        (CatalogueKind::Embedded, None) => Ok(()),
        (CatalogueKind::Consul, Some(consul)) => consul.check(),
        (CatalogueKind::Consul, None) => Err((
            "catalogue.kind",
            "catalogue.kind = \"consul\" needs a section [consul] with at least servers = [\"HOST:8301\"]"
                .to_owned(),
        )),
        (CatalogueKind::Embedded, Some(_)) => Err((
            "consul",
            "there is a section [consul], but catalogue.kind is \"embedded\": write kind = \"consul\" under [catalogue], or leave the section out"
                .to_owned(),
        )),
    }
}

/// Reads one of the files, without the line break at its end.
///
/// # Errors
/// It cannot be read.
pub fn read_text(path: &Path) -> io::Result<String> {
    Ok(std::fs::read_to_string(path)?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServeConfig;

    const LEAST: &str = "environment = \"prod\"\ndata = \"data\"\n[agents]\nlisten = \"127.0.0.1:7701\"\n\
        [provider.process]\nnetwork = \"127.77.0.0/16\"\n[catalogue]\nkind = \"consul\"\n";

    fn refusal(text: &str) -> String {
        ServeConfig::parse("calvin.toml", text)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn of_consul_only_its_servers_must_be_written() {
        let text = format!("{LEAST}[consul]\nservers = [\"10.0.0.1:8301\", \"[fd00::1]:8301\"]\n");
        let config = ServeConfig::parse("calvin.toml", &text).unwrap();
        let consul = config.consul.clone().unwrap();
        assert_eq!(consul.address, "http://127.0.0.1:8500");
        assert_eq!(consul.timeout, HumanDuration::from_secs(5));
        let written = toml::to_string(&config).unwrap();
        assert_eq!(ServeConfig::parse("calvin.toml", &written).unwrap(), config);
    }

    #[test]
    fn kind_and_section_are_refused_without_each_other_with_both_keys() {
        let message = refusal(LEAST);
        assert!(
            message.contains("catalogue.kind") && message.contains("[consul]"),
            "{message}"
        );
        assert!(message.contains("calvin.toml:8:"), "{message}");
        let embedded = LEAST.replace("\"consul\"", "\"embedded\"");
        let message = refusal(&format!("{embedded}[consul]\nservers = [\"a:8301\"]\n"));
        assert!(
            message.contains("catalogue.kind") && message.contains("[consul]"),
            "{message}"
        );
    }

    #[test]
    fn what_is_wrong_with_consul_is_said_with_its_place() {
        let servers = "servers = [\"a:8301\"]\n";
        for (section, expected) in [
            ("", "missing field `servers`"),
            ("servers = []\n", "from 1 to 32 servers"),
            ("servers = [\"a\"]\n", "names no port"),
            ("servers = [\"a:0\"]\n", "no port from 1 to 65535"),
            ("servers = [\"a b:1\"]\n", "no host with a port"),
            (
                &format!("{servers}address = \"127.0.0.1:8500\"\n"),
                "http://HOST:PORT",
            ),
            (
                &format!("{servers}address = \"https://a:8501\"\n"),
                "needs consul.ca_file",
            ),
            (
                &format!("{servers}certificate_file = \"c\"\n"),
                "needs consul.key_file",
            ),
            (
                &format!("{servers}key_file = \"k\"\n"),
                "needs consul.certificate_file",
            ),
            (
                &format!("{servers}certificate_file = \"c\"\nkey_file = \"k\"\n"),
                "needs consul.ca_file",
            ),
            (
                &format!("{servers}timeout = \"1m\"\n"),
                "timeout 1m must be from 500ms to 10s",
            ),
            (
                &format!("{servers}token = \"secret\"\n"),
                "unknown field `token`",
            ),
        ] {
            let message = refusal(&format!("{LEAST}[consul]\n{section}"));
            assert!(message.contains(expected), "{expected}: {message}");
        }
    }

    #[test]
    fn files_are_beside_the_one_that_names_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("calvin.toml");
        let text = format!(
            "{LEAST}[consul]\nservers = [\"a:8301\"]\ntoken_file = \"token\"\nca_file = \"/etc/ca.pem\"\n"
        );
        std::fs::write(&file, text).unwrap();
        let consul = ServeConfig::load(&file).unwrap().consul.unwrap();
        assert_eq!(consul.token_file.unwrap(), dir.path().join("token"));
        assert_eq!(consul.ca_file.unwrap(), Path::new("/etc/ca.pem"));
    }
}
