//! What is registered with Consul of an instance in each role: names, ids, tags and meta. Pure, and
//! read by both sides: agents register it, and the coordinator changes and reads the tags.
//!
//! | role | registered as | tags |
//! |---|---|---|
//! | absent | nothing | |
//! | standby | `<service>-standby` | the image's, `standby` |
//! | entered | `<service>` | the image's, `standby` |
//! | active | `<service>` | the image's, `active`, the image's `tags_active` |
//!
//! With `untagged = "all"` a standby is registered as `<service>` too.

use std::collections::BTreeMap;

use calvin_model::{
    CatalogueRole, InstanceId, Provision,
    image::{ServiceSpec, Untagged},
};

use crate::policies::STANDBY_SUFFIX;

/// The tag of what is active.
pub const ACTIVE: &str = "active";
/// The tag of what is not, or not yet.
pub const STANDBY: &str = "standby";

/// Meta: the environment.
pub const ENVIRONMENT: &str = "calvin-environment";
/// Meta: the fleet.
pub const FLEET: &str = "calvin-fleet";
/// Meta: the instance's id.
pub const INSTANCE: &str = "calvin-instance";
/// Meta: name and version of the image.
pub const IMAGE: &str = "calvin-image";
/// Meta: the machine's boot. An entry of another boot is left over from before.
pub const BOOT: &str = "calvin-boot";
/// What all keys of ours begin with.
pub const OURS: &str = "calvin-";

/// The name that a service is registered under; none where it is not.
#[must_use]
pub fn name(service: &ServiceSpec, role: CatalogueRole) -> Option<String> {
    match (role, service.untagged) {
        (CatalogueRole::Absent, _) => None,
        (CatalogueRole::Standby, Untagged::Proven) => Some(standby_name(service)),
        (CatalogueRole::Standby, Untagged::All)
        | (CatalogueRole::Entered | CatalogueRole::Active, _) => {
            Some(service.name.as_str().to_owned())
        }
    }
}

/// The name of a service's instances that were not proven yet.
#[must_use]
pub fn standby_name(service: &ServiceSpec) -> String {
    format!("{}{STANDBY_SUFFIX}", service.name)
}

/// The id of a registration: one for each name, so that an instance can have the new one before it
/// leaves the old one.
#[must_use]
pub fn id(name: &str, instance: &InstanceId) -> String {
    format!("{name}:{instance}")
}

/// The id of a check of a registration, by its place in the image: its name may be any text.
#[must_use]
pub fn check_id(service_id: &str, place: usize) -> String {
    format!("{service_id}:{place}")
}

/// The id of the check of a registration that says what only the agent can know.
#[must_use]
pub fn agent_check_id(service_id: &str) -> String {
    format!("{service_id}:agent")
}

/// The tags of a service in a role; none where it is absent.
#[must_use]
pub fn tags(service: &ServiceSpec, role: CatalogueRole) -> Vec<String> {
    let mut tags = service.tags.clone();
    match role {
        CatalogueRole::Absent => return Vec::new(),
        CatalogueRole::Standby | CatalogueRole::Entered => tags.push(STANDBY.to_owned()),
        CatalogueRole::Active => {
            tags.push(ACTIVE.to_owned());
            tags.extend(service.tags_active.iter().cloned());
        }
    }
    tags
}

/// The role that a registration shows.
#[must_use]
pub fn role(service: &ServiceSpec, name: &str, tags: &[String]) -> CatalogueRole {
    let active = tags.iter().any(|tag| tag == ACTIVE);
    if name == service.name.as_str() {
        match (active, service.untagged) {
            (true, _) => CatalogueRole::Active,
            // Who is found without a tag anyhow has entered as soon as it is registered.
            (false, Untagged::Proven | Untagged::All) => CatalogueRole::Entered,
        }
    } else if name == standby_name(service) {
        CatalogueRole::Standby
    } else {
        CatalogueRole::Absent
    }
}

/// What tells whose a registration is.
#[must_use]
pub fn meta(service: &ServiceSpec, machine: &Provision, boot: &str) -> BTreeMap<String, String> {
    let ours = [
        (ENVIRONMENT, machine.environment.as_str().to_owned()),
        (FLEET, machine.fleet.as_str().to_owned()),
        (INSTANCE, machine.instance.as_str().to_owned()),
        (IMAGE, machine.image.tag.to_string()),
        (BOOT, boot.to_owned()),
    ];
    let mut meta = service.meta.clone();
    meta.extend(ours.map(|(key, value)| (key.to_owned(), value)));
    meta
}

#[cfg(test)]
mod tests {
    use calvin_model::ImageManifest;

    use super::*;

    fn service(more: &str) -> ServiceSpec {
        let text = format!(
            "name = \"web\"\nversion = \"1.0\"\n[[service]]\nname = \"web\"\nport = 80\n\
             tags = [\"http\"]\ntags_active = [\"edgeproxyprefix-/web\"]\n{more}"
        );
        let manifest = ImageManifest::parse("image.toml", &text).unwrap();
        manifest.services[0].clone()
    }

    #[test]
    fn a_role_is_read_back_from_what_is_registered_in_it() {
        for (more, standby) in [
            ("", CatalogueRole::Standby),
            ("untagged = \"all\"", CatalogueRole::Entered),
        ] {
            let service = service(more);
            for (given, read) in [
                (CatalogueRole::Standby, standby),
                (CatalogueRole::Entered, CatalogueRole::Entered),
                (CatalogueRole::Active, CatalogueRole::Active),
            ] {
                let name = name(&service, given).unwrap();
                assert_eq!(role(&service, &name, &tags(&service, given)), read);
            }
            assert_eq!(name(&service, CatalogueRole::Absent), None);
        }
    }

    #[test]
    fn a_standby_is_found_under_a_name_of_its_own_and_by_no_tag_of_the_active() {
        let service = service("");
        assert_eq!(
            name(&service, CatalogueRole::Standby).unwrap(),
            "web-standby"
        );
        assert_eq!(tags(&service, CatalogueRole::Entered), ["http", "standby"]);
        assert_eq!(
            tags(&service, CatalogueRole::Active),
            ["http", "active", "edgeproxyprefix-/web"]
        );
    }
}
