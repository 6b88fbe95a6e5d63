//! `calvin.toml`: the coordinator itself, written by the operator of the environment.

mod consul;
mod dev;
mod network;

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use calvin_model::{
    ConfigError, EnvironmentName, HumanDuration, LimitName, ZoneName, fleet::BudgetPolicy,
    parse_toml,
};
use calvin_planner::{EnvironmentRules, ProviderRules};
use serde::{Deserialize, Serialize};

use crate::api::operator::PROCESS;

pub use consul::{ConsulConfig, read_text};
pub use dev::{DevError, dev, dev_directory};
pub use network::{Network, NetworkError};

/// The content of `calvin.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeConfig {
    /// The environment's name. It is in every certificate: it cannot be changed later.
    pub environment: EnvironmentName,
    /// Directory of the coordinator's state, its keys, its socket and its process machines.
    pub data: PathBuf,
    /// The DNS domain that agents answer, without a dot at its end.
    #[serde(default = "default_domain")]
    pub domain: String,
    /// What is logged: `error`, `warn`, `info`, `debug`, or a filter such as
    /// `info,calvin_engine=debug`.
    #[serde(default = "default_log")]
    pub log: String,
    /// How often agents report when nothing changes. What is older than three intervals is
    /// unknown.
    #[serde(default = "default_report_interval")]
    pub report_interval: HumanDuration,
    /// How long an instance's certificate is good. It is renewed long before.
    #[serde(default = "default_certificate_validity")]
    pub certificate_validity: HumanDuration,
    /// Where agents reach this coordinator.
    pub agents: AgentsConfig,
    /// Where operators reach it; over its socket alone if absent.
    pub operators: Option<ListenConfig>,
    /// Where `/healthz` and `/readyz` answer; nowhere if absent.
    pub http: Option<ListenConfig>,
    /// Where clients look instances up.
    #[serde(default)]
    pub catalogue: CatalogueConfig,
    /// How Consul is reached, where that is the catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consul: Option<ConsulConfig>,
    /// What makes machines.
    pub provider: ProvidersConfig,
    /// How much there is of what instances use, such as licences or connections.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<LimitName, u32>,
    /// How much may change at once, over all fleets.
    #[serde(default)]
    pub budget: BudgetPolicy,
}

/// Where agents reach this coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentsConfig {
    /// Address and port of the listener.
    pub listen: SocketAddr,
    /// What machines are told to connect to, where that is not `listen`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advertise: Vec<SocketAddr>,
}

/// A listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenConfig {
    /// Its address and port.
    pub listen: SocketAddr,
}

/// Where clients look instances up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CatalogueConfig {
    /// Which catalogue.
    pub kind: CatalogueKind,
    /// How long clients may keep an answer.
    pub ttl: HumanDuration,
}

impl Default for CatalogueConfig {
    fn default() -> Self {
        Self {
            kind: CatalogueKind::Embedded,
            ttl: HumanDuration::from_secs(5),
        }
    }
}

/// The catalogues that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogueKind {
    /// Every agent answers DNS from snapshots that the coordinator publishes.
    Embedded,
    /// Consul: machines join it and are registered there.
    Consul,
}

/// What makes machines, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvidersConfig {
    /// Machines as process groups on this host.
    pub process: ProcessConfig,
}

/// Machines as process groups on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessConfig {
    /// The loopback addresses that machines get, such as `127.77.0.0/16`.
    pub network: Network,
    /// The agent's program; `calvin-agent` beside the running `calvin` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<PathBuf>,
    /// Zones that fleets may name; on one host they are only labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<ZoneName>,
}

fn default_domain() -> String {
    "calvin.internal".to_owned()
}

fn default_log() -> String {
    "info".to_owned()
}

fn default_report_interval() -> HumanDuration {
    HumanDuration::from_secs(2)
}

fn default_certificate_validity() -> HumanDuration {
    HumanDuration::from_secs(24 * 3_600)
}

