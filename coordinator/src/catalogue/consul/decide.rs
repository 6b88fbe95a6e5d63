//! What is to change in Consul for one fleet, what its agents are told, and how clients find it now.
//! Pure.
//!
//! An agent registers; the role tags are the coordinator's, and change for the whole fleet at once: who
//! is to be active enters first (registered under the service's own name, tag `standby`), and becomes
//! active in one transaction, in which who is no longer to be active gets `standby`. Only when that was
//! read back is an agent told so: it registers with tags that are in the catalogue already, and who
//! leaves the service's own name leaves it without the tag.

use std::collections::{BTreeMap, BTreeSet};

use calvin_consul::{
    health::{Check, CheckStatus, SERF_HEALTH, ServiceHealth, ServiceStatus},
    registered,
    roles::TagChange,
    txn::Op,
};
use calvin_model::{
    CatalogueRole, InstanceId,
    image::{ServiceSpec, Untagged},
};

/// Instances named in one sentence.
const NAMED: usize = 3;

/// Whether an instance's agent carries out what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agent {
    /// It is connected, and was not told long ago without doing it.
    Listens,
    /// It is away, or cannot.
    Silent,
}

/// What an instance needs to become active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing more: its fleet is not exclusive.
    Nothing,
    /// The lock of its fleet, which it holds, by this check.
    Holds(Op),
    /// The lock of its fleet; what is waited for.
    Lacks(String),
}

/// One instance of a fleet.
#[derive(Debug, Clone)]
pub(super) struct Member<'a> {
    /// The role that it is to have.
    pub(super) wanted: CatalogueRole,
    /// What its image serves; nothing where it does not join Consul: then nothing is read of it.
    pub(super) services: &'a [ServiceSpec],
    /// What it needs beside its entries to become active.
    pub(super) needs: Needs,
    /// Its agent.
    pub(super) agent: Agent,
    /// How its agent was told to be registered last, in this run.
    pub(super) told: Option<CatalogueRole>,
    /// What is registered of it.
    pub(super) entries: Vec<&'a ServiceHealth>,
}

/// An entry that nobody else will take out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Leftover {
    pub(super) node: String,
    pub(super) id: String,
    pub(super) service: String,
    pub(super) index: u64,
}

/// What is to be done, and what is seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Decision {
    /// The tags to change at once, green first.
    pub(super) changes: Vec<TagChange>,
    /// What must hold then beside the coordinator's own lock: that who becomes active holds the lock of its
    /// exclusive fleet.
    pub(super) lock: Option<Op>,
    /// How each agent is to be told to be registered.
    pub(super) tell: BTreeMap<InstanceId, CatalogueRole>,
    /// Entries that their agents do not take out.
    pub(super) leftovers: Vec<Leftover>,
    /// Why the tags are not changed yet.
    pub(super) waits: Option<String>,
    /// The roles as clients see them.
    pub(super) roles: BTreeMap<InstanceId, CatalogueRole>,
    /// The other role of those whose services differ.
    pub(super) mixed: BTreeMap<InstanceId, CatalogueRole>,
    /// Those whose checks do not hide them.
    pub(super) visible: Vec<InstanceId>,
    /// What Consul's own checks say, of those that have some.
    pub(super) checks: BTreeMap<InstanceId, Said>,
    /// Whether gossip says that its machine lives, of those of which it says something.
    pub(super) gossip: BTreeMap<InstanceId, Said>,
}

/// What answers say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// It passes, or lives.
    pub(super) well: bool,
    /// The names whose answers say so.
    pub(super) by: BTreeSet<String>,
}

impl Leftover {
    pub(super) fn of(entry: &ServiceHealth) -> Self {
        Self {
            node: entry.node.name.clone(),
            id: entry.service.id.clone(),
            service: entry.service.service.clone(),
            index: entry.service.modify_index,
        }
    }
}

