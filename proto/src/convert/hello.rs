//! The first message of each side, and what a client must trust.

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use calvin_model::{BootId, Digest, EnvironmentName, Epoch, Generation, Health, InstanceId, Role};

use super::{
    ConvertError, bounded_text, capabilities, check_size, duration, milliseconds, parse,
    report::{maybe_health, wire_health},
    wanted::{maybe_role, wire_role},
};
use crate::{limits, wire};

/// The first message of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Version of the agent, for people.
    pub version: String,
    /// The protocol versions that it speaks.
    pub protocol: RangeInclusive<u32>,
    /// What it can do beyond them.
    pub capabilities: Vec<String>,
    /// The machine's boot.
    pub boot: BootId,
    /// Build id baked into the image.
    pub build: Option<String>,
    /// Digest of the `image.toml` that it read.
    pub manifest: Digest,
    /// The highest epoch that it has seen.
    pub epoch_seen: Option<Epoch>,
    /// The highest generation that it has seen.
    pub generation_seen: Generation,
    /// Its environment.
    pub environment: EnvironmentName,
    /// The instance that it speaks for.
    pub instance: InstanceId,
    /// The machine's wall clock, milliseconds since 1970 UTC.
    pub wall_ms: u64,
    /// The role of the wanted state that it applied last.
    pub role_applied: Option<Role>,
    /// Its health in that role.
    pub health: Health,
}

impl TryFrom<wire::Hello> for Hello {
    type Error = ConvertError;

    fn try_from(hello: wire::Hello) -> Result<Self, ConvertError> {
        if hello.protocol_min > hello.protocol_max {
            return Err(ConvertError::Contradiction {
                field: "hello.protocol_min",
                problem: "above hello.protocol_max",
            });
        }
        let version = bounded_text("hello.version", hello.version, limits::VERSION_BYTES)?;
        let build = bounded_text("hello.build_id", hello.build_id, limits::BUILD_BYTES)?;
        Ok(Self {
            version,
            protocol: hello.protocol_min..=hello.protocol_max,
            capabilities: capabilities("hello.capabilities", hello.capabilities)?,
            boot: parse("hello.boot_id", &hello.boot_id)?,
            build: (!build.is_empty()).then_some(build),
            manifest: parse("hello.manifest_digest", &hello.manifest_digest)?,
            epoch_seen: hello.epoch_seen.map(TryInto::try_into).transpose()?,
            generation_seen: Generation(hello.generation_seen),
            environment: parse("hello.environment", &hello.environment)?,
            instance: parse("hello.instance", &hello.instance)?,
            wall_ms: hello.wall_ms,
            role_applied: maybe_role("hello.role_applied", hello.role_applied)?,
            health: maybe_health("hello.health", hello.health)?,
        })
    }
}

impl From<&Hello> for wire::Hello {
    fn from(hello: &Hello) -> Self {
        Self {
            version: hello.version.clone(),
            protocol_min: *hello.protocol.start(),
            protocol_max: *hello.protocol.end(),
            capabilities: hello.capabilities.clone(),
            boot_id: hello.boot.as_str().to_owned(),
            build_id: hello.build.clone().unwrap_or_default(),
            manifest_digest: hello.manifest.as_str().to_owned(),
            epoch_seen: hello.epoch_seen.as_ref().map(Into::into),
            generation_seen: hello.generation_seen.0,
            environment: hello.environment.as_str().to_owned(),
            instance: hello.instance.as_str().to_owned(),
            wall_ms: hello.wall_ms,
            role_applied: hello
                .role_applied
                .map_or(wire::Role::Unspecified, wire_role)
                .into(),
            health: wire_health(hello.health).into(),
        }
    }
}

/// The first message of a coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The protocol version of this session.
    pub protocol: u32,
    /// What the coordinator can do beyond it.
    pub capabilities: Vec<String>,
    /// Who speaks.
    pub epoch: Epoch,
    /// How often to report when nothing changes. Never zero.
    pub report_interval: Duration,
    /// The coordinator's wall clock, milliseconds since 1970 UTC.
    pub wall_ms: u64,
}

impl TryFrom<wire::Welcome> for Welcome {
    type Error = ConvertError;

    fn try_from(welcome: wire::Welcome) -> Result<Self, ConvertError> {
        let field = "welcome.epoch";
        let epoch = welcome.epoch.ok_or(ConvertError::Missing { field })?;
        let field = "welcome.report_interval_ms";
        if welcome.report_interval_ms == 0 {
            return Err(ConvertError::Unspecified { field });
        }
        Ok(Self {
            protocol: welcome.protocol,
            capabilities: capabilities("welcome.capabilities", welcome.capabilities)?,
            epoch: epoch.try_into()?,
            report_interval: duration(field, welcome.report_interval_ms)?,
            wall_ms: welcome.wall_ms,
        })
    }
}

impl From<&Welcome> for wire::Welcome {
    fn from(welcome: &Welcome) -> Self {
        Self {
            protocol: welcome.protocol,
            capabilities: welcome.capabilities.clone(),
            epoch: Some((&welcome.epoch).into()),
            report_interval_ms: milliseconds(welcome.report_interval).max(1),
            wall_ms: welcome.wall_ms,
        }
    }
}

/// Whom an agent is to trust, and where coordinators are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// Every CA certificate of the environment, PEM. What is in it is checked by who uses it.
    pub ca_pem: String,
    /// Every coordinator's agent listener. Never empty.
    pub coordinators: Vec<SocketAddr>,
}

impl TryFrom<wire::Trust> for Trust {
    type Error = ConvertError;

    fn try_from(trust: wire::Trust) -> Result<Self, ConvertError> {
        let field = "trust.coordinators";
        check_size(
            field,
            trust.coordinators.len(),
            "entries",
            limits::COORDINATORS,
        )?;
        if trust.coordinators.is_empty() {
            return Err(ConvertError::Missing { field });
        }
        let coordinators = trust
            .coordinators
            .iter()
            .map(|address| parse(field, address))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            ca_pem: bounded_text("trust.ca_pem", trust.ca_pem, limits::CA_PEM_BYTES)?,
            coordinators,
        })
    }
}

impl From<&Trust> for wire::Trust {
    fn from(trust: &Trust) -> Self {
        Self {
            ca_pem: trust.ca_pem.clone(),
            coordinators: trust
                .coordinators
                .iter()
                .map(SocketAddr::to_string)
                .collect(),
        }
    }
}
