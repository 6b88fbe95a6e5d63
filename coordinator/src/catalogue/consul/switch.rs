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
use calvin_engine::View;
use calvin_model::{CatalogueRole, EnvironmentName, FleetName, InstanceId, Registration};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    books::Books,
    census::{Census, Machines, census, joins_consul, members},
    decide::{Agent, Decision, Member, decide},
    ghosts::People,
    shared::{Roles, Shared},
    watches::{News, Watches},
};
use crate::images::ImageStore;

/// Between two looks without news: sessions that ended, and what was tried and failed.
const LOOK: Duration = Duration::from_secs(1);
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
    views: watch::Receiver<Arc<View>>,
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
    /// All that were ever on record in this run.
    ever: BTreeSet<InstanceId>,
    /// Nodes of machines without a record that lived when they were looked at.
    strays: BTreeMap<String, Instant>,
    /// What failed last; said once.
    said: Option<String>,
}

/// What the switcher shares with the coordinator's other parts.
#[derive(Debug)]
pub(super) struct SwitcherParts {
    pub(super) client: Client,
    pub(super) shared: Shared,
    pub(super) machines: Arc<dyn Machines>,
    pub(super) images: ImageStore,
    pub(super) views: watch::Receiver<Arc<View>>,
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
            views: parts.views,
            environment: parts.environment,
            locks: parts.locks,
            watches,
            news,
            books: Books::default(),
            nodes: Vec::new(),
            told: BTreeMap::new(),
            waits: BTreeMap::new(),
            ever: BTreeSet::new(),
            strays: BTreeMap::new(),
            said: None,
        }
    }

    /// Goes on until it is dropped.
    pub(super) async fn run(mut self) {
        let mut due = interval(LOOK);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shared = self.shared.clone();
        let mut fleets = None;
        loop {
            tokio::select! {
                _ = due.tick() => {}
                () = shared.news() => {}
                Some(news) = self.news.recv() => self.take(news),
                changed = self.views.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // There is a new picture several times a second, and seldom another instance.
                    let now = Arc::clone(&self.views.borrow_and_update().fleets);
                    let same = fleets.as_ref().is_some_and(|before| Arc::ptr_eq(before, &now));
                    if same {
                        continue;
                    }
                    fleets = Some(now);
                }
            }
            while let Ok(news) = self.news.try_recv() {
                self.take(news);
            }
            match self.look().await {
                Ok(()) => self.said = None,
                Err(error) => self.say(&error),
            }
        }
    }

    fn say(&mut self, error: &Error) {
        let text = calvin_engine::chain(error);
        if self.said.as_ref() != Some(&text) {
            tracing::warn!(error = %text, "could not change the catalogue; it is tried again");
            self.said = Some(text);
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
            News::Nodes(Ok(seen)) => self.nodes = seen.read.value,
            News::Nodes(Err(error)) => tracing::debug!(%error, "the nodes could not be listed"),
            News::Locks(seen) => self.hear_locks(seen),
        }
    }

    /// One look: shows what is there, and does what follows from it.
    async fn look(&mut self) -> Result<(), Error> {
        let view = Arc::clone(&self.views.borrow());
        // Who recovers tells nobody anything, and does not know who is his.
        if view.recovery.is_some() {
            return Ok(());
        }
        let census = census(&view, &self.images);
        let known: BTreeSet<InstanceId> = census
            .values()
            .flat_map(|fleet| fleet.keys().cloned())
            .collect();
        self.ever.extend(known.iter().cloned());
        self.shared.state().locks.concern(members(&census));
        self.watch_names();
        // Who has not the lock tells nobody anything either: what is wanted may be another's to say.
        if self.shared.guard().is_none() {
            return Ok(());
        }
        let mut leftovers = Vec::new();
        let mut written = Ok(());
        for _ in 0..ROUNDS {
            let wanted = self.shared.state().wanted.clone();
            let decisions = self.decide(&census, &wanted);
            self.tell(&census, &decisions);
            self.show(&known, &decisions);
            let changes = |one: &Decision| !one.changes.is_empty();
            leftovers = decisions
                .values()
                .flat_map(|one| one.leftovers.iter().cloned())
                .collect();
            if !decisions.values().any(changes) {
                break;
            }
            match self.write(&decisions).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    written = Err(error);
                    break;
                }
            }
        }
        written.and(self.clean(&view, &known, leftovers).await)
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
            tracing::info!(
                names = names.len(),
                "what is registered with Consul was read"
            );
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
                let (role, _) = self.told.get(id)?;
                let registration = Registration {
                    role: *role,
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
    async fn write(&mut self, decisions: &BTreeMap<FleetName, Decision>) -> Result<bool, Error> {
        let mut news = false;
        // A fleet whose change is refused holds up no other.
        let mut failed = None;
        for (fleet, decision) in decisions {
            if decision.changes.is_empty() {
                continue;
            }
            // Without the lock nothing is written.
            let Some(guard) = self.shared.guard() else {
                return Ok(false);
            };
            match self.change(fleet, guard, decision).await {
                Ok(new) => news |= new,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            // What the others gave is looked at in the next second.
            Some(error) => Err(error),
            None => Ok(news),
        }
    }

    async fn change(
        &mut self,
        fleet: &FleetName,
        guard: Op,
        decision: &Decision,
    ) -> Result<bool, Error> {
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
                Ok(true)
            }
            Ok(TagsOutcome::Stopped { done, failures }) => {
                let why = failures.first().map_or("", |failure| failure.what.as_str());
                if decision.lock.is_some() {
                    // Somebody else may have the lock by now, which is no fault.
                    tracing::info!(%fleet, done, why, "a change of role tags was stopped: lock and tags are read again");
                    self.read_locks().await?;
                } else {
                    tracing::warn!(%fleet, done, why, "a change of role tags was stopped: they are read again");
                }
                self.read_again(changes).await?;
                // Where the lock was lost nothing can be done before it is back.
                Ok(failures
                    .iter()
                    .all(|failure| failure.op_index != usize::MAX))
            }
            Ok(TagsOutcome::Undone { places }) => {
                tracing::warn!(%fleet, services = places.len(), "role tags were read back otherwise than written: they are read again");
                self.read_again(changes).await?;
                Ok(true)
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
