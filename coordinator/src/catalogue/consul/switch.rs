//! Carries out what is decided for each fleet: tells agents how to be registered, changes the tags in
//! one transaction, and takes out what is left of who is gone. What clients find is shown when it was
//! read back, never before.

mod clean;
mod exclusive;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use calvin_consul::{
    Client, Consistency, Error, Prefix,
    catalog::Node,
    health::ServiceHealth,
    policies::STANDBY_SUFFIX,
    roles::{TagChange, TagsOutcome},
    txn::Op,
};
use calvin_model::{CatalogueRole, EnvironmentName, FleetName, InstanceId, Registration};
use tokio::{sync::mpsc, time::Instant};

use super::{
    books::Books,
    census::{Census, Machines, census, joins_consul, members},
    decide::{Agent, Decision, Member, decide},
    ever::Ever,
    faults::About,
    ghosts::People,
    rounds::Rounds,
    shared::{Roles, Shared},
    watches::{News, Watches},
};
use crate::images::ImageStore;

/// Changes that follow from one another within one look: enter, switch, tell, and one more that shows
/// that nothing is left.
const ROUNDS: usize = 4;
/// An agent that was told to leave a name and has not after this is taken for one that cannot.
const OBEYS_WITHIN: Duration = Duration::from_secs(15);
/// A switch that waits for longer is shown to people.
const WAITS_QUIETLY: Duration = Duration::from_secs(10);

/// What it works with.
#[derive(Debug)]
pub(super) struct Switcher {
    client: Client,
    shared: Shared,
    machines: Arc<dyn Machines>,
    images: ImageStore,
    rounds: Rounds,
    environment: EnvironmentName,
    locks: Prefix,
    watches: Watches,
    news: mpsc::Receiver<News>,
    books: Books,
    nodes: Vec<Node>,
    /// How each agent was told to be registered, and since when.
    told: BTreeMap<InstanceId, (CatalogueRole, Instant)>,
    /// Since when the switch of a fleet waits.
    waits: BTreeMap<FleetName, Instant>,
    /// All that were on record in this run.
    ever: Ever,
    /// Nodes of machines without a record that lived when they were looked at.
    strays: BTreeMap<String, Instant>,
}

/// What became of a fleet's change.
#[derive(Debug)]
enum Changed {
    /// It was read back.
    Held,
    /// Not all of it was done, for this reason.
    Stopped(String),
    /// The lock is no longer ours.
    LockLost,
}

/// What the switcher shares with the coordinator's other parts.
#[derive(Debug)]
pub(super) struct SwitcherParts {
    pub(super) client: Client,
    pub(super) shared: Shared,
    pub(super) machines: Arc<dyn Machines>,
    pub(super) images: ImageStore,
    pub(super) rounds: Rounds,
    pub(super) environment: EnvironmentName,
    /// What the keys of the locks of exclusive fleets begin with.
    pub(super) locks: Prefix,
}

impl Switcher {
    pub(super) fn new(parts: SwitcherParts) -> Self {
        let (watches, news) =
            Watches::new(parts.client.clone(), parts.shared.clone(), &parts.locks);
        Self {
            client: parts.client,
            shared: parts.shared,
            machines: parts.machines,
            images: parts.images,
            rounds: parts.rounds,
            environment: parts.environment,
            locks: parts.locks,
            watches,
            news,
            books: Books::default(),
            nodes: Vec::new(),
            told: BTreeMap::new(),
            waits: BTreeMap::new(),
            ever: Ever::default(),
            strays: BTreeMap::new(),
        }
    }

