//! What is to be done at the Consul client, from what is wanted and what was read. Pure.
//!
//! - A new name is registered, and read back from the servers, before the old one goes.
//! - The role tags under a service's own name are the coordinator's: it changes them in the catalogue,
//!   by a transaction. So whatever is registered there takes the tags that the catalogue shows; where
//!   it shows nothing, those of the role that was told last, and `exclusive` never as active.
//! - A check that goes on under another name begins with the state that it had under the old one.
//!   In a new boot all begin critical.
//! - Whatever is registered says how it is, also while something else about it waits or fails.

#[cfg(test)]
mod tests;
mod word;

use std::{collections::BTreeMap, net::IpAddr};

use calvin_consul::{
    agent::{CheckRegistration, ServiceRegistration},
    catalog::CatalogService,
    health::{Check, CheckStatus},
    registered,
};
use calvin_model::{
    BootId, CatalogueRole, ImageManifest, Provision, Registration, image::ServiceSpec,
};

use super::{
    entry::Place,
    own::{Own, OwnWord},
};

/// Services by their ids.
pub(super) type Services = BTreeMap<String, CatalogService>;

/// Everything that a plan rests on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) manifest: &'a ImageManifest,
    pub(super) provision: &'a Provision,
    pub(super) boot: &'a BootId,
    /// The machine's address.
    pub(super) address: IpAddr,
    /// What the coordinator said last.
    pub(super) wanted: Registration,
    /// What the agent knows itself.
    pub(super) own: &'a Own,
    /// Registered at the client.
    pub(super) services: &'a Services,
    /// Their checks, and others', by id.
    pub(super) checks: &'a BTreeMap<String, Check>,
    /// What the servers have of this node; `None` where they were not asked.
    pub(super) catalogue: Option<&'a Services>,
    /// Whether it was registered in this boot before.
    pub(super) before: Before,
    /// Whether the agent's word is to be said again although nothing changed.
    pub(super) refresh: Refresh,
    /// Whether everything is to be registered again although nothing changed.
    pub(super) renew: Renew,
}

/// Whether an instance was registered in this boot before, as far as the agent remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// Not that it knew.
    Never,
    /// It was: what is missing now was lost.
    InThisBoot,
}

/// Whether the agent's word is due to be said again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refresh {
    /// It holds.
    NotYet,
    /// Its time goes by.
    Due,
}

/// Whether what is registered may have been with another token. The client keeps the token of each
/// registration and goes on with it for its anti-entropy, until it is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renew {
    /// It was with this one.
    Nothing,
    /// Nobody knows.
    Everything,
}

/// One thing to do at the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operation {
    /// Register this, in place of what has its id.
    Register(Box<ServiceRegistration>),
    /// Remove this service.
    Deregister {
        /// Its id.
        id: String,
    },
    /// Say the state of the agent's own check.
    Say {
        /// The check's id.
        check: String,
        /// Its state.
        status: CheckStatus,
        /// Why.
        output: String,
    },
}

/// Whether what was read is enough to decide on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Look {
    /// It is.
    Enough,
    /// The servers must be asked what they have of this node.
    Servers,
}

/// What to do, and what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// In this order.
    pub(super) operations: Vec<Operation>,
    /// The role in which all services are registered now.
    pub(super) registered: CatalogueRole,
    /// Whether that is the role that was told.
    pub(super) step: Step,
    /// Whether more must be read before the rest can be decided.
    pub(super) look: Look,
    /// What the client has and the servers do not show.
    pub(super) missing: Option<String>,
}

impl Plan {
    /// Whether there is anything to do, or to ask of the servers before it can be done.
    pub(super) fn is_due(&self) -> bool {
        self.step == Step::Out || self.look == Look::Servers || !self.operations.is_empty()
    }
}

/// Whether what is registered is as it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// It is.
    In,
    /// Not yet, or not any more.
    Out,
}

/// What was decided of one service.
struct Decided {
    operations: Vec<Operation>,
    role: CatalogueRole,
    step: Step,
    look: Look,
    missing: Option<String>,
}

impl Decided {
    fn new(role: CatalogueRole, step: Step) -> Self {
        Self {
            operations: Vec::new(),
            role,
            step,
            look: Look::Enough,
            missing: None,
        }
    }
}