/// Below, 10,000 agents would send more reports than a core takes; above, a lost machine is
/// noticed only after three of them.
const REPORT_INTERVAL: [HumanDuration; 2] = [
    HumanDuration::from_millis(100),
    HumanDuration::from_secs(60),
];
/// Below, an agent could not renew before the end; above, a lost key stays good for too long.
const CERTIFICATE_VALIDITY: [HumanDuration; 2] = [
    HumanDuration::from_secs(60),
    HumanDuration::from_secs(90 * 86_400),
];
/// DNS counts whole seconds; above, no switch would settle within an hour.
const TTL: [HumanDuration; 2] = [HumanDuration::from_secs(1), HumanDuration::from_secs(3_600)];
/// RFC 1035 section 2.3.4, less what an instance's name before it may take.
const DOMAIN_CHARACTERS: usize = 120;

/// Why `calvin.toml` is not taken.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What it says is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl ServeConfig {
    /// Reads the file at `path`. Relative paths in it are taken from its directory.
    ///
    /// # Errors
    /// The file cannot be read, or is refused with the place of what is wrong.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let text = fs::read_to_string(path).map_err(|source| LoadError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut config = Self::parse(&path.display().to_string(), &text)?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let from_here = |given: &Path| {
            std::path::absolute(directory.join(given)).map_err(|source| LoadError::Read {
                path: path.to_owned(),
                source,
            })
        };
        config.data = from_here(&config.data)?;
        if let Some(agent) = &mut config.provider.process.agent {
            *agent = from_here(agent)?;
        }
        if let Some(consul) = &mut config.consul {
            consul.place(from_here)?;
        }
        Ok(config)
    }

    /// Reads `calvin.toml`.
    ///
    /// # Errors
    /// What TOML, types, ranges or contradictions between keys refuse, with its place.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let config: Self = parse_toml(file, text)?;
        config
            .check()
            .map_err(|(key, message)| ConfigError::about(file, text, key, message))?;
        Ok(config)
    }

    /// What decisions rest on.
    #[must_use]
    pub fn rules(&self) -> EnvironmentRules {
        let process = ProviderRules {
            zones: self.provider.process.zones.clone(),
        };
        EnvironmentRules {
            providers: BTreeMap::from([(PROCESS.to_owned(), process)]),
            limits: self.limits.clone(),
            budget: self.budget.clone(),
        }
    }

    /// What machines are told to connect to, once the listener is bound to `bound`.
    #[must_use]
    pub fn advertised(&self, bound: SocketAddr) -> Vec<SocketAddr> {
        if self.agents.advertise.is_empty() {
            return vec![bound];
        }
        self.agents.advertise.clone()
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        within("report_interval", self.report_interval, REPORT_INTERVAL)?;
        within(
            "certificate_validity",
            self.certificate_validity,
            CERTIFICATE_VALIDITY,
        )?;
        within("ttl", self.catalogue.ttl, TTL)?;
        consul::check_kind(self.catalogue.kind, self.consul.as_ref())?;
        if let Some(why) = domain_fault(&self.domain) {
            return Err(("domain", format!("domain {:?} {why}", self.domain)));
        }
        if self.agents.listen.ip().is_unspecified() && self.agents.advertise.is_empty() {
            let message = format!(
                "agents cannot connect to {}: name an address of this machine in agents.advertise",
                self.agents.listen
            );
            return Err(("listen", message));
        }
        Ok(())
    }
}

fn within(
    key: &'static str,
    value: HumanDuration,
    [least, most]: [HumanDuration; 2],
) -> Result<(), (&'static str, String)> {
    if value < least || value > most {
        let message = format!("{key} {value} must be from {least} to {most}");
        return Err((key, message));
    }
    Ok(())
}

fn domain_fault(domain: &str) -> Option<&'static str> {
    if domain.len() > DOMAIN_CHARACTERS {
        return Some("has more than 120 characters");
    }
    let label = |label: &str| {
        let inner = label
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        inner
            && !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (!domain.split('.').all(label))
        .then_some("is no DNS domain: labels of a-z, 0-9 and inner hyphens with dots between them")
}

#[cfg(test)]
mod tests;
