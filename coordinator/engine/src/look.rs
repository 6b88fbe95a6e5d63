//! Looks at the world through every port and says what is seen of each instance.
//!
//! The providers' lists are matched by tag: a machine of a known instance is adopted, whatever
//! run of the coordinator asked for it; one of an unknown instance is a notice and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use calvin_model::{FleetName, InstanceId};
use calvin_planner::{
    FleetState, InstanceObserved, MachineObserved, MachineState, Observed, ProviderFault,
};

use crate::{
    ports::{AgentSeen, Machine, Ports},
    view::Notice,
    windows::Windows,
};

/// One look.
#[derive(Debug)]
pub(crate) struct Look {
    /// What the planner sees.
    pub(crate) observed: Observed,
    /// What a person should see.
    pub(crate) notices: Vec<Notice>,
    /// Entries in the catalogue of instances that have no record.
    pub(crate) ghosts: Vec<InstanceId>,
}

/// Where machines were seen. An address is remembered after its machine has gone from the list,
/// so that an entry does not lose its address before it loses its role.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    known: BTreeMap<InstanceId, IpAddr>,
    /// Grows with each change.
    pub(crate) version: u64,
}

impl Addresses {
    /// The address of an instance, if it was ever seen in this run.
    pub(crate) fn get(&self, instance: &InstanceId) -> Option<IpAddr> {
        self.known.get(instance).copied()
    }

    fn see(&mut self, instance: &InstanceId, address: IpAddr) {
        if self.known.get(instance) != Some(&address) {
            self.known.insert(instance.clone(), address);
            self.version += 1;
        }
    }

    /// Forgets instances that have no record any more.
    pub(crate) fn keep_only(&mut self, fleets: &BTreeMap<FleetName, FleetState>) {
        self.known
            .retain(|instance, _| has_record(fleets, instance));
    }
}

/// Whether an instance has a record.
pub(crate) fn has_record(fleets: &BTreeMap<FleetName, FleetState>, instance: &InstanceId) -> bool {
    fleets
        .values()
        .any(|fleet| fleet.instances.contains_key(instance))
}

/// All machines of all providers, by the instance that their tag names.
struct Machines<'a> {
    /// More than one, where a creation made so many.
    by_instance: BTreeMap<InstanceId, Vec<Found<'a>>>,
    faults: BTreeMap<InstanceId, ProviderFault>,
    list_ages: BTreeMap<String, Duration>,
    notices: Vec<Notice>,
    doubled: BTreeSet<InstanceId>,
}

struct Found<'a> {
    provider: &'a str,
    machine: Machine,
    age: Duration,
}

/// Looks through every port.
pub(crate) fn look<P: Ports>(
    ports: &mut P,
    fleets: &BTreeMap<FleetName, FleetState>,
    addresses: &mut Addresses,
    windows: &mut Windows,
    watching_for: Duration,
) -> Look {
    let report_interval = ports.agents().report_interval();
    let mut agents = ports.agents().observe();
    let mut probes = ports.probe().results();
    let catalogue = ports.catalogue().read_back();
    let mut ghosts: Vec<InstanceId> = ports
        .catalogue()
        .list()
        .into_iter()
        .map(|(instance, _)| instance)
        .collect();
    let mut machines = list_machines(ports);
    let providers = ports.providers().into_iter();
    let capacity = providers
        .map(|(name, provider)| (name.to_owned(), provider.capacity()))
        .collect();

    let mut instances = BTreeMap::new();
    for fleet in fleets.values() {
        let list_age = machines.list_ages.get(&fleet.spec.provider).copied();
        for id in fleet.instances.keys() {
            let AgentSeen {
                agent,
                session,
                from,
                revoked,
                alarm,
            } = agents.remove(id).unwrap_or_default();
            let at = [from, addresses.get(id)];
            let machine = machine_of(&mut machines, id, list_age, at);
            if let Some(address) = machine.and_then(|machine| machine.address) {
                addresses.see(id, address);
            }
            if let Some(text) = &alarm {
                machines.notices.push(Notice::Alarm {
                    instance: id.clone(),
                    text: text.clone(),
                });
            }
            let seen = InstanceObserved {
                agent,
                session,
                probe: probes.remove(id),
                machine,
                fault: machines.faults.remove(id),
                doubled: machines.doubled.contains(id),
                revoked,
                alarm,
            };
            instances.insert(id.clone(), seen);
        }
    }
    ghosts.retain(|instance| !instances.contains_key(instance));
    ghosts.sort();
    ghosts.dedup();

    let Machines {
        by_instance,
        list_ages,
        mut notices,
        ..
    } = machines;
    let strays = by_instance.into_iter().flat_map(|(instance, found)| {
        let found = found.into_iter();
        found.map(move |found| (instance.clone(), found))
    });
    notices.extend(strays.map(stray));
    Look {
        observed: Observed {
            instances,
            catalogue,
            provider_lists: list_ages,
            capacity,
            windows: windows.look(fleets, ports.clock()),
            report_interval,
            watching_for,
        },
        notices,
        ghosts,
    }
}