/// Decides what is to be done now. What follows from it is planned by the next call, with what is
/// read then.
pub(super) fn plan(facts: &Facts<'_>) -> Plan {
    let told = facts.own.role(facts.wanted.role);
    let mut plan = Plan {
        operations: Vec::new(),
        registered: told,
        step: Step::In,
        look: Look::Enough,
        missing: None,
    };
    let mut roles = Vec::new();
    for service in &facts.manifest.services {
        let decided = match registered::name(service, told) {
            None => absent(facts, service),
            Some(name) => present(facts, &Place::new(facts, service, name), told),
        };
        plan.operations.extend(decided.operations);
        plan.step = plan.step.max(decided.step);
        plan.look = plan.look.max(decided.look);
        plan.missing = plan.missing.or(decided.missing);
        roles.push(match decided.step {
            Step::In => told,
            Step::Out => decided.role,
        });
    }
    // The farthest from what was told is what all of them have reached.
    let reached = match told {
        CatalogueRole::Absent => roles.into_iter().max(),
        CatalogueRole::Standby | CatalogueRole::Entered | CatalogueRole::Active => {
            roles.into_iter().min()
        }
    };
    plan.registered = reached.unwrap_or(told);
    plan
}

/// The two names that a service may have.
fn places<'a>(facts: &Facts<'_>, service: &'a ServiceSpec) -> [Place<'a>; 2] {
    let own = service.name.as_str().to_owned();
    [own, registered::standby_name(service)].map(|name| Place::new(facts, service, name))
}

fn absent(facts: &Facts<'_>, service: &ServiceSpec) -> Decided {
    let mut decided = Decided::new(CatalogueRole::Absent, Step::In);
    for place in places(facts, service) {
        if let Some(found) = facts.services.get(&place.id) {
            let role = registered::role(service, &place.name, &found.tags);
            decided.role = decided.role.max(role);
            decided.step = Step::Out;
            let id = place.id;
            decided.operations.push(Operation::Deregister { id });
        }
    }
    decided
}

fn present(facts: &Facts<'_>, place: &Place<'_>, told: CatalogueRole) -> Decided {
    let service = place.service;
    let mut others: Vec<_> = places(facts, service)
        .into_iter()
        .filter(|other| other.id != place.id && facts.services.contains_key(&other.id))
        .collect();
    let found = facts.services.get(&place.id);
    let of_this_boot = found.filter(|found| is_of(found, facts.boot));
    let expected = registered::role(service, &place.name, &registered::tags(service, told));
    let checks = checks(facts, place, &others);
    let local = of_this_boot.filter(|found| {
        facts.renew == Renew::Nothing
            && place.is_as(facts, found)
            && has_checks(facts, place, &checks)
            && { place.is_own_name() || found.tags == registered::tags(service, told) }
    });
    let shown = facts.catalogue.map(|services| services.get(&place.id));
    let mut decided = Decided::new(CatalogueRole::Absent, Step::Out);
    let Some(local) = local else {
        decided.role = others_role(facts, &others);
        let Some(shown) = shown else {
            // Also where no tags depend on it: whether it was lost or never there is known there.
            decided.look = Look::Servers;
            let there = found.map(|_| place).into_iter().chain(&others);
            decided.operations.extend(word::of(facts, there).says);
            return decided;
        };
        if found.is_some() && of_this_boot.is_none() {
            let id = place.id.clone();
            decided.operations.push(Operation::Deregister { id });
        }
        let tags = tags(facts, place, told, [shown, found]);
        let wanted = place.registration(facts, tags, checks);
        let operation = Operation::Register(Box::new(wanted));
        decided.operations.push(operation);
        // The client may refuse that for as long as its disk is full.
        let there = of_this_boot.map(|_| place).into_iter().chain(&others);
        decided.operations.extend(word::of(facts, there).says);
        return decided;
    };
    decided.role = registered::role(service, &place.name, &local.tags);
    match shown {
        None if decided.role != expected || !others.is_empty() => decided.look = Look::Servers,
        None => decided.step = Step::In,
        // It was registered at the client and has not come to the servers.
        Some(None) => {
            decided.role = CatalogueRole::Absent;
            decided.missing = Some(place.id.clone());
        }
        Some(Some(shown)) => {
            decided.role = registered::role(service, &place.name, &shown.tags);
            if decided.role == expected {
                decided.step = Step::In;
            }
            if place.is_own_name() && shown.tags != local.tags {
                // The client sends its tags along with each check that changes: until it has those
                // of the servers, it may undo them.
                let wanted = place.registration(facts, shown.tags.clone(), checks);
                let operation = Operation::Register(Box::new(wanted));
                decided.operations.push(operation);
            }
            let id = |other: Place<'_>| Operation::Deregister { id: other.id };
            decided.operations.extend(others.drain(..).map(id));
        }
    }
    // What stays under another name is what people find until the servers show this one.
    let words = word::of(facts, std::iter::once(place).chain(&others));
    if words.waits && facts.catalogue.is_none() {
        decided.look = Look::Servers;
    }
    decided.operations.extend(words.says);
    decided
}