impl Member<'_> {
    /// Its registrations under the service's own name.
    fn entered(&self, service: &ServiceSpec) -> impl Iterator<Item = &ServiceHealth> {
        let name = service.name.as_str().to_owned();
        let entries = self.entries.iter().copied();
        entries.filter(move |entry| entry.service.service == name)
    }

    /// The highest role in which one of its services is found.
    fn role_of(&self, service: &ServiceSpec) -> CatalogueRole {
        let roles = self.entries.iter().map(|entry| {
            let service_entry = &entry.service;
            registered::role(service, &service_entry.service, &service_entry.tags)
        });
        let highest = roles.max().unwrap_or_default();
        // Who was proven does no harm under the service's own name. It has left `active`, and cannot
        // leave that name: its agent is dead, or there is no other name.
        let stays = service.untagged == Untagged::All || self.agent == Agent::Silent;
        let entered = (self.wanted, highest) == (CatalogueRole::Standby, CatalogueRole::Entered);
        if entered && stays {
            CatalogueRole::Standby
        } else {
            highest
        }
    }

    /// How it is found: of the roles of its services the lowest and the highest. What is left of one
    /// that is to be absent counts as an entry.
    fn found(&self) -> (CatalogueRole, CatalogueRole) {
        if self.services.is_empty() {
            return (self.wanted, self.wanted);
        }
        let roles = || self.services.iter().map(|service| self.role_of(service));
        let highest = roles().max().unwrap_or_default();
        let lowest = roles().min().unwrap_or_default();
        if self.wanted == CatalogueRole::Absent && !self.entries.is_empty() {
            let least = highest.max(CatalogueRole::Standby);
            return (least, least);
        }
        (lowest, highest)
    }

    /// Whether every service of it is found, and no check hides it.
    fn visible(&self) -> bool {
        if self.services.is_empty() {
            return self.wanted != CatalogueRole::Absent;
        }
        self.services.iter().all(|service| {
            let role = |entry: &ServiceHealth| {
                registered::role(service, &entry.service.service, &entry.service.tags)
            };
            let entries = || self.entries.iter().copied();
            let highest = entries().map(role).max().unwrap_or_default();
            highest > CatalogueRole::Absent
                && entries().any(|entry| role(entry) == highest && is_shown(entry))
        })
    }

    /// Whether any of its registrations has a mark of the active.
    fn marked(&self) -> bool {
        let mut services = self.services.iter();
        services.any(|service| {
            let mut entries = self.entered(service);
            entries.any(|entry| has_mark(service, entry))
        })
    }

    /// Whether it can become active: every service of it is registered under its own name.
    fn is_there(&self) -> bool {
        let mut services = self.services.iter();
        services.all(|service| self.entered(service).next().is_some())
    }

    /// The changes that make it active, or take the marks of the active away.
    fn changes(&self) -> Vec<TagChange> {
        let becomes = match self.wanted {
            CatalogueRole::Active => CatalogueRole::Active,
            CatalogueRole::Absent | CatalogueRole::Standby | CatalogueRole::Entered => {
                CatalogueRole::Standby
            }
        };
        let mut changes = Vec::new();
        for service in self.services {
            for entry in self.entered(service) {
                let tags = registered::tags(service, becomes);
                let differs = match becomes {
                    CatalogueRole::Active => entry.service.tags != tags,
                    CatalogueRole::Absent | CatalogueRole::Standby | CatalogueRole::Entered => {
                        has_mark(service, entry)
                    }
                };
                if differs {
                    changes.push(TagChange {
                        node: entry.node.name.clone(),
                        service: entry.service.clone(),
                        tags,
                    });
                }
            }
        }
        changes
    }

    /// How its agent is to be told to be registered.
    fn tell(&self) -> CatalogueRole {
        if self.wanted == CatalogueRole::Active {
            // Its entry may be gone for a moment, with a Consul client that was begun anew: its agent
            // knows its last role.
            let is_active = self.is_there() && self.changes().is_empty();
            return if is_active || self.told == Some(CatalogueRole::Active) {
                CatalogueRole::Active
            } else {
                CatalogueRole::Entered
            };
        }
        if self.marked() {
            // Not before its tags were changed.
            return self.told.unwrap_or(CatalogueRole::Active);
        }
        self.wanted
    }
}

/// Whether clients find it: neither critical nor in maintenance.
fn is_shown(entry: &ServiceHealth) -> bool {
    match entry.status() {
        ServiceStatus::Passing | ServiceStatus::Warning => true,
        ServiceStatus::Critical | ServiceStatus::Maintenance => false,
    }
}

fn has_mark(service: &ServiceSpec, entry: &ServiceHealth) -> bool {
    let is_mark = |tag: &String| {
        let only_active = service.tags_active.contains(tag) && !service.tags.contains(tag);
        tag == registered::ACTIVE || only_active
    };
    entry.service.tags.iter().any(is_mark)
}

/// A check that Consul makes itself: neither gossip nor one that an agent only tells it.
fn is_own(check: &Check) -> bool {
    check.id != SERF_HEALTH && !check.service_id.is_empty() && !matches!(&*check.kind, "ttl" | "")
}

/// Decides for one fleet.
pub(super) fn decide(fleet: &BTreeMap<InstanceId, Member<'_>>) -> Decision {
    let mut decision = Decision::default();
    switch(fleet, &mut decision);
    lock(fleet, &mut decision);
    for (id, member) in fleet {
        look(id, member, &mut decision);
        if member.services.is_empty() {
            continue;
        }
        decision.tell.insert(id.clone(), member.tell());
        let goes = member.wanted == CatalogueRole::Absent && member.agent == Agent::Silent;
        if goes && !member.marked() {
            let leftovers = member.entries.iter().map(|entry| Leftover::of(entry));
            decision.leftovers.extend(leftovers);
        }
    }
    decision
}

