//! Whether a workload needs the lock of its fleet before it starts, by what the coordinator has said.
//! Pure.
//!
//! What a machine is told of joining comes after its role, and each alone: so a workload that may need
//! the lock waits until it is known whether it does. A coordinator with Consul says how to join and how
//! to be registered to every machine that can, also where there is nothing to register; one with the
//! embedded catalogue says neither, and publishes names, which the other never does. All three are on
//! disk for later boots.

use calvin_model::{ImageManifest, Join, image::Work};
use calvin_proto::convert::RegistrationOrder;

use super::Gate;

/// What is known of it. `names` says whether there are names of the embedded catalogue.
pub(super) fn gate(
    manifest: &ImageManifest,
    join: Option<&Join>,
    registration: Option<&RegistrationOrder>,
    names: bool,
) -> Gate {
    let work = manifest.workload.as_ref().map(|workload| workload.work);
    let pulls = match work {
        Some(Work::OnActive) => true,
        Some(Work::Boot) | None => false,
    };
    if !pulls || !manifest.joins_consul() {
        return Gate::Free;
    }
    match join.map(|join| &join.consul) {
        Some(None) => Gate::Free,
        None if names => Gate::Free,
        None => Gate::Unknown,
        Some(Some(_)) => match registration.map(|order| order.registration.exclusive) {
            Some(true) => Gate::Locked,
            Some(false) => Gate::Free,
            None => Gate::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use calvin_model::{CatalogueRole, ConsulJoin, Epoch, Registration};

    use super::*;

    const SERVICE: &str = "[[service]]\nname = \"db\"\nport = 1\n";

    fn image(more: &str, work: &str) -> ImageManifest {
        let text = format!(
            "name = \"db\"\nversion = \"1\"\n{more}\n[workload]\ncommand = [\"db\"]\nwork = \
             \"{work}\"\n"
        );
        ImageManifest::parse("image.toml", &text).unwrap()
    }

    fn join(consul: bool) -> Join {
        let consul = consul.then(|| ConsulJoin {
            datacenter: "build".parse().unwrap(),
            domain: "build.example".into(),
            servers: vec!["127.0.0.1:8301".into()],
            gossip_key: None,
            ca_pem: String::new(),
            node: "db-a".into(),
            token: None,
            trust_domain: String::new(),
        });
        Join { consul }
    }

    fn order(exclusive: bool) -> RegistrationOrder {
        RegistrationOrder {
            epoch: Epoch {
                number: 1,
                run: "aa".parse().unwrap(),
            },
            registration: Registration {
                role: CatalogueRole::Standby,
                exclusive,
            },
        }
    }

    /// The image with one service.
    fn of(join: Option<&Join>, order: Option<&RegistrationOrder>, names: bool) -> Gate {
        let mut manifest = image("", "on_active");
        let served = format!("name = \"db\"\nversion = \"1\"\n{SERVICE}");
        let served = ImageManifest::parse("image.toml", &served).unwrap();
        manifest.services = served.services;
        gate(&manifest, join, order, names)
    }

    #[test]
    fn with_consul_it_waits_to_hear_of_both_in_any_order() {
        let (consul, exclusive, shared) = (join(true), order(true), order(false));
        assert_eq!(of(None, None, false), Gate::Unknown);
        assert_eq!(of(Some(&consul), None, false), Gate::Unknown);
        assert_eq!(of(None, Some(&exclusive), false), Gate::Unknown);
        assert_eq!(of(Some(&consul), Some(&exclusive), false), Gate::Locked);
        assert_eq!(of(Some(&consul), Some(&shared), false), Gate::Free);
        // Names of before the environment had Consul open nothing.
        assert_eq!(of(Some(&consul), Some(&exclusive), true), Gate::Locked);
        assert_eq!(of(Some(&consul), None, true), Gate::Unknown);
    }

    #[test]
    fn without_consul_it_never_waits() {
        assert_eq!(of(None, None, true), Gate::Free);
        assert_eq!(of(Some(&join(false)), None, false), Gate::Free);
        assert_eq!(
            of(Some(&join(false)), Some(&order(true)), false),
            Gate::Free
        );
        let alone = image("joins = []", "on_active");
        assert_eq!(gate(&alone, None, None, false), Gate::Free);
    }

    #[test]
    fn work_that_does_not_wait_for_its_role_needs_no_lock() {
        let boot = image("", "boot");
        let exclusive = order(true);
        assert_eq!(
            gate(&boot, Some(&join(true)), Some(&exclusive), false),
            Gate::Free
        );
        assert_eq!(gate(&boot, None, None, false), Gate::Free);
    }

    #[test]
    fn what_serves_nothing_waits_to_hear_of_it_too() {
        let worker = image("", "on_active");
        let told =
            |order: Option<&RegistrationOrder>| gate(&worker, Some(&join(true)), order, false);
        assert_eq!(gate(&worker, None, None, false), Gate::Unknown);
        assert_eq!(told(None), Gate::Unknown);
        assert_eq!(told(Some(&order(true))), Gate::Locked);
        assert_eq!(told(Some(&order(false))), Gate::Free);
    }
}
