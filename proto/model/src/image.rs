//! `image.toml`: what a machine made from an image *is*. Written by the image's author, baked in,
//! and the same in every environment.

mod rules;
mod variables;

use std::{collections::BTreeMap, fmt, net::SocketAddr, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    config::{ConfigError, parse_toml},
    duration::HumanDuration,
    id::{Digest, IdError},
    name::{ImageName, ImageVersion, ServiceName},
};

pub use variables::VARIABLES;

/// An image as people name it: `web@1.0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageTag {
    /// Its name.
    pub name: ImageName,
    /// Its version.
    pub version: ImageVersion,
}

impl FromStr for ImageTag {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (name, version) = text.split_once('@').ok_or_else(|| IdError::Image {
            text: text.chars().take(80).collect(),
        })?;
        Ok(Self {
            name: name.parse()?,
            version: version.parse()?,
        })
    }
}

impl TryFrom<String> for ImageTag {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<ImageTag> for String {
    fn from(tag: ImageTag) -> Self {
        tag.to_string()
    }
}

impl fmt::Display for ImageTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}@{}", self.name, self.version))
    }
}

/// An immutable build: name, version and the digest of its content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ImageRef {
    /// Name and version.
    pub tag: ImageTag,
    /// The hash of its content.
    pub digest: Digest,
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tag.fmt(f)
    }
}

/// The content of `image.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageManifest {
    /// The image's name.
    pub name: ImageName,
    /// Its version.
    pub version: ImageVersion,
    /// Random id of the build, baked in by who builds the image.
    pub build: Option<String>,
    /// Whether machines of it keep data that must outlive them.
    #[serde(default)]
    pub data: DataKind,
    /// The process that does the work. Without it the machine only reports.
    pub workload: Option<Workload>,
    /// What clients find it by.
    #[serde(default, rename = "service")]
    pub services: Vec<ServiceSpec>,
    /// What says whether it is healthy.
    #[serde(default, rename = "check")]
    pub checks: Vec<CheckSpec>,
    /// Commands run when the role changes.
    #[serde(default)]
    pub hooks: Hooks,
    /// What says how many voters a member of a quorum knows; needed by fleets of that kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<QuorumSpec>,
    /// Which servers of its environment a machine joins, where the environment has them. What those
    /// servers themselves are made from leaves them out.
    #[serde(default = "default_joins")]
    pub joins: Vec<Joins>,
    /// How its Consul client is run, or where one is that somebody else runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consul: Option<ConsulSpec>,
}

/// Servers that a machine may join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Joins {
    /// Consul: it is registered and found there.
    Consul,
    /// Vault: its secrets come from there.
    Vault,
}

fn default_joins() -> Vec<Joins> {
    vec![Joins::Consul, Joins::Vault]
}

/// A machine's Consul client: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsulSpec {
    /// The program that the agent has run, with the configuration that it writes. A program with a
    /// slash is taken from the image's directory. `consul` where there is no `[consul]`.
    pub program: Option<String>,
    /// `http://HOST:PORT` of one that runs already, on the machine's own loopback address.
    pub address: Option<String>,
}

/// Whether machines keep data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataKind {
    /// Nothing that matters is on the machine.
    #[default]
    None,
    /// A volume must move to the successor. Refused at apply until a strategy for it exists.
    Volume,
}

/// The process that does the work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Program and arguments, without a shell. A program with a slash is taken from the image's
    /// directory. `${CALVIN_ADDRESS}`, `${CALVIN_INSTANCE}`, `${CALVIN_FLEET}`,
    /// `${CALVIN_ENVIRONMENT}`, `${CALVIN_DOMAIN}` and `${CALVIN_DNS}` are filled in; the same
    /// are in its environment.
    pub command: Vec<String>,
    /// More for its environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// When it may run.
    #[serde(default)]
    pub work: Work,
    /// How it is asked to stop.
    #[serde(default)]
    pub stop_signal: StopSignal,
    /// How long it may take to stop before its whole process group is killed.
    #[serde(default = "default_stop_timeout")]
    pub stop_timeout: HumanDuration,
    /// First pause before it is started again after it ended by itself; doubles up to
    /// `restart_max`, and starts anew after it ran for ten times `restart_max`.
    #[serde(default = "default_restart_min")]
    pub restart_min: HumanDuration,
    /// Longest pause.
    #[serde(default = "default_restart_max")]
    pub restart_max: HumanDuration,
}

