//! What commands of an image may know of their machine: `CALVIN_*` in their environment, and
//! `${CALVIN_*}` in their arguments. The same for the workload, exec checks and hooks.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use calvin_model::Provision;
use calvin_proto::machine::MACHINE_VARIABLE;

/// Where the agent answers DNS when `provision.toml` does not say: no privilege is needed for it.
const DEFAULT_DNS_PORT: u16 = 8653;
/// Where programs are looked up when the machine's first process was given no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What begins a variable that is ours to fill in.
const OPENING: &str = "${CALVIN_";

/// The machine's variables by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variables {
    values: BTreeMap<&'static str, String>,
    machine: PathBuf,
}

/// A variable that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names {name}, which is not a variable; there are {known}")]
pub struct UnknownVariable {
    /// The whole text.
    pub text: String,
    /// The name in it.
    pub name: String,
    /// The names that there are.
    pub known: String,
}

impl Variables {
    /// The variables of the machine in the directory `machine`.
    #[must_use]
    pub fn new(provision: &Provision, machine: &Path) -> Self {
        let address = provision.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let dns = provision.dns.unwrap_or(SocketAddr::new(
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            DEFAULT_DNS_PORT,
        ));
        let values = BTreeMap::from([
            ("CALVIN_ADDRESS", address.to_string()),
            ("CALVIN_INSTANCE", provision.instance.to_string()),
            ("CALVIN_FLEET", provision.fleet.to_string()),
            ("CALVIN_ENVIRONMENT", provision.environment.to_string()),
            ("CALVIN_DOMAIN", provision.domain.clone()),
            ("CALVIN_DNS", dns.to_string()),
        ]);
        Self {
            values,
            machine: machine.to_owned(),
        }
    }

    /// Fills the variables in. A `$` that does not begin one of ours stays as it is.
    ///
    /// # Errors
    /// A name that begins like ours and is none.
    pub fn fill_in(&self, text: &str) -> Result<String, UnknownVariable> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(OPENING) {
            filled.push_str(&rest[..start]);
            let opened = &rest[start + 2..];
            let end = opened.find('}').unwrap_or(opened.len());
            let name = &opened[..end];
            let Some(value) = self.values.get(name).filter(|_| end < opened.len()) else {
                return Err(UnknownVariable {
                    text: text.to_owned(),
                    name: name.to_owned(),
                    known: self.names().join(", "),
                });
            };
            filled.push_str(value);
            rest = &opened[end + 1..];
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// The whole environment of a command: these variables, a search path, and what the image
    /// adds. Nothing else is handed down: the environment of whoever started the machine is none
    /// of the workload's business.
    #[must_use]
    pub fn environment(&self, added: &BTreeMap<String, String>) -> BTreeMap<String, OsString> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        let mut environment = BTreeMap::from([("PATH".to_owned(), path)]);
        environment.extend(
            added
                .iter()
                .map(|(name, value)| (name.clone(), value.into())),
        );
        environment.extend(
            self.values
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.into())),
        );
        environment.insert(MACHINE_VARIABLE.to_owned(), self.machine.clone().into());
        environment
    }

    fn names(&self) -> Vec<&'static str> {
        self.values.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) const PROVISION: &str = r#"
environment = "build"
instance = "web-abcdefgh"
fleet = "web"
coordinators = ["127.0.0.1:7400"]
domain = "build.example"
address = "127.9.0.1"
dns = "127.9.0.1:8653"
join_token = "secret"
ca_pem = ""

[image]
tag = "web@1.0"
digest = "sha256:0101010101010101010101010101010101010101010101010101010101010101"
"#;

    fn variables() -> Variables {
        let provision = Provision::parse("provision.toml", PROVISION).unwrap();
        Variables::new(&provision, Path::new("/machines/web-abcdefgh"))
    }

    #[test]
    fn the_variables_are_those_that_an_image_may_name() {
        assert_eq!(variables().names(), calvin_model::image::VARIABLES);
    }

    #[test]
    fn our_variables_are_filled_in_and_other_dollars_stay() {
        let filled = variables()
            .fill_in("${CALVIN_ADDRESS}:8080/${CALVIN_FLEET} $HOME ${X} $")
            .unwrap();
        assert_eq!(filled, "127.9.0.1:8080/web $HOME ${X} $");
    }

    #[test]
    fn a_slip_in_a_name_is_refused_with_the_names_that_there_are() {
        for slip in ["${CALVIN_ADRESS}", "${CALVIN_ADDRESS", "${CALVIN_}"] {
            let error = variables().fill_in(slip).unwrap_err().to_string();
            assert!(error.contains("CALVIN_ADDRESS, CALVIN_DNS"), "{error}");
        }
    }

    #[test]
    fn the_environment_holds_ours_and_the_images_and_nothing_else() {
        let added = BTreeMap::from([("LEVEL".to_owned(), "high".to_owned())]);
        let environment = variables().environment(&added);
        let names: Vec<_> = environment.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "CALVIN_ADDRESS",
                "CALVIN_DNS",
                "CALVIN_DOMAIN",
                "CALVIN_ENVIRONMENT",
                "CALVIN_FLEET",
                "CALVIN_INSTANCE",
                "CALVIN_MACHINE",
                "LEVEL",
                "PATH"
            ]
        );
        assert!(!format!("{environment:?}").contains("secret"));
    }
}
