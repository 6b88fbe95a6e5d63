//! The ACL token of each machine: what it may, and whose a token is. Pure.
//!
//! Accessor and secret are derived from a key of the coordinator and the instance's id, so that a
//! second try makes no second token, and a lost answer loses nothing.

use std::collections::BTreeSet;

use calvin_consul::{
    Token,
    acl::{NodeIdentity, ServiceIdentity, TokenInfo, TokenRequest},
    policies::STANDBY_SUFFIX,
};
use calvin_model::{EnvironmentName, InstanceId, image::ServiceSpec};

use crate::identity::ConsulToken;

/// What the description of every token of an environment's machines begins with.
fn prefix(environment: &EnvironmentName) -> String {
    format!("calvin {environment} ")
}

/// The policy that all machines of an environment have.
pub(super) fn machines_policy(environment: &EnvironmentName) -> String {
    format!("calvin-{environment}-machines")
}

/// The policy that one machine of an exclusive fleet has beside that.
pub(super) fn lock_policy(environment: &EnvironmentName, instance: &InstanceId) -> String {
    format!("calvin-{environment}-lock-{instance}")
}

/// What one machine's token is made from.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) environment: &'a EnvironmentName,
    pub(super) instance: &'a InstanceId,
    pub(super) services: &'a [ServiceSpec],
    pub(super) token: &'a ConsulToken,
}

impl Wanted<'_> {
    /// The request for it: its own node, its own services under both of their names, and nothing more.
    pub(super) fn request(&self) -> TokenRequest {
        let names = self.services.iter().flat_map(|service| {
            let name = service.name.as_str();
            [name.to_owned(), format!("{name}{STANDBY_SUFFIX}")]
        });
        let identity = |service_name| ServiceIdentity {
            service_name,
            datacenters: Vec::new(),
        };
        TokenRequest {
            accessor: Some(self.token.accessor.clone()),
            // A derived one is a UUID, and so a token.
            secret: self.token.secret.expose().parse::<Token>().ok(),
            description: format!("{}{}", prefix(self.environment), self.instance),
            policies: vec![machines_policy(self.environment)],
            node_identities: vec![NodeIdentity {
                node_name: self.instance.to_string(),
                datacenter: self.environment.to_string(),
            }],
            service_identities: names
                .collect::<BTreeSet<_>>()
                .into_iter()
                .map(identity)
                .collect(),
            // An environment is one datacenter.
            local: true,
            expires: None,
        }
    }
}

/// The instance that a token is for, where it is one of this environment's machines.
pub(super) fn instance_of(environment: &EnvironmentName, token: &TokenInfo) -> Option<InstanceId> {
    let prefix = prefix(environment);
    token.description.strip_prefix(&prefix)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use calvin_model::{ImageManifest, Secret};

    use super::*;

    #[test]
    fn a_token_may_what_its_machine_does_and_names_it() {
        let environment: EnvironmentName = "prod".parse().unwrap();
        let text = "name = \"web\"\nversion = \"1\"\n[[service]]\nname = \"web\"\nport = 80\n";
        let manifest = ImageManifest::parse("image.toml", text).unwrap();
        let token = ConsulToken {
            accessor: "11111111-2222-4333-8444-555555555555".into(),
            secret: Secret::new("21111111-2222-4333-8444-555555555555".into()),
        };
        let instance: InstanceId = "web-a".parse().unwrap();
        let wanted = Wanted {
            environment: &environment,
            instance: &instance,
            services: &manifest.services,
            token: &token,
        };
        let request = wanted.request();
        request.check().unwrap();
        assert_eq!(request.policies, ["calvin-prod-machines"]);
        let names: Vec<_> = request
            .service_identities
            .iter()
            .map(|identity| &*identity.service_name)
            .collect();
        assert_eq!(names, ["web", "web-standby"]);
        assert_eq!(request.node_identities[0].node_name, "web-a");
        let info = |description: &str| TokenInfo {
            accessor: token.accessor.clone(),
            description: description.to_owned(),
            policies: Vec::new(),
            node_identities: Vec::new(),
            service_identities: Vec::new(),
            local: true,
        };
        let of = |description| instance_of(&environment, &info(description));
        assert_eq!(of(&request.description), Some(instance));
        for foreign in [
            "calvin prod",
            "calvin production web-a",
            "calvin test web-a",
            "calvin prod WEB A",
            "web-a",
        ] {
            assert_eq!(of(foreign), None, "{foreign}");
        }
    }
}