fn default_stop_timeout() -> HumanDuration {
    HumanDuration::from_secs(10)
}

fn default_restart_min() -> HumanDuration {
    HumanDuration::from_millis(500)
}

fn default_restart_max() -> HumanDuration {
    HumanDuration::from_secs(30)
}

/// When a workload may run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// From boot: clients come to it, and the catalogue decides who does.
    #[default]
    Boot,
    /// Only while active: it pulls its work, from a queue for instance.
    OnActive,
}

/// The signals that ask a process to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopSignal {
    /// Terminate.
    #[default]
    #[serde(rename = "SIGTERM")]
    Term,
    /// Interrupt.
    #[serde(rename = "SIGINT")]
    Int,
    /// Quit.
    #[serde(rename = "SIGQUIT")]
    Quit,
    /// Hang up.
    #[serde(rename = "SIGHUP")]
    Hup,
    /// First of the user's own.
    #[serde(rename = "SIGUSR1")]
    Usr1,
    /// Second of the user's own.
    #[serde(rename = "SIGUSR2")]
    Usr2,
}

/// What clients find an instance by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// The name.
    pub name: ServiceName,
    /// The port, on the instance's address.
    pub port: u16,
    /// Tags; `_<service>._<tag>` finds by them.
    #[serde(default)]
    pub tags: Vec<String>,
    /// More tags while active only, for proxies that route by tags. Consul alone knows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags_active: Vec<String>,
    /// Who is found under the service's own name, without a tag.
    #[serde(default, skip_serializing_if = "Untagged::is_default")]
    pub untagged: Untagged,
    /// What Consul keeps beside it; keys that begin with `calvin-` are ours.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// How much of the traffic it gets beside others, as Consul's DNS (SRV) tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightsSpec>,
    /// Other addresses of it, by what they are for, such as `wan`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tagged_addresses: BTreeMap<String, SocketAddr>,
}

/// Who is found under a service's own name, without a tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Untagged {
    /// Those that were proven: from just before they become active on. Others are found as
    /// `<service>-standby` only.
    #[default]
    Proven,
    /// All, also before they were ever active.
    All,
}

impl Untagged {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The weights of a service, by the state of its checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsSpec {
    /// While they pass, 1 to 65535.
    pub passing: u16,
    /// While one warns, 0 to 65535.
    pub warning: u16,
}

/// What says whether an instance is healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckSpec {
    /// Its name, unique in the image.
    pub name: String,
    /// HTTP: `GET` of this path; 200 to 299 passes. Needs `port`.
    pub http: Option<String>,
    /// Another method for it than `GET`; sent without a body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Headers to send with it. They are no secrets: whoever may read the image or Consul's checks sees
    /// them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// TCP: a connection to `port` that is accepted passes.
    #[serde(default)]
    pub tcp: bool,
    /// gRPC: this service is asked after by `grpc.health.v1`, without TLS, and `SERVING` passes; empty
    /// asks after the server as a whole. Needs `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<String>,
    /// Exec: a command, without a shell; exit code 0 passes.
    pub exec: Option<Vec<String>>,
    /// The port of http, tcp and grpc checks, on the instance's address.
    pub port: Option<u16>,
    /// Time from one run to the next.
    #[serde(default = "default_check_interval")]
    pub interval: HumanDuration,
    /// Time after which a run counts as failed and is ended, with all its children.
    #[serde(default = "default_check_timeout")]
    pub timeout: HumanDuration,
    /// Runs that must pass in a row before a failing check passes.
    #[serde(default = "default_rise")]
    pub rise: NonZeroU32,
    /// Runs that must fail in a row before a passing check fails.
    #[serde(default = "default_fall")]
    pub fall: NonZeroU32,
    /// In which roles it counts.
    #[serde(default)]
    pub when: CheckWhen,
}

fn default_check_interval() -> HumanDuration {
    HumanDuration::from_secs(5)
}

