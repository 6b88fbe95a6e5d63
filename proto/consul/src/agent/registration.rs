//! What is registered with a Consul agent: a service with its checks.
//!
//! Field names are those of the documentation's "Register Service" and "Register Check". What Consul
//! has and is not here (proxies, gateways, connect) is not ours to register.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde::Serialize;

use crate::{
    catalog::{TaggedAddress, Weights},
    health::CheckStatus,
    names::{
        ID_MAX, InvalidName, Problem, check_id, check_meta, check_service, check_tags, check_text,
    },
    query::go_duration,
};

/// Shortest interval of a check; Consul takes less for one second.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Highest weight in a DNS SRV answer (16 bits).
const WEIGHT_MAX: u32 = 65_535;

/// A service to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRegistration {
    /// Unique on the node.
    pub id: String,
    /// The name that clients look up: one that DNS can say.
    pub name: String,
    /// Its tags. With `enable_tag_override`, those of the catalogue win until this service is
    /// registered again: then register the tags just read.
    pub tags: Vec<String>,
    /// Its address; the node's where it is empty.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Its meta.
    pub meta: BTreeMap<String, String>,
    /// Addresses for others: `lan`, `wan`, `lan_ipv4` and so on.
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// Weights in DNS.
    pub weights: Weights,
    /// Whether tags changed in the catalogue hold against this registration.
    pub enable_tag_override: bool,
    /// Its checks.
    pub checks: Vec<CheckRegistration>,
}

/// A check to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRegistration {
    /// Unique on the node.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// Why it is there, for people.
    pub notes: String,
    /// Its state until it first runs or is told. Consul's own default is critical.
    pub status: CheckStatus,
    /// How it is run.
    pub kind: CheckKind,
    /// Runs that must pass in a row before it passes. Zero is one. Consul's counters begin full
    /// (`NewStatusHandler`): the very first run decides alone.
    pub success_before_passing: u32,
    /// Runs that must fail in a row before it is critical. Zero is one; the first run decides alone.
    pub failures_before_critical: u32,
}

/// How a check is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// By Consul: a `GET` (or another method); 200 to 299 passes, 429 warns.
    Http {
        /// The URL.
        url: String,
        /// The method; `GET` where it is empty.
        method: String,
        /// Headers.
        headers: BTreeMap<String, Vec<String>>,
        /// Time between two runs.
        interval: Duration,
        /// Longest time of one run.
        timeout: Duration,
    },
    /// By Consul: a connection that is accepted passes.
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Time between two runs.
        interval: Duration,
        /// Longest time of one run.
        timeout: Duration,
    },
    /// By Consul: `grpc.health.v1`, `SERVING` passes.
    Grpc {
        /// Where.
        address: SocketAddr,
        /// The service asked after; all of the server where it is empty.
        service: String,
        /// Time between two runs.
        interval: Duration,
        /// Longest time of one run.
        timeout: Duration,
    },
    /// By whoever registered it, who says its state; critical when he has said nothing for so long.
    Ttl {
        /// How long a word holds.
        ttl: Duration,
    },
}

fn bad(kind: &'static str, text: &str, says: &'static str) -> InvalidName {
    InvalidName {
        kind,
        text: text.to_owned(),
        problem: Problem::Rule(says),
    }
}

impl ServiceRegistration {
    /// Whether all of it can be sent.
    ///
    /// # Errors
    /// The first name, tag, meta or number that cannot.
    pub fn check(&self) -> Result<(), InvalidName> {
        check_id("service id", &self.id)?;
        check_service(&self.name)?;
        check_tags(&self.tags)?;
        check_meta(&self.meta)?;
        if !self.address.is_empty() {
            check_id("address", &self.address)?;
        }
        for (name, tagged) in &self.tagged_addresses {
            check_id("name of a tagged address", name)?;
            check_id("tagged address", &tagged.address)?;
        }
        let weights = self.weights;
        if weights.passing == 0 || weights.passing.max(weights.warning) > WEIGHT_MAX {
            let text = format!("{} and {}", weights.passing, weights.warning);
            return Err(bad(
                "weights",
                &text,
                "must be from 1 (warning: 0) to 65535",
            ));
        }
        for (index, check) in self.checks.iter().enumerate() {
            check.check()?;
            if self.checks[..index]
                .iter()
                .any(|other| other.id == check.id)
            {
                return Err(bad("check id", &check.id, "is there twice"));
            }
        }
        Ok(())
    }

    pub(crate) fn wire(&self) -> impl Serialize {
        ServiceWire {
            id: &self.id,
            name: &self.name,
            tags: &self.tags,
            address: &self.address,
            port: self.port,
            meta: &self.meta,
            tagged_addresses: &self.tagged_addresses,
            weights: self.weights,
            enable_tag_override: self.enable_tag_override,
            checks: self.checks.iter().map(|check| check.wire()).collect(),
        }
    }
}

