//! What an image says for Consul: its limits, and the words that are ours there.
//!
//! Consul itself takes nearly everything, and refuses the rest only when a machine registers: minutes
//! after somebody could have mended the file. So its limits are kept here (names as in Consul's
//! sources), as calvin-consul keeps them for what it sends.

use std::net::{IpAddr, SocketAddr};

use super::Fault;
use crate::{
    image::{ConsulSpec, ImageManifest, ServiceSpec},
    name::ServiceName,
};

/// The tag of whoever is active.
const ACTIVE: &str = "active";
/// The tag of whoever is not, or not yet.
const STANDBY: &str = "standby";
/// What our keys of meta begin with.
const OURS: &str = "calvin-";

/// Longest tag. Consul names no limit; proxies that route by tag prefix put a path and options into it.
const TAG_MAX: usize = 255;
/// Most tags of one service beside the role's own, which makes 64. Consul names no limit; every answer
/// about the service carries all of them.
const TAGS_MAX: usize = 63;
/// Most pairs of meta: Consul's 64 (`metaMaxKeyPairs`) less ours, which are environment, fleet,
/// instance, image and boot.
const META_PAIRS_MAX: usize = 64 - 5;
/// Longest key of meta (Consul's `metaKeyMaxLength`).
const META_KEY_MAX: usize = 128;
/// Longest value of meta (Consul's `metaValueMaxLength`).
const META_VALUE_MAX: usize = 512;
/// Most tagged addresses of one service. Consul names no limit; it fills in four by itself.
const ADDRESSES_MAX: usize = 16;
/// Longest name of a tagged address: as long as ids may be.
const ADDRESS_NAME_MAX: usize = 255;
/// Names of tagged addresses that Consul's mesh fills in (`TaggedAddressVirtualIP`).
const ADDRESSES_OF_CONSUL: [&str; 2] = ["virtual", "consul-virtual"];
/// Characters shown of a text that is far too long.
const SHOWN_CHARACTERS: usize = 80;

/// Whatever is wrong with what a service says for Consul.
pub(super) fn check_service(service: &ServiceSpec) -> Result<(), Fault> {
    check_tags(service)?;
    check_meta(service)?;
    check_addresses(service)?;
    let Some(weights) = service.weights else {
        return Ok(());
    };
    if weights.passing == 0 {
        return Err((
            "passing",
            format!(
                "service {}: the weight while its checks pass is from 1 to 65535",
                service.name
            ),
        ));
    }
    Ok(())
}

fn check_tags(service: &ServiceSpec) -> Result<(), Fault> {
    let name = &service.name;
    let both = [
        ("tags", &service.tags),
        ("tags_active", &service.tags_active),
    ];
    for (key, tags) in both {
        if let Some(tag) = tags
            .iter()
            .find(|tag| [ACTIVE, STANDBY].contains(&tag.as_str()))
        {
            let why = format!(
                "tag {tag:?} of service {name} tells the role of an instance, and is set with it"
            );
            return Err((key, why));
        }
    }
    for tag in &service.tags {
        if tag.parse::<ServiceName>().is_err() {
            let tag = shown(tag);
            return Err((
                "tags",
                format!("tag {tag:?} of service {name} cannot be a DNS label"),
            ));
        }
    }
    for tag in &service.tags_active {
        if let Some(why) = text_fault(tag, TAG_MAX).or_else(|| edge_fault(tag)) {
            let tag = shown(tag);
            return Err((
                "tags_active",
                format!("tag {tag:?} of service {name} {why}"),
            ));
        }
    }
    let count = service.tags.len() + service.tags_active.len();
    if count > TAGS_MAX {
        return Err((
            "tags",
            format!(
                "service {name} has {count} tags with tags_active, and at most {TAGS_MAX} are \
                 allowed beside that of its role"
            ),
        ));
    }
    Ok(())
}

