//! Looks at the world through every port and says what is seen of each instance.
//!
//! The providers' lists are matched by tag: a machine of a known instance is adopted, whatever
//! run of the coordinator asked for it; one of an unknown instance is a notice and nothing else.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    iter::Peekable,
    net::IpAddr,
    time::Duration,
};

use calvin_model::{FleetName, InstanceId};
use calvin_planner::{
    FleetState, InstanceObserved, MachineObserved, MachineState, Observed, ProviderFault,
};

use crate::{
    ports::{AgentSeen, Ports},
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

    /// Where machines are now, in the order of their instances.
    fn see<'a>(&mut self, seen: impl Iterator<Item = (&'a InstanceId, IpAddr)>) {
        let mut known = InOrder::of(&self.known);
        let is_new = |(id, address): &(&'a InstanceId, IpAddr)| known.take(id) != Some(address);
        let new: Vec<(InstanceId, IpAddr)> = seen
            .filter(is_new)
            .map(|(id, address)| (id.clone(), address))
            .collect();
        self.version += u64::from(!new.is_empty());
        self.known.extend(new);
    }

    /// Forgets instances that have no record any more.
    pub(crate) fn keep_only(&mut self, fleets: &BTreeMap<FleetName, FleetState>) {
        let records = fleets.values().flat_map(|fleet| fleet.instances.keys());
        let records: BTreeSet<&InstanceId> = records.collect();
        self.known.retain(|instance, _| records.contains(instance));
    }
}

/// Takes what belongs to one instance after the other, in the order of their ids: no search for each
/// of ten thousand.
struct InOrder<I: Iterator> {
    rest: Peekable<I>,
    /// What nobody asked for.
    left: Vec<I::Item>,
}

impl<K: Borrow<InstanceId>, V, I: Iterator<Item = (K, V)>> InOrder<I> {
    /// Of what is in that order.
    fn of(all: impl IntoIterator<IntoIter = I>) -> Self {
        Self {
            rest: all.into_iter().peekable(),
            left: Vec::new(),
        }
    }

    fn take(&mut self, id: &InstanceId) -> Option<V> {
        while let Some(other) = self.rest.next_if(|(other, _)| other.borrow() < id) {
            self.left.push(other);
        }
        let found = self.rest.next_if(|(other, _)| other.borrow() == id);
        found.map(|(_, value)| value)
    }

    fn left(self) -> impl Iterator<Item = I::Item> {
        self.left.into_iter().chain(self.rest)
    }
}

/// All machines of all providers.
struct Machines<'a> {
    /// In the order of the instances that their tags name; more than one, where a creation made so
    /// many.
    found: Vec<(InstanceId, Vec<Found<'a>>)>,
    faults: BTreeMap<InstanceId, ProviderFault>,
    list_ages: BTreeMap<String, Duration>,
    notices: Vec<Notice>,
    doubled: BTreeSet<InstanceId>,
}

