//! Builds what catalogue, probes and agent service are told, from the committed state, the
//! addresses seen and the images' manifests.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use calvin_model::{
    CatalogueEntry, CatalogueRole, CatalogueService, FleetName, ImageManifest, ImageRef,
    InstanceId,
    image::{CheckKind, CheckSpec, CheckWhen, GET},
};
use calvin_planner::{
    FleetState, Instance, Life, MachineState, Observed, SessionObserved, judge::FRESH_INTERVALS,
    sums::list_is_short,
};

use crate::{
    look::Addresses,
    ports::{Admitted, Images, ProbeTarget},
};

/// Time for a service to answer a probe when its image has no check of that port: what a check has
/// when nothing is written.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Manifests of the images in use, each read once.
#[derive(Debug, Default)]
pub(crate) struct Manifests {
    known: BTreeMap<ImageRef, Arc<ImageManifest>>,
    /// Images in use that are not recorded.
    missing: usize,
    /// Grows with each change.
    pub(crate) version: u64,
}

impl Manifests {
    /// Whether an image in use was not recorded when it was last asked for.
    pub(crate) fn incomplete(&self) -> bool {
        self.missing > 0
    }

    /// Reads the manifests of images that came into use and forgets those that left it.
    pub(crate) fn refresh(
        &mut self,
        fleets: &BTreeMap<FleetName, FleetState>,
        images: &dyn Images,
    ) {
        let in_use: BTreeSet<&ImageRef> = fleets
            .values()
            .flat_map(|fleet| fleet.instances.values())
            .map(|instance| &instance.build.image)
            .collect();
        self.known.retain(|image, _| in_use.contains(image));
        self.missing = 0;
        for image in in_use {
            if self.known.contains_key(image) {
                continue;
            }
            match images.manifest(image) {
                Some(manifest) => {
                    self.known.insert(image.clone(), Arc::new(manifest));
                    self.version += 1;
                }
                None => self.missing += 1,
            }
        }
    }

    fn get(&self, image: &ImageRef) -> Option<&ImageManifest> {
        self.known.get(image).map(|manifest| &**manifest)
    }
}

/// Why the entries of a fleet are not set now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoEntries {
    /// Where this instance is was not heard yet: its provider has not answered in this run. An
    /// entry that is left out for that would take a serving instance away from its clients.
    AddressUnknown(InstanceId),
    /// What this image serves is not known.
    NoManifest(ImageRef),
}

/// The entries of a fleet.
///
/// An instance that its provider does not have, or that has no address there yet, has nothing
/// that clients could reach, and gets no entry.
pub(crate) fn catalogue_entries(
    name: &FleetName,
    fleet: &FleetState,
    roles: &BTreeMap<InstanceId, CatalogueRole>,
    observed: &Observed,
    addresses: &Addresses,
    manifests: &Manifests,
) -> Result<Vec<CatalogueEntry>, NoEntries> {
    let mut entries = Vec::with_capacity(roles.len());
    for (id, role) in roles {
        let Some(instance) = fleet.instances.get(id) else {
            continue;
        };
        if *role == CatalogueRole::Absent {
            continue;
        }
        let Some(address) = addresses.get(id) else {
            let machine = observed.instances.get(id).and_then(|seen| seen.machine);
            if machine.is_none() {
                return Err(NoEntries::AddressUnknown(id.clone()));
            }
            continue;
        };
        let image = &instance.build.image;
        let manifest = manifests
            .get(image)
            .ok_or_else(|| NoEntries::NoManifest(image.clone()))?;
        let services = manifest
            .services
            .iter()
            .map(|service| CatalogueService {
                name: service.name.clone(),
                port: service.port,
                tags: service.tags.clone(),
            })
            .collect();
        entries.push(CatalogueEntry {
            instance: id.clone(),
            fleet: name.clone(),
            address,
            role: *role,
            services,
        });
    }
    Ok(entries)
}

/// An instance that clients may find, that was not seen in this run, and that may well serve
/// although the provider's list lacks it, or has more than one for it. Read from the records: the
/// planner gives no role to what has no machine.
///
/// One that had the time to speak and is silent is left out as by any list: where the machines did
/// go, those that are made in their place must be found. So is, after `silent_after`, one that speaks
/// and that a list lacks which has most others.
pub(crate) fn left_out_by_mistake<'a>(
    fleet: &'a FleetState,
    fleets: &BTreeMap<FleetName, FleetState>,
    observed: &Observed,
    addresses: &Addresses,
) -> Option<&'a InstanceId> {
    let has_no_entry = |id: &InstanceId, instance: &Instance| {
        instance.catalogue != CatalogueRole::Absent && addresses.get(id).is_none()
    };
    // What follows goes through all fleets, and most have nobody to ask it for.
    let mut instances = fleet.instances.iter();
    if !instances.any(|(id, instance)| has_no_entry(id, instance)) {
        return None;
    }
    let too_little = lists_too_little(&fleet.spec.provider, fleets, observed);
    let time_to_speak = if too_little {
        fleet.spec.repair.silent_after.0
    } else {
        // A list that lacks one may be right. But it is one source, and until as much time has passed
        // as makes a silent agent count as gone, this run has no second one. Of what clients still
        // find, it may be all that answers.
        observed.report_interval * FRESH_INTERVALS
    };
    let may_serve = |id: &InstanceId| {
        let Some(seen) = observed.instances.get(id) else {
            return false;
        };
        let absent = seen
            .machine
            .is_some_and(|machine| machine.state == MachineState::Absent);
        let speaks = match seen.session {
            // Its session contradicts the list. Where the list lacks most that holds for as long as it
            // does; where it is one of many, what else changes is not withheld for ever.
            SessionObserved::Alive(_) => {
                too_little || observed.watching_for <= fleet.spec.repair.silent_after.0
            }
            SessionObserved::Never | SessionObserved::Ended(_) => {
                observed.watching_for <= time_to_speak
            }
        };
        // Of several machines that carry its tag its agent has yet to show which it is.
        (absent || seen.doubled) && speaks
    };
    let mut instances = fleet.instances.iter();
    let left_out = instances.find(|(id, instance)| has_no_entry(id, instance) && may_serve(id));
    left_out.map(|(id, _)| id)
}