    /// Goes on until it is dropped.
    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            tokio::select! {
                due = self.rounds.next() => if due.is_none() {
                    return;
                },
                () = shared.news() => {}
                Some(news) = self.news.recv() => self.take(news),
            }
            while let Ok(news) = self.news.try_recv() {
                self.take(news);
            }
            self.look().await;
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Service(name, seen) => {
                let mut state = self.shared.state();
                // One that is no longer watched may have had an answer on its way.
                let Some(health) = state.names.get_mut(&name) else {
                    return;
                };
                match seen {
                    Ok(seen) => {
                        health.answered();
                        state.suspect_after(seen.advance);
                        self.books.take(&name, seen.advance, seen.read.value);
                    }
                    Err(error) => {
                        health.failed(&error);
                        drop(state);
                        self.shared.poke();
                        tracing::debug!(%error, "a query failed");
                    }
                }
            }
            News::Nodes(Ok(seen)) => {
                self.shared.state().suspect_after(seen.advance);
                self.shared.works(&About::Nodes);
                self.nodes = seen.read.value;
            }
            News::Nodes(Err(error)) => self.shared.failed(&About::Nodes, &error),
        }
    }

    /// One look: shows what is there, and does what follows from it.
    async fn look(&mut self) {
        let view = self.rounds.view();
        // Who recovers tells nobody anything, and does not know who is his.
        if view.recovery.is_some() {
            return;
        }
        let census = census(&view, &self.images);
        let known = self.remember(&census);
        self.shared.state().locks.concern(members(&census));
        self.watch_names();
        // Who has not the lock tells nobody anything either: what is wanted may be another's to say.
        if self.shared.guard().is_none() {
            // What is not tried does not fail.
            self.shared.keep_faults(|about| match about {
                About::Tags(_) | About::Leftovers => false,
                About::Tokens | About::Token(..) | About::Debt(_) | About::Nodes | About::Locks => {
                    true
                }
            });
            return;
        }
        let mut leftovers = Vec::new();
        for _ in 0..ROUNDS {
            let wanted = self.shared.state().wanted.clone();
            let decisions = self.decide(&census, &wanted);
            self.tell(&census, &decisions);
            self.show(&known, &decisions);
            leftovers = decisions
                .values()
                .flat_map(|one| one.leftovers.iter().cloned())
                .collect();
            if !self.write(&decisions).await {
                break;
            }
        }
        match self.clean(&view, &known, leftovers).await {
            Ok(()) => self.shared.works(&About::Leftovers),
            Err(error) => self.shared.failed(&About::Leftovers, &error),
        }
    }

    /// Who is on record; who was is remembered for as long as something is left of it.
    fn remember(&mut self, census: &Census) -> BTreeSet<InstanceId> {
        let now = Instant::now();
        let mut known = BTreeSet::new();
        for (fleet, instances) in census {
            for instance in instances.keys() {
                self.ever.see(instance, fleet, now);
                known.insert(instance.clone());
            }
        }
        if self.ever.is_due(now) {
            let ours = self.books.ours(&self.environment);
            let mut left: BTreeSet<String> = ours.map(|one| one.instance.to_string()).collect();
            left.extend(self.nodes.iter().map(|node| node.name.clone()));
            self.ever
                .sweep(|instance| left.contains(instance.as_str()), now);
        }
        known
    }

    /// Watches every name that an image of this environment can be found under, also of images that
    /// nothing is made from any more: something may be left of them.
    fn watch_names(&mut self) {
        let images = self.images.list();
        let images = images.iter().filter(|image| joins_consul(image));
        let names: BTreeSet<String> = images
            .flat_map(|image| &image.manifest.services)
            .flat_map(|service| {
                let name = service.name.as_str();
                [name.to_owned(), format!("{name}{STANDBY_SUFFIX}")]
            })
            .collect();
        self.watches.keep(&names);
        self.books.keep_only(|name| names.contains(name));
        let whole = names.iter().all(|name| self.books.has_read(name));
        if whole && !self.shared.state().complete {
            self.shared.state().complete = true;
            // Where no image has a service, nothing was asked.
            if !names.is_empty() {
                tracing::info!(
                    names = names.len(),
                    "what is registered with Consul was read"
                );
            }
            self.shared.poke();
        }
    }

    /// Decides for every fleet whose roles are wanted, and of which all that matters was read.
    fn decide(
        &self,
        census: &Census,
        wanted: &BTreeMap<FleetName, Roles>,
    ) -> BTreeMap<FleetName, Decision> {
        let mut entries: BTreeMap<InstanceId, Vec<&ServiceHealth>> = BTreeMap::new();
        for one in self.books.ours(&self.environment) {
            entries.entry(one.instance).or_default().push(one.entry);
        }
        let listening = self.machines.reachable();
        let none = Roles::new();
        let mut decisions = BTreeMap::new();
        for (name, fleet) in census {
            let Some(wanted) = wanted.get(name) else {
                continue;
            };
            let mut members = BTreeMap::new();
            let mut is_read = true;
            for (id, known) in fleet {
                let services = known.services();
                let mut names = services.iter().map(|service| service.name.as_str());
                is_read &= known.is_recorded()
                    && names.all(|name| {
                        let standby = format!("{name}{STANDBY_SUFFIX}");
                        self.books.has_read(name) && self.books.has_read(&standby)
                    });
                let role = wanted.get(id).or_else(|| none.get(id));
                let role = role.copied().unwrap_or_default();
                let member = Member {
                    wanted: role,
                    services,
                    needs: self.needs(id, known),
                    agent: self.agent(id, role, &listening),
                    told: self.told.get(id).map(|(role, _)| *role),
                    entries: entries.remove(id).unwrap_or_default(),
                };
                members.insert(id.clone(), member);
            }
            if is_read {
                decisions.insert(name.clone(), decide(&members));
            }
        }
        decisions
    }

    fn agent(
        &self,
        id: &InstanceId,
        wanted: CatalogueRole,
        listening: &BTreeSet<InstanceId>,
    ) -> Agent {
        let told = self.told.get(id);
        let told_long_ago =
            told.is_some_and(|(role, since)| *role == wanted && since.elapsed() > OBEYS_WITHIN);
        if listening.contains(id) && !told_long_ago {
            Agent::Listens
        } else {
            Agent::Silent
        }
    }

    /// Tells agents how to be registered. Those of fleets that were not decided for stay as told.
    fn tell(&mut self, census: &Census, decisions: &BTreeMap<FleetName, Decision>) {
        for (id, role) in decisions.values().flat_map(|one| &one.tell) {
            let before = self.told.get(id).map(|(role, _)| *role);
            if before != Some(*role) {
                tracing::debug!(instance = %id, %role, "to be registered with Consul");
                self.told.insert(id.clone(), (*role, Instant::now()));
            }
        }
        let members = census.values().flatten();
        let registrations: BTreeMap<InstanceId, Registration> = members
            .filter_map(|(id, known)| {
                let told = self.told.get(id).map(|(role, _)| *role);
                // Who serves nothing has to know whether its work needs a lock.
                let role = told.or_else(|| known.serves_nothing().then(CatalogueRole::default))?;
                let registration = Registration {
                    role,
                    exclusive: known.exclusive,
                };
                Some((id.clone(), registration))
            })
            .collect();
        self.told.retain(|id, _| registrations.contains_key(id));
        self.machines.set_registrations(registrations);
    }

    /// Shows the engine what is seen.
    fn show(&mut self, known: &BTreeSet<InstanceId>, decisions: &BTreeMap<FleetName, Decision>) {
        let mut seen = decisions.clone();
        self.waits
            .retain(|name, _| seen.get(name).is_some_and(|one| one.waits.is_some()));
        for (name, one) in &mut seen {
            if one.waits.is_none() {
                continue;
            }
            let since = self.waits.entry(name.clone()).or_insert_with(Instant::now);
            if since.elapsed() < WAITS_QUIETLY {
                one.waits = None;
            }
        }
        let people = People {
            environment: &self.environment,
            known,
            ever: &self.ever,
        };
        let mut state = self.shared.state();
        // What the engine does not want any more while this was decided was cleared by it.
        seen.retain(|name, _| state.wanted.contains_key(name));
        let listed = people.listed(&self.books, &state.ghosts);
        let changed = state.seen != seen || state.listed != listed;
        state.seen = seen;
        state.listed = listed;
        drop(state);
        if changed {
            self.shared.poke();
        }
    }

    /// Changes the tags of each fleet that is to switch. Says whether anything is new.
    async fn write(&mut self, decisions: &BTreeMap<FleetName, Decision>) -> bool {
        let switches = |fleet: &FleetName| {
            let decision = decisions.get(fleet);
            decision.is_some_and(|decision| !decision.changes.is_empty())
        };
        self.shared.keep_faults(|about| match about {
            About::Tags(fleet) => switches(fleet),
            About::Tokens
            | About::Token(..)
            | About::Debt(_)
            | About::Nodes
            | About::Locks
            | About::Leftovers => true,
        });
        let mut news = false;
        let mut failed = false;
        for (fleet, decision) in decisions.iter().filter(|(fleet, _)| switches(fleet)) {
            // Without the lock nothing is written.
            let Some(guard) = self.shared.guard() else {
                return false;
            };
            let about = About::Tags(fleet.clone());
            match self.change(fleet, guard, decision).await {
                Ok(Changed::Held) => {
                    self.shared.works(&about);
                    news = true;
                }
                Ok(Changed::Stopped(why)) => {
                    self.shared.stopped(&about, &why);
                    news = true;
                }
                Ok(Changed::LockLost) => {}
                // A fleet whose change is refused holds up no other.
                Err(error) => {
                    self.shared.failed(&about, &error);
                    failed = true;
                }
            }
        }
        // What the others gave is looked at in the next second.
        news && !failed
    }

    async fn change(
        &mut self,
        fleet: &FleetName,
        guard: Op,
        decision: &Decision,
    ) -> Result<Changed, Error> {
        let started = Instant::now();
        let changes = &decision.changes;
        let guards: Vec<Op> = std::iter::once(guard)
            .chain(decision.lock.clone())
            .collect();
        match self.client.change_tags(&guards, changes).await {
            Ok(TagsOutcome::Held(held)) => {
                for (change, service) in changes.iter().zip(&held.services) {
                    self.books.wrote(&change.node, service);
                }
                tracing::info!(%fleet, services = changes.len(), transactions = held.transactions, took = ?started.elapsed(), "role tags changed, and read back");
                Ok(Changed::Held)
            }
            Ok(TagsOutcome::Stopped { done, failures }) => {
                let why = failures
                    .first()
                    .map_or_else(String::new, |one| one.what.clone());
                if decision.lock.is_some() {
                    // Somebody else may have the lock by now, which is no fault.
                    tracing::info!(%fleet, done, why, "a change of role tags was stopped: lock and tags are read again");
                    self.read_locks().await?;
                } else {
                    tracing::warn!(%fleet, done, why, "a change of role tags was stopped: they are read again");
                }
                self.read_again(changes).await?;
                // Where the lock was lost nothing can be done before it is back.
                let mut failures = failures.iter();
                Ok(if failures.any(|one| one.op_index == usize::MAX) {
                    Changed::LockLost
                } else {
                    Changed::Stopped(why)
                })
            }
            Ok(TagsOutcome::Undone { places }) => {
                tracing::warn!(%fleet, services = places.len(), "role tags were read back otherwise than written: they are read again");
                self.read_again(changes).await?;
                Ok(Changed::Stopped(
                    "they were read back otherwise than written".to_owned(),
                ))
            }
            Err(error) => {
                // It may have been done all the same.
                if let Err(error) = self.read_again(changes).await {
                    tracing::debug!(%error, "nor could the tags be read again");
                }
                Err(error)
            }
        }
    }

    /// Reads the services of these changes, as the leader and the others have them.
    async fn read_again(&mut self, changes: &[TagChange]) -> Result<(), Error> {
        let names: BTreeSet<&str> = changes
            .iter()
            .map(|change| change.service.service.as_str())
            .collect();
        for name in names {
            let read = self
                .client
                .service_health(name, Consistency::Consistent)
                .await?;
            self.books.replace(name, read.value);
        }
        Ok(())
    }
}