fn check_meta(service: &ServiceSpec) -> Result<(), Fault> {
    let name = &service.name;
    let fault = |why: String| Err(("meta", format!("service {name}: {why}")));
    for (key, value) in &service.meta {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let quoted = shown(key);
        if key.is_empty() || key.len() > META_KEY_MAX || !key.chars().all(allowed) {
            return fault(format!(
                "the key {quoted:?} of its meta must be 1 to {META_KEY_MAX} of a-z, A-Z, 0-9, _ and -"
            ));
        }
        if key.starts_with(OURS) {
            return fault(format!(
                "the key {quoted:?} of its meta begins with {OURS}, as those that are set by the agent"
            ));
        }
        if key.starts_with("consul-") {
            return fault(format!(
                "the key {quoted:?} of its meta begins with consul-, which Consul keeps for itself"
            ));
        }
        if !value.is_empty()
            && let Some(why) = text_fault(value, META_VALUE_MAX)
        {
            return fault(format!("{quoted:?} of its meta {why}"));
        }
    }
    if service.meta.len() > META_PAIRS_MAX {
        let count = service.meta.len();
        return fault(format!(
            "its meta has {count} keys, and at most {META_PAIRS_MAX} are allowed beside those that \
             the agent sets"
        ));
    }
    Ok(())
}

fn check_addresses(service: &ServiceSpec) -> Result<(), Fault> {
    let name = &service.name;
    let fault = |why: String| Err(("tagged_addresses", format!("service {name}: {why}")));
    for (key, address) in &service.tagged_addresses {
        let quoted = shown(key);
        let odd = |c: char| c.is_control() || c.is_whitespace() || c == '/';
        if key.is_empty() || key.len() > ADDRESS_NAME_MAX || key.contains(odd) {
            return fault(format!(
                "the name {quoted:?} of an address must be 1 to {ADDRESS_NAME_MAX} visible \
                 characters other than /"
            ));
        }
        if key.chars().all(|c| c == '.') {
            return fault(format!("the name {quoted:?} of an address is only dots"));
        }
        if ADDRESSES_OF_CONSUL.contains(&key.as_str()) {
            return fault(format!(
                "the name {quoted:?} of an address is kept by Consul for its mesh"
            ));
        }
        if address.ip().is_unspecified() || address.port() == 0 {
            return fault(format!(
                "nobody can connect to its address {key}, {address}"
            ));
        }
    }
    if service.tagged_addresses.len() > ADDRESSES_MAX {
        return fault(format!("it has more than {ADDRESSES_MAX} addresses"));
    }
    Ok(())
}

impl ImageManifest {
    pub(super) fn check_joins(&self) -> Result<(), Fault> {
        for (index, joins) in self.joins.iter().enumerate() {
            if self.joins[..index].contains(joins) {
                return Err(("joins", "joins names the same servers twice".to_owned()));
            }
        }
        let Some(consul) = &self.consul else {
            return Ok(());
        };
        if !self.joins_consul() {
            let why = "[consul] says how Consul is joined, and joins leaves it out";
            return Err(("consul", why.to_owned()));
        }
        check_consul(consul)
    }
}

fn check_consul(consul: &ConsulSpec) -> Result<(), Fault> {
    let ConsulSpec { program, address } = consul;
    match (program, address) {
        (Some(program), None) if program.is_empty() || program.contains('\0') => {
            Err(("program", "the program of [consul] is none".to_owned()))
        }
        (Some(_), None) => Ok(()),
        (None, Some(address)) if is_loopback(address) => Ok(()),
        (None, Some(address)) => Err((
            "address",
            format!(
                "address {:?} of [consul] must be http:// with a loopback address and a port, such \
                 as http://127.0.0.1:8500",
                shown(address)
            ),
        )),
        (None, None) | (Some(_), Some(_)) => Err((
            "consul",
            "[consul] must be exactly one of: program, address".to_owned(),
        )),
    }
}

/// Whether a URL is that of a listener on the machine itself. What leaves the machine would carry the
/// node's token in the clear.
fn is_loopback(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else {
        return false;
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if let Ok(address) = rest.parse::<SocketAddr>() {
        return is_reachable(address.ip(), address.port());
    }
    let port = rest
        .strip_prefix("localhost:")
        .and_then(|port| port.parse().ok());
    port.is_some_and(|port: u16| port != 0)
}

fn is_reachable(ip: IpAddr, port: u16) -> bool {
    ip.is_loopback() && port != 0
}

/// What is wrong with a text that Consul keeps, if anything is.
fn text_fault(text: &str, max: usize) -> Option<String> {
    let length = text.len();
    if text.is_empty() {
        return Some("is empty".to_owned());
    }
    if length > max {
        return Some(format!("has {length} bytes, and at most {max} are allowed"));
    }
    let odd = text.chars().position(char::is_control)?;
    Some(format!("holds a control character at position {}", odd + 1))
}

fn edge_fault(text: &str) -> Option<String> {
    (text.trim() != text).then(|| "begins or ends with a space".to_owned())
}

/// The beginning of a text, for people.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS).collect()
}

#[cfg(test)]
mod tests;