fn default_check_timeout() -> HumanDuration {
    HumanDuration::from_secs(2)
}

fn default_rise() -> NonZeroU32 {
    NonZeroU32::MIN
}

fn default_fall() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(1)
}

/// In which roles a check counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckWhen {
    /// In every role.
    #[default]
    Always,
    /// As standby only.
    Standby,
    /// While active or draining only.
    Active,
}

/// Commands run when the role changes, without a shell, in the image's directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    /// After it became standby.
    pub standby: Option<Vec<String>>,
    /// Before it counts as active.
    pub active: Option<Vec<String>>,
    /// When it is told to drain. Its end with exit code 0 says that nothing is left.
    pub drain: Option<Vec<String>>,
    /// Before its workload is stopped for good.
    pub retire: Option<Vec<String>>,
    /// Time after which a hook is ended, with all its children. Draining has its own.
    #[serde(default = "default_hook_timeout")]
    pub timeout: HumanDuration,
}

/// The command that says what a member of a quorum knows of its voters: it ends with exit code 0 and
/// writes `voters=3`, `needed=2`, `leader=false` and `caught_up=true`, a line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuorumSpec {
    /// Program and arguments, without a shell, as for an exec check.
    pub exec: Vec<String>,
    /// Time from one run to the next.
    #[serde(default = "default_check_interval")]
    pub interval: HumanDuration,
    /// Time after which a run counts as failed and is ended, with all its children.
    #[serde(default = "default_check_timeout")]
    pub timeout: HumanDuration,
}

/// Longest interval and longest timeout of the quorum's command: what is older than three intervals
/// and a timeout is unknown, and a minute-old word about voters is worth nothing.
pub const QUORUM_LONGEST: HumanDuration = HumanDuration::from_secs(15);

fn default_hook_timeout() -> HumanDuration {
    HumanDuration::from_secs(30)
}

/// The method of an HTTP check that names none.
pub const GET: &str = "GET";

/// The ways to check, with what each needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind<'a> {
    /// Ask for this path on this port.
    Http {
        /// The path.
        path: &'a str,
        /// The port.
        port: u16,
        /// The method; `GET` where the image names none.
        method: &'a str,
        /// The image's headers.
        headers: &'a BTreeMap<String, String>,
    },
    /// Connect to this port.
    Tcp {
        /// The port.
        port: u16,
    },
    /// Ask after this service by `grpc.health.v1` on this port.
    Grpc {
        /// The service; empty for the server as a whole.
        service: &'a str,
        /// The port.
        port: u16,
    },
    /// Run this command.
    Exec {
        /// Program and arguments.
        command: &'a [String],
    },
}

impl CheckSpec {
    /// Which of the ways this check takes; `None` when it names none, two, or lacks its port.
    /// Never `None` in a manifest that was parsed.
    #[must_use]
    pub fn kind(&self) -> Option<CheckKind<'_>> {
        match (&self.http, self.tcp, &self.grpc, &self.exec, self.port) {
            (Some(path), false, None, None, Some(port)) => Some(CheckKind::Http {
                path,
                port,
                method: self.method.as_deref().unwrap_or(GET),
                headers: &self.headers,
            }),
            (None, true, None, None, Some(port)) => Some(CheckKind::Tcp { port }),
            (None, false, Some(service), None, Some(port)) => {
                Some(CheckKind::Grpc { service, port })
            }
            (None, false, None, Some(command), None) if !command.is_empty() => {
                Some(CheckKind::Exec { command })
            }
            _ => None,
        }
    }
}

impl ImageManifest {
    /// Reads `image.toml`.
    ///
    /// # Errors
    /// What TOML, types or the image's own rules refuse, with its place.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let manifest: Self = parse_toml(file, text)?;
        manifest
            .check()
            .map_err(|(key, message)| ConfigError::about(file, text, key, message))?;
        Ok(manifest)
    }

    /// Whether a machine of it joins Consul, where its environment has one.
    #[must_use]
    pub fn joins_consul(&self) -> bool {
        self.joins.contains(&Joins::Consul)
    }

    /// Name and version.
    #[must_use]
    pub fn tag(&self) -> ImageTag {
        ImageTag {
            name: self.name.clone(),
            version: self.version.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