fn list_machines<P: Ports>(ports: &P) -> Machines<'_> {
    let mut machines = Machines {
        by_instance: BTreeMap::new(),
        faults: BTreeMap::new(),
        list_ages: BTreeMap::new(),
        notices: Vec::new(),
        doubled: BTreeSet::new(),
    };
    let mut doubled: BTreeMap<InstanceId, Vec<String>> = BTreeMap::new();
    for (name, provider) in ports.providers() {
        let list = provider.list();
        machines.faults.extend(list.faults);
        let Some(age) = list.age else {
            continue;
        };
        machines.list_ages.insert(name.to_owned(), age);
        for machine in list.machines {
            let instance = machine.instance.clone();
            let found = Found {
                provider: name,
                machine,
                age,
            };
            let all = machines.by_instance.entry(instance.clone()).or_default();
            if let Some(first) = all.first() {
                let providers = doubled
                    .entry(instance)
                    .or_insert_with(|| vec![first.provider.to_owned()]);
                providers.push(name.to_owned());
            }
            all.push(found);
        }
    }
    for (instance, providers) in doubled {
        machines.doubled.insert(instance.clone());
        machines.notices.push(Notice::Doubled {
            instance,
            providers,
        });
    }
    machines
}

/// What is known of one instance's machine. It is absent only by the word of a complete list of
/// the provider that is to have it.
fn machine_of(
    machines: &mut Machines<'_>,
    instance: &InstanceId,
    list_age: Option<Duration>,
    at: [Option<IpAddr>; 2],
) -> Option<MachineObserved> {
    let found = machines.by_instance.remove(instance).unwrap_or_default();
    if let Some(found) = the_one(&found, at) {
        return Some(found);
    }
    list_age.map(|age| MachineObserved {
        age,
        state: MachineState::Absent,
        address: None,
    })
}

/// Which of an instance's machines it is. Of several it is the one from which its agent came: only one
/// of them has its identity. Before any did, none has an address that clients could be told.
fn the_one(found: &[Found<'_>], at: [Option<IpAddr>; 2]) -> Option<MachineObserved> {
    let observed = |found: &Found<'_>| MachineObserved {
        age: found.age,
        state: found.machine.state,
        address: found.machine.address,
    };
    let (first, others) = found.split_first()?;
    if others.is_empty() {
        return Some(observed(first));
    }
    let mut known = at.into_iter().flatten();
    let chosen = known.find_map(|at| found.iter().find(|one| one.machine.address == Some(at)));
    Some(chosen.map_or_else(
        || MachineObserved {
            address: None,
            ..observed(first)
        },
        observed,
    ))
}

fn stray((instance, found): (InstanceId, Found<'_>)) -> Notice {
    Notice::Stray {
        provider: found.provider.to_owned(),
        instance,
        state: found.machine.state,
        address: found.machine.address,
    }
}
