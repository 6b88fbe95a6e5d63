//! Carries out what is decided for each fleet: tells agents how to be registered, changes the tags in
//! one transaction, and takes out what is left of who is gone. What clients find is shown when it was
//! read back, never before.

mod clean;
mod exclusive;
mod turns;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use calvin_consul::{
    Advance, Client, Error, Prefix, catalog::Node, health::ServiceHealth, policies::STANDBY_SUFFIX,
};
use calvin_model::{CatalogueRole, EnvironmentName, FleetName, InstanceId, Registration};
use tokio::{sync::mpsc, time::Instant};

use self::{clean::Cleaning, turns::Pace, write::Wrote};
use super::{
    books::Books,
    census::{Census, Client as RunBy, Known, Machines, census, client_of, joins_consul, members},
    decide::{Agent, Decision, Member, decide},
    ever::Ever,
    faults::About,
    ghosts::People,
    names::{Uses, names},
    owners::Owners,
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
    uses: Uses,
    /// Which value of each name the books have, and when it was given.
    taken: BTreeMap<String, (u64, Instant)>,
    nodes: Vec<Node>,
    /// How each agent was told to be registered, and since when.
    told: BTreeMap<InstanceId, (CatalogueRole, Instant)>,
    /// Since when the switch of a fleet waits.
    waits: BTreeMap<FleetName, Instant>,
    /// All that were on record in this run.
    ever: Ever,
    owners: Owners,
    /// Nodes of machines without a record that lived when they were looked at.
    strays: BTreeMap<String, Instant>,
    /// The fleet whose tags were changed last.
    switched: Option<FleetName>,
    cleaning: Cleaning,
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
            owners: Owners::new(parts.environment.clone()),
            environment: parts.environment,
            locks: parts.locks,
            watches,
            news,
            books: Books::default(),
            uses: Uses::default(),
            taken: BTreeMap::new(),
            nodes: Vec::new(),
            told: BTreeMap::new(),
            waits: BTreeMap::new(),
            ever: Ever::default(),
            strays: BTreeMap::new(),
            switched: None,
            cleaning: Cleaning::default(),
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
            self.take_waiting();
            self.look().await;
        }
    }

    /// Takes what was read since.
    fn take_waiting(&mut self) {
        while let Ok(news) = self.news.try_recv() {
            self.take(news);
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Service(value) => {
                let state = self.shared.state();
                // One that is no longer watched may have had an answer on its way.
                let reading = state.names.get(&value.name);
                if reading.is_some_and(|reading| reading.is_its(value.number)) {
                    drop(state);
                    self.taken
                        .insert(value.name.clone(), (value.number, value.at));
                    self.books.take(&value.name, value.advance, value.entries);
                }
            }
            News::Seldom(name, read) => self.take_seldom(name, read),
            News::Nodes(Ok(seen)) => {
                self.shared.state().suspect_after(seen.advance);
                self.shared.works(&About::Nodes);
                self.nodes = seen.read.value;
            }
            News::Nodes(Err(error)) => self.shared.failed(&About::Nodes, &error),
        }
    }

    fn take_seldom(&mut self, name: String, read: Result<(Advance, Vec<ServiceHealth>), Error>) {
        // One that is watched by now is known better.
        if self.shared.state().names.contains_key(&name) {
            return;
        }
        match read {
            Ok((advance, entries)) => {
                self.cleaning.unread.remove(&name);
                self.books.take_seldom(&name, advance, entries);
            }
            Err(error) => drop(self.cleaning.unread.insert(name, error)),
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
        self.ask_for_names(&census);
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
        let pace = Pace::begin();
        let mut leftovers = Vec::new();
        for round in 0..ROUNDS {
            if round > 0 {
                self.take_waiting();
            }
            self.owners.place(&self.books);
            let wanted = self.shared.state().wanted.clone();
            let decisions = self.decide(&census, &wanted);
            self.tell(&census, &decisions);
            self.show(&known, &decisions);
            leftovers = decisions
                .values()
                .flat_map(|one| one.leftovers.iter().cloned())
                .collect();
            match self.write(&decisions, &pace).await {
                Wrote::News => {}
                Wrote::Nothing => break,
                // What is new comes first, also of what is seen.
                Wrote::NotAll => return,
            }
        }
        self.clean(&view, &known, leftovers, &pace).await;
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
            let ours = self.owners.ours(&self.books);
            let mut left: BTreeSet<String> = ours.map(|one| one.instance.to_string()).collect();
            left.extend(self.nodes.iter().map(|node| node.name.clone()));
            self.ever
                .sweep(|instance| left.contains(instance.as_str()), now);
        }
        let images = self.images.list();
        let elsewhere = images
            .iter()
            .filter(|image| client_of(image) == RunBy::Elsewhere);
        let elsewhere = elsewhere.map(|image| image.manifest.tag().to_string());
        let ever = &self.ever;
        self.owners
            .see(census, elsewhere.collect(), |one| ever.contains(one));
        known
    }

    /// Asks for every name that an image of this environment can be found under, also of images that
    /// nothing is made from any more: something may be left of them.
    fn ask_for_names(&mut self, census: &Census) {
        let images = self.images.list();
        let images = images.iter().filter(|image| joins_consul(image));
        let of_images = names(images.flat_map(|image| &image.manifest.services));
        let members = census.values().flat_map(BTreeMap::values);
        let used = names(members.flat_map(Known::services));
        let names = self.uses.sort(used, of_images, Instant::now());
        self.watches.keep(&names);
        self.books.keep_only(|name| names.contains(name));
        self.books.hear_only(|name| names.watched.contains(name));
        self.taken.retain(|name, _| names.watched.contains(name));
        self.cleaning
            .unread
            .retain(|name, _| names.seldom.contains(name));
        let whole = names.used.iter().all(|name| self.books.has_read(name));
        if whole && !self.shared.state().complete {
            self.shared.state().complete = true;
            // Where nobody has a service, nothing was asked.
            if !names.used.is_empty() {
                tracing::info!(
                    names = names.used.len(),
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
        for one in self.owners.ours(&self.books) {
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
            owners: &self.owners,
            known,
            ever: &self.ever,
        };
        let mut state = self.shared.state();
        // What the engine does not want any more while this was decided was cleared by it.
        seen.retain(|name, _| state.wanted.contains_key(name));
        let listed = people.listed(&self.books, &state.ghosts);
        state.show_foreign(self.owners.foreign(&self.books));
        let changed = state.seen != seen || state.listed != listed;
        state.seen = seen;
        state.listed = listed;
        let now = Instant::now();
        for (name, (number, at)) in &self.taken {
            if let Some(reading) = state.names.get_mut(name) {
                reading.shows(*number, *at, now);
            }
        }
        drop(state);
        if changed {
            self.shared.poke();
        }
    }
}