fn is_of(found: &CatalogService, boot: &BootId) -> bool {
    found.meta.get(registered::BOOT).map(String::as_str) == Some(boot.as_str())
}

/// What an instance shows while it is not yet where it is to be.
fn others_role(facts: &Facts<'_>, others: &[Place<'_>]) -> CatalogueRole {
    let role = |other: &Place<'_>| {
        let found = facts.services.get(&other.id)?;
        Some(registered::role(other.service, &other.name, &found.tags))
    };
    others.iter().filter_map(role).max().unwrap_or_default()
}

/// The tags to register with. `known` is what is there of it, what counts more first.
fn tags(
    facts: &Facts<'_>,
    place: &Place<'_>,
    told: CatalogueRole,
    known: [Option<&CatalogService>; 2],
) -> Vec<String> {
    if !place.is_own_name() {
        return registered::tags(place.service, told);
    }
    if let Some(known) = known.into_iter().flatten().next() {
        return known.tags.clone();
    }
    let everywhere = [Some(facts.services), facts.catalogue];
    let anywhere = |other: &Place<'_>| {
        let mut lists = everywhere.into_iter().flatten();
        lists.any(|services| services.contains_key(&other.id))
    };
    let known = places(facts, place.service).iter().any(anywhere);
    let role = match told {
        // It was never found as active: the coordinator has yet to say so in the catalogue. And of
        // exclusive ones another may be active by now.
        CatalogueRole::Active if facts.wanted.exclusive || known => CatalogueRole::Entered,
        CatalogueRole::Absent
        | CatalogueRole::Standby
        | CatalogueRole::Entered
        | CatalogueRole::Active => told,
    };
    registered::tags(place.service, role)
}

/// The checks of a registration, each with the state that it begins with.
fn checks(facts: &Facts<'_>, place: &Place<'_>, others: &[Place<'_>]) -> Vec<CheckRegistration> {
    let ids = std::iter::once(&place.id).chain(others.iter().map(|other| &other.id));
    let same_boot: Vec<&String> = ids
        .filter(|id| {
            let found = facts.services.get(*id);
            found.is_some_and(|found| is_of(found, facts.boot))
        })
        .collect();
    let status_of = |check_id: &dyn Fn(&str) -> String| {
        let mut ids = same_boot.iter();
        ids.find_map(|id| facts.checks.get(&check_id(id)))
            .map(|check| check.status)
    };
    let shown_in_boot = facts.catalogue.is_some_and(|services| {
        let mut ids = places(facts, place.service)
            .map(|place| place.id)
            .into_iter();
        ids.any(|id| {
            services
                .get(&id)
                .is_some_and(|found| is_of(found, facts.boot))
        })
    });
    let lost = shown_in_boot || facts.before == Before::InThisBoot;
    let begin = |word: &OwnWord| match word {
        OwnWord::Passing if lost || !same_boot.is_empty() => Some(CheckStatus::Passing),
        // One that begins to count with a role and has not run yet says nothing against it.
        OwnWord::Open if !same_boot.is_empty() => None,
        OwnWord::Passing | OwnWord::Open | OwnWord::Failing(_) => Some(CheckStatus::Critical),
    };
    let mut checks = Vec::new();
    for check in &facts.own.checks {
        let known = status_of(&|id| registered::check_id(id, check.place));
        if let Some(status) = known.or_else(|| begin(&check.word)) {
            checks.extend(place.check(facts, check.place, status));
        }
    }
    let word = facts.own.word(facts.manifest);
    let status = status_of(&registered::agent_check_id).or_else(|| begin(&word));
    checks.push(place.agent_check(status.unwrap_or(CheckStatus::Critical)));
    checks
}

/// Whether the client has exactly these checks of ours.
fn has_checks(facts: &Facts<'_>, place: &Place<'_>, wanted: &[CheckRegistration]) -> bool {
    let prefix = format!("{}:", place.id);
    let ours = facts
        .checks
        .values()
        .filter(|check| check.service_id == place.id && check.id.starts_with(&prefix))
        .count();
    ours == wanted.len()
        && wanted.iter().all(|wanted| {
            let found = facts.checks.get(&wanted.id);
            found.is_some_and(|found| found.service_id == place.id)
        })
}