struct Found<'a> {
    provider: &'a str,
    observed: MachineObserved,
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
    let mut agents = InOrder::of(ports.agents().observe());
    let mut probes = InOrder::of(ports.probe().results());
    let catalogue = ports.catalogue().read_back();
    let mut gossip = InOrder::of(ports.catalogue().gossip());
    let mut locks = InOrder::of(ports.catalogue().locks());
    let mut ghosts: Vec<InstanceId> = ports
        .catalogue()
        .list()
        .into_iter()
        .map(|(instance, _)| instance)
        .collect();
    let Machines {
        found,
        faults,
        list_ages,
        doubled,
        mut notices,
    } = list_machines(ports);
    let (mut found, mut faults) = (InOrder::of(found), InOrder::of(faults));
    let providers = ports.providers().into_iter();
    let capacity = providers
        .map(|(name, provider)| (name.to_owned(), provider.capacity()))
        .collect();

    let mut records: Vec<(&InstanceId, &FleetState)> = fleets
        .values()
        .flat_map(|fleet| fleet.instances.keys().map(move |id| (id, fleet)))
        .collect();
    records.sort_by_key(|(id, _)| *id);
    let mut alarms = BTreeMap::new();
    let instances = records.into_iter().map(|(id, fleet)| {
        let list_age = list_ages.get(&fleet.spec.provider).copied();
        let AgentSeen {
            agent,
            session,
            from,
            revoked,
            alarm,
        } = agents.take(id).unwrap_or_default();
        if let Some(text) = &alarm {
            alarms.insert((&fleet.spec.name, id.clone()), text.clone());
        }
        let found = found.take(id).unwrap_or_default();
        let found = the_one(&found, [from, addresses.get(id)]);
        let seen = InstanceObserved {
            agent,
            session,
            probe: probes.take(id),
            machine: found.or_else(|| absent(list_age)),
            gossip: gossip.take(id),
            lock: locks.take(id),
            fault: faults.take(id),
            doubled: doubled.contains(id),
            revoked,
            alarm,
        };
        (id.clone(), seen)
    });
    let instances: BTreeMap<InstanceId, InstanceObserved> = instances.collect();
    addresses.see(
        instances
            .iter()
            .filter_map(|(id, seen)| Some((id, seen.machine?.address?))),
    );
    ghosts.retain(|instance| !instances.contains_key(instance));
    ghosts.sort();
    ghosts.dedup();

    notices.extend(
        alarms
            .into_iter()
            .map(|((_, instance), text)| Notice::Alarm { instance, text }),
    );
    let strays = found.left().flat_map(|(instance, found)| {
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
        found: Vec::new(),
        faults: BTreeMap::new(),
        list_ages: BTreeMap::new(),
        notices: Vec::new(),
        doubled: BTreeSet::new(),
    };
    let mut all: Vec<(InstanceId, Found<'_>)> = Vec::new();
    for (name, provider) in ports.providers() {
        let list = provider.list();
        machines.faults.extend(list.faults);
        let Some(age) = list.age else {
            continue;
        };
        machines.list_ages.insert(name.to_owned(), age);
        all.extend(list.machines.into_iter().map(|machine| {
            let observed = MachineObserved {
                age,
                state: machine.state,
                address: machine.address,
            };
            let provider = name;
            (machine.instance, Found { provider, observed })
        }));
    }
    // Of those with one tag the first stays the first.
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut doubled: BTreeMap<InstanceId, Vec<String>> = BTreeMap::new();
    for (instance, found) in all {
        match machines.found.last_mut() {
            Some((first, one)) if *first == instance => {
                let providers = doubled
                    .entry(instance)
                    .or_insert_with(|| one.iter().map(|one| one.provider.to_owned()).collect());
                providers.push(found.provider.to_owned());
                one.push(found);
            }
            Some(_) | None => machines.found.push((instance, vec![found])),
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

/// What is known of a machine that no list has: it is absent only by the word of a complete list of
/// the provider that is to have it.
fn absent(list_age: Option<Duration>) -> Option<MachineObserved> {
    list_age.map(|age| MachineObserved {
        age,
        state: MachineState::Absent,
        address: None,
    })
}

/// Which of an instance's machines it is. Of several it is the one from which its agent came: only one
/// of them has its identity. Before any did, none has an address that clients could be told.
fn the_one(found: &[Found<'_>], at: [Option<IpAddr>; 2]) -> Option<MachineObserved> {
    let (first, others) = found.split_first()?;
    if others.is_empty() {
        return Some(first.observed);
    }
    let mut known = at.into_iter().flatten();
    let chosen = known.find_map(|at| found.iter().find(|one| one.observed.address == Some(at)));
    Some(chosen.map_or_else(
        || MachineObserved {
            address: None,
            ..first.observed
        },
        |one| one.observed,
    ))
}

fn stray((instance, found): (InstanceId, Found<'_>)) -> Notice {
    Notice::Stray {
        provider: found.provider.to_owned(),
        instance,
        state: found.observed.state,
        address: found.observed.address,
    }
}