impl CheckRegistration {
    /// Whether all of it can be sent.
    ///
    /// # Errors
    /// The first name, text or number that cannot.
    pub fn check(&self) -> Result<(), InvalidName> {
        check_id("check id", &self.id)?;
        check_text("check name", &self.name)?;
        check_text("notes", &self.notes)?;
        let (interval, timeout) = match &self.kind {
            CheckKind::Http {
                url,
                method,
                headers,
                interval,
                timeout,
            } => {
                let plain = url.bytes().all(|byte| byte.is_ascii_graphic());
                let scheme = url.starts_with("http://") || url.starts_with("https://");
                if !plain || !scheme || url.len() > ID_MAX * 8 {
                    return Err(bad(
                        "url",
                        url,
                        "is not an http or https URL of visible ASCII",
                    ));
                }
                if !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
                    return Err(bad("method", method, "is not an HTTP method"));
                }
                check_headers(headers)?;
                (*interval, *timeout)
            }
            CheckKind::Tcp {
                interval, timeout, ..
            } => (*interval, *timeout),
            CheckKind::Grpc {
                service,
                interval,
                timeout,
                ..
            } => {
                if !service.is_empty() {
                    check_id("gRPC service", service)?;
                }
                (*interval, *timeout)
            }
            CheckKind::Ttl { ttl } => (*ttl, *ttl),
        };
        if interval < INTERVAL_MIN || timeout.is_zero() {
            let text = format!("{interval:?}, {timeout:?}");
            let says = "must be at least a second, and its timeout more than nothing";
            return Err(bad("interval of a check", &text, says));
        }
        Ok(())
    }

    /// As it is registered alone: there its id has another name, and the other one is refused.
    pub(crate) fn wire_alone<'a>(&'a self, service_id: Option<&'a str>) -> CheckWire<'a> {
        CheckWire {
            check_id: None,
            id: Some(&self.id),
            service_id,
            ..self.wire()
        }
    }

    /// As it is registered with its service.
    fn wire(&self) -> CheckWire<'_> {
        let mut wire = CheckWire {
            check_id: Some(&self.id),
            name: &self.name,
            notes: &self.notes,
            status: self.status,
            success_before_passing: self.success_before_passing,
            failures_before_critical: self.failures_before_critical,
            ..CheckWire::empty()
        };
        let (interval, timeout) = match &self.kind {
            CheckKind::Http {
                url,
                method,
                headers,
                interval,
                timeout,
            } => {
                wire.http = Some(url);
                wire.method = Some(method.as_str()).filter(|method| !method.is_empty());
                wire.header = Some(headers).filter(|headers| !headers.is_empty());
                (interval, timeout)
            }
            CheckKind::Tcp {
                address,
                interval,
                timeout,
            } => {
                wire.tcp = Some(address.to_string());
                (interval, timeout)
            }
            CheckKind::Grpc {
                address,
                service,
                interval,
                timeout,
            } => {
                wire.grpc = Some(if service.is_empty() {
                    address.to_string()
                } else {
                    format!("{address}/{service}")
                });
                (interval, timeout)
            }
            CheckKind::Ttl { ttl } => {
                wire.ttl = Some(go_duration(*ttl));
                return wire;
            }
        };
        wire.interval = Some(go_duration(*interval));
        wire.timeout = Some(go_duration(*timeout));
        wire
    }
}

fn check_headers(headers: &BTreeMap<String, Vec<String>>) -> Result<(), InvalidName> {
    for (name, values) in headers {
        if http::HeaderName::try_from(name.as_str()).is_err() {
            return Err(bad("header", name, "is not the name of an HTTP header"));
        }
        for value in values {
            if http::HeaderValue::try_from(value.as_str()).is_err() {
                return Err(bad(
                    "header",
                    name,
                    "has a value that no HTTP header may have",
                ));
            }
        }
    }
    Ok(())
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceWire<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    name: &'a str,
    tags: &'a [String],
    address: &'a str,
    port: u16,
    meta: &'a BTreeMap<String, String>,
    tagged_addresses: &'a BTreeMap<String, TaggedAddress>,
    weights: Weights,
    enable_tag_override: bool,
    checks: Vec<CheckWire<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CheckWire<'a> {
    #[serde(rename = "CheckID", skip_serializing_if = "Option::is_none")]
    check_id: Option<&'a str>,
    #[serde(rename = "ID", skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "ServiceID", skip_serializing_if = "Option::is_none")]
    service_id: Option<&'a str>,
    name: &'a str,
    notes: &'a str,
    status: CheckStatus,
    success_before_passing: u32,
    failures_before_critical: u32,
    #[serde(rename = "HTTP", skip_serializing_if = "Option::is_none")]
    http: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<&'a BTreeMap<String, Vec<String>>>,
    #[serde(rename = "TCP", skip_serializing_if = "Option::is_none")]
    tcp: Option<String>,
    #[serde(rename = "GRPC", skip_serializing_if = "Option::is_none")]
    grpc: Option<String>,
    #[serde(rename = "TTL", skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
}

impl CheckWire<'_> {
    fn empty() -> Self {
        CheckWire {
            check_id: None,
            id: None,
            service_id: None,
            name: "",
            notes: "",
            status: CheckStatus::Critical,
            success_before_passing: 0,
            failures_before_critical: 0,
            http: None,
            method: None,
            header: None,
            tcp: None,
            grpc: None,
            ttl: None,
            interval: None,
            timeout: None,
        }
    }
}