/// The changes of tags, or why there are none yet.
fn switch(fleet: &BTreeMap<InstanceId, Member<'_>>, decision: &mut Decision) {
    let members = || fleet.values().filter(|member| !member.services.is_empty());
    let is_green = |member: &&Member<'_>| member.wanted == CatalogueRole::Active;
    let promoted = members().filter(is_green).filter(|one| one.is_there());
    let demoted = members().filter(|one| !is_green(one));
    let missing: Vec<&InstanceId> = fleet
        .iter()
        .filter(|(_, member)| !member.services.is_empty() && is_green(member) && !member.is_there())
        .map(|(id, _)| id)
        .collect();
    let before = members()
        .filter(|one| one.marked() && one.visible())
        .count();
    let after = promoted.clone().filter(|one| one.visible()).count();
    let takes_away = demoted.clone().any(|one| one.marked() && one.visible());
    // While nobody who is to be active can be found, who was stays so, also where a check hides him: he may
    // be back first.
    let wanted = members().any(|one| is_green(&one));
    if wanted && after == 0 && demoted.clone().any(|one| one.marked()) {
        decision.changes = promoted.flat_map(Member::changes).collect();
        decision.waits = Some(if missing.is_empty() {
            "one of those that are to be active to pass its checks in Consul".to_owned()
        } else {
            waits(&missing)
        });
        return;
    }
    if !missing.is_empty() && takes_away && after < before {
        // Who is hidden by a check serves nobody, and need not wait.
        let hidden = demoted.filter(|one| !one.visible());
        decision.changes = hidden.flat_map(Member::changes).collect();
        decision.waits = Some(waits(&missing));
        return;
    }
    let changes = promoted.chain(demoted).flat_map(Member::changes);
    decision.changes = changes.collect();
    if !missing.is_empty() {
        decision.waits = Some(waits(&missing));
    }
}

/// In an exclusive fleet nobody gets the tags of the active without its lock. Who has them and loses the
/// lock keeps them: his workload is ended then, and his checks say so.
fn lock(fleet: &BTreeMap<InstanceId, Member<'_>>, decision: &mut Decision) {
    let becomes_active = |member: &&Member<'_>| {
        member.wanted == CatalogueRole::Active && !member.changes().is_empty()
    };
    for member in fleet.values().filter(becomes_active) {
        match &member.needs {
            Needs::Nothing => {}
            Needs::Holds(check) => decision.lock = Some(check.clone()),
            Needs::Lacks(what) => {
                decision.changes.clear();
                decision.lock = None;
                decision.waits = Some(what.clone());
                return;
            }
        }
    }
}

fn waits(missing: &[&InstanceId]) -> String {
    let named: Vec<&str> = missing.iter().take(NAMED).map(|id| id.as_str()).collect();
    let rest = match missing.len().saturating_sub(NAMED) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    format!(
        "{}{rest} to be registered with Consul under the service's own name",
        named.join(", ")
    )
}

/// What is seen of one instance.
fn look(id: &InstanceId, member: &Member<'_>, decision: &mut Decision) {
    let (lowest, highest) = member.found();
    // Where its services differ it is not found as it is to be.
    let (role, other) = if lowest == member.wanted {
        (highest, lowest)
    } else {
        (lowest, highest)
    };
    if role != other {
        decision.mixed.insert(id.clone(), other);
    }
    if role != CatalogueRole::Absent {
        decision.roles.insert(id.clone(), role);
        if member.visible() {
            decision.visible.push(id.clone());
        }
    }
    let checks = |which: fn(&Check) -> bool| {
        // Under another name than those of its services nothing of it is watched.
        let is_its = |entry: &&&ServiceHealth| {
            let mut services = member.services.iter();
            let name = &entry.service.service;
            services.any(|one| *name == one.name.as_str() || *name == registered::standby_name(one))
        };
        let entries = member.entries.iter().filter(is_its);
        entries.flat_map(move |entry| {
            let checks = entry.checks.iter().filter(move |check| which(check));
            checks.map(|check| (entry.service.service.clone(), check))
        })
    };
    let by: BTreeSet<String> = checks(is_own).map(|(name, _)| name).collect();
    if !by.is_empty() {
        let well = checks(is_own).all(|(_, check)| check.status < CheckStatus::Critical);
        decision.checks.insert(id.clone(), Said { well, by });
    }
    // It is one check, in the answers of several names: the one that has seen more of its changes counts.
    let is_gossip = |check: &Check| check.id == SERF_HEALTH;
    let newest = checks(is_gossip).map(|(_, check)| (check.modify_index, check.status));
    if let Some((index, status)) = newest.max() {
        let same = checks(is_gossip).filter(|(_, check)| check.modify_index == index);
        let by = same.map(|(name, _)| name).collect();
        let well = status < CheckStatus::Critical;
        decision.gossip.insert(id.clone(), Said { well, by });
    }
}

#[cfg(test)]
mod tests;