/// Whether a provider's list lacks most of the machines that were up, over all fleets. A list that
/// has grown old is no better for that.
fn lists_too_little(
    provider: &str,
    fleets: &BTreeMap<FleetName, FleetState>,
    observed: &Observed,
) -> bool {
    let (mut lacks, mut of) = (0, 0);
    for fleet in fleets.values() {
        if fleet.spec.provider != provider {
            continue;
        }
        for (id, instance) in &fleet.instances {
            let seen = observed.instances.get(id);
            let there = match instance.life {
                Life::Up | Life::Draining(_) => true,
                Life::Making | Life::Retiring(_) => false,
            };
            if there && let Some(machine) = seen.and_then(|seen| seen.machine) {
                of += 1;
                lacks += usize::from(machine.state == MachineState::Absent);
            }
        }
    }
    list_is_short(lacks, of)
}

/// What to probe: each service of each instance that has an address and is not being removed.
pub(crate) fn probe_targets(
    fleets: &BTreeMap<FleetName, FleetState>,
    addresses: &Addresses,
    manifests: &Manifests,
) -> BTreeMap<InstanceId, Vec<ProbeTarget>> {
    let mut targets = BTreeMap::new();
    for (id, instance) in fleets.values().flat_map(|fleet| &fleet.instances) {
        if !is_probed(instance) {
            continue;
        }
        let (Some(address), Some(manifest)) =
            (addresses.get(id), manifests.get(&instance.build.image))
        else {
            continue;
        };
        let services: Vec<ProbeTarget> = manifest
            .services
            .iter()
            .map(|service| target(manifest, SocketAddr::new(address, service.port)))
            .collect();
        if !services.is_empty() {
            targets.insert(id.clone(), services);
        }
    }
    targets
}

fn is_probed(instance: &Instance) -> bool {
    match instance.life {
        Life::Making | Life::Up | Life::Draining(_) => true,
        Life::Retiring(_) => false,
    }
}

/// How to probe this port: as the image's own check of it does, an HTTP check before a TCP one. That a
/// port of a gRPC check is open is enough, and of an HTTP check that is no plain `GET`: whether it serves is the check's own question. A check that counts in some roles only may fail by design in the others, so it says nothing about
/// whether the workload can be reached.
fn target(manifest: &ImageManifest, address: SocketAddr) -> ProbeTarget {
    let mut target = ProbeTarget {
        address,
        http_path: None,
        timeout: PROBE_TIMEOUT,
    };
    let always = |check: &&CheckSpec| check.when == CheckWhen::Always;
    for check in manifest.checks.iter().filter(always) {
        match check.kind() {
            Some(CheckKind::Http {
                path,
                port,
                method: GET,
                headers,
            }) if port == address.port() && headers.is_empty() => {
                target.http_path = Some(path.to_owned());
                target.timeout = check.timeout.0;
                return target;
            }
            Some(
                CheckKind::Http { port, .. }
                | CheckKind::Tcp { port }
                | CheckKind::Grpc { port, .. },
            ) if port == address.port() => {
                target.timeout = check.timeout.0;
            }
            Some(
                CheckKind::Http { .. }
                | CheckKind::Tcp { .. }
                | CheckKind::Grpc { .. }
                | CheckKind::Exec { .. },
            )
            | None => {}
        }
    }
    target
}

/// Who may enrol and hold a session: every instance that has a record.
pub(crate) fn admitted(fleets: &BTreeMap<FleetName, FleetState>) -> BTreeMap<InstanceId, Admitted> {
    let records = fleets.iter().flat_map(|(name, fleet)| {
        let instances = fleet.instances.iter();
        instances.map(move |(id, instance)| (name, id, instance))
    });
    let admitted = records.map(|(name, id, instance)| {
        let admitted = Admitted {
            fleet: name.clone(),
            image: instance.build.image.clone(),
            wanted: instance.wanted,
        };
        (id.clone(), admitted)
    });
    admitted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_probed_as_patiently_as_its_own_check_does_it() {
        let text = r#"
            name = "web"
            version = "1.0"
            check = [
                { name = "tcp", tcp = true, port = 80, timeout = "7s" },
                { name = "page", http = "/health", port = 80, timeout = "1s" },
                { name = "other", tcp = true, port = 81, timeout = "3s" },
                { name = "busy", http = "/busy", port = 82, timeout = "4s", when = "active" },
                { name = "api", grpc = "web.v1", port = 83, timeout = "5s" },
                { name = "ping", http = "/ping", port = 84, method = "POST", timeout = "6s" },
            ]
            [workload]
            command = ["server"]
        "#;
        let manifest = ImageManifest::parse("image.toml", text).unwrap();
        let target = |port| {
            let target = target(&manifest, SocketAddr::from(([127, 0, 0, 1], port)));
            (target.http_path, target.timeout)
        };
        let page = Some("/health".to_owned());
        assert_eq!(target(80), (page, Duration::from_secs(1)));
        assert_eq!(target(81), (None, Duration::from_secs(3)));
        assert_eq!(target(82), (None, PROBE_TIMEOUT));
        assert_eq!(target(83), (None, Duration::from_secs(5)));
        assert_eq!(target(84), (None, Duration::from_secs(6)));
    }
}
