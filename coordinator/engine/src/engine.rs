//! The loop around the planner: look, decide, commit, act, show.
//!
//! Nothing is acted on that was not committed before, and what is acted on is planned again until
//! it is seen to be done: the next pass retries, never the action. So a crash between any two
//! steps costs time only.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use calvin_model::{Epoch, FleetName, Mutant, RunId};
use calvin_planner::{
    EnvironmentRules, EnvironmentState, Event, FleetReport, FleetState, InvariantId, Moment,
    Observed, PlanInput, invariant::check,
};

use crate::{
    act::Told,
    away,
    batch::batch_of,
    clock::DecisionClock,
    commit::taken_over,
    decide::{Decide, Planner},
    entries::Manifests,
    hold::{Held, Hold, chain},
    look::{Addresses, Look, look},
    ports::{Batch, Ports, Revision, StoreError},
    recover::Recovery,
    tell::news,
    view::{Notice, View},
    windows::Windows,
};

/// The engine of one run of a coordinator.
#[derive(Debug)]
pub struct Engine<P, D = Planner> {
    pub(crate) ports: P,
    pub(crate) decide: D,
    pub(crate) epoch: Epoch,
    pub(crate) started: Duration,
    pub(crate) random: fastrand::Rng,
    /// The committed state.
    pub(crate) revision: Revision,
    pub(crate) fleets: Arc<BTreeMap<FleetName, FleetState>>,
    pub(crate) environment: Arc<EnvironmentState>,
    /// What `calvin.toml` says.
    pub(crate) rules: Arc<EnvironmentRules>,
    /// How many rollouts fleets had that were removed.
    pub(crate) gone: Arc<BTreeMap<FleetName, u64>>,
    /// Grows with each change of `fleets`.
    pub(crate) fleets_version: u64,
    pub(crate) clock: DecisionClock,
    pub(crate) committed_moment: Moment,
    pub(crate) hold: Hold,
    /// Nothing is decided while the catalogue says so.
    outside: Option<Held>,
    pub(crate) addresses: Addresses,
    windows: Windows,
    pub(crate) manifests: Manifests,
    pub(crate) told: Told,
    /// What the catalogue did by itself, until it is committed to the history.
    pub(crate) deeds: Vec<Event>,
    pub(crate) reports: Arc<BTreeMap<FleetName, FleetReport>>,
    pub(crate) observed: Arc<Observed>,
    notices: Arc<Vec<Notice>>,
    pub(crate) passes: u64,
    /// Rules that plans of this run broke.
    breaches: u64,
    breaches_by_rule: Arc<BTreeMap<InvariantId, u64>>,
    /// Nothing is decided until a person approves what is found.
    pub(crate) recovery: Option<Recovery>,
    /// Providers whose machines' tags were compared with this run's epoch. Once is enough: what
    /// is made from now on is made by this run.
    pub(crate) tags_compared: BTreeSet<String>,
    view: Arc<View>,
}

/// What a pass did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassOutcome {
    /// It decided.
    Decided {
        /// Whether the state changed: another pass at once may find more to do.
        changed: bool,
        /// Actions carried out.
        actions: usize,
    },
    /// It only looked: the store does not work.
    Held,
    /// This run has ended for good; the view says why.
    Stopped,
}

/// Why a run of the engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state could not be read.
    #[error("could not load the state of the environment")]
    Load(#[source] StoreError),
    /// A new epoch could not be committed, so nothing may be told to anybody.
    #[error("could not take epoch {number}")]
    Epoch {
        /// The number that was to be taken.
        number: u64,
        /// Why.
        #[source]
        source: StoreError,
    },
}

/// A commit did not happen.
#[derive(Debug)]
pub(crate) struct NotCommitted(pub(crate) StoreError);

impl<P: Ports> Engine<P, Planner> {
    /// Loads the state, takes a new epoch and goes on from the stored moment.
    ///
    /// # Errors
    /// The store cannot be read or written, or another coordinator writes to it.
    pub fn start(ports: P, run: RunId, seed: u64) -> Result<Self, StartError> {
        Self::start_with(ports, Planner, run, seed)
    }
}

impl<P: Ports, D: Decide> Engine<P, D> {
    /// As `start`, with decisions that are not the planner's: for tests of the executor.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_with(mut ports: P, decide: D, run: RunId, seed: u64) -> Result<Self, StartError> {
        let stored = ports.store().load().map_err(StartError::Load)?;
        let grows = u64::from(!Mutant::KeepEpoch.lives());
        let number = stored.epoch.as_ref().map_or(0, |epoch| epoch.number) + grows;
        let epoch = Epoch { number, run };
        let wall_ms = ports.clock().wall_ms();
        let batch = Batch {
            moment: stored.moment,
            wall_ms,
            epoch: Some(epoch.clone()),
            history: away::back(&stored, number, wall_ms).into_iter().collect(),
            ..Batch::default()
        };
        let revision = ports
            .store()
            .commit(stored.revision, &batch)
            .map_err(|source| StartError::Epoch { number, source })?;
        tracing::info!(%epoch, moment = %stored.moment, fleets = stored.fleets.len(), "started");
        let now = ports.clock().monotonic();
        let fleets = Arc::new(stored.fleets);
        let gone = Arc::new(stored.gone);
        let environment = Arc::new(stored.environment);
        let rules = Arc::new(ports.rules());
        let recovery = stored.recovering.map(Recovery::new);
        let view = View {
            number: 0,
            epoch: epoch.clone(),
            moment: stored.moment,
            up: Duration::ZERO,
            wall_ms,
            revision,
            held: None,
            // Who looks before the first pass must not take this store for the world.
            recovery: recovery.as_ref().map(Recovery::shown),
            breaches: 0,
            breaches_by_rule: Arc::default(),
            environment: Arc::clone(&environment),
            rules: Arc::clone(&rules),
            fleets: Arc::clone(&fleets),
            gone: Arc::clone(&gone),
            reports: Arc::default(),
            observed: Arc::default(),
            catalogue: Arc::default(),
            notices: Arc::default(),
        };
        if let Some(recovery) = &recovery {
            recovery.begin(&mut ports);
        }
        Ok(Self {
            ports,
            decide,
            epoch,
            started: now,
            random: fastrand::Rng::with_seed(seed),
            revision,
            fleets,
            environment,
            rules,
            gone,
            fleets_version: 1,
            clock: DecisionClock::resume(stored.moment, now),
            committed_moment: stored.moment,
            hold: Hold::None,
            outside: None,
            addresses: Addresses::default(),
            windows: Windows::default(),
            manifests: Manifests::default(),
            told: Told::default(),
            deeds: Vec::new(),
            reports: Arc::default(),
            observed: Arc::default(),
            notices: Arc::default(),
            passes: 0,
            breaches: 0,
            breaches_by_rule: Arc::default(),
            recovery,
            tags_compared: BTreeSet::new(),
            view: Arc::new(view),
        })
    }

    /// The epoch that this run took.
    #[must_use]
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The world, for who owns both.
    pub fn ports_mut(&mut self) -> &mut P {
        &mut self.ports
    }

    /// The newest picture of the engine, to be shared with other threads.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// Looks, decides, commits, acts, and shows what it did. To be called again at each news, and
    /// at least every 250 ms.
    pub fn pass(&mut self) -> PassOutcome {
        let now = self.ports.clock().monotonic();
        let watching_for = self.clock.look(now);
        let Look {
            observed,
            mut notices,
            ghosts,
        } = look(
            &mut self.ports,
            &self.fleets,
            &mut self.addresses,
            &mut self.windows,
            watching_for,
        );
        self.observed = Arc::new(observed);
        if !self.ready(now) {
            self.clock.stand_still(now);
            // Nor does silence grow while the decision clock, by which orders are old, stands still.
            self.clock.watch_anew(now);
            return self.rest(now, notices);
        }
        self.notice_being_behind();
        if self.recovery.is_some() {
            return self.compare(now, watching_for, notices);
        }
        if self.is_held_outside() {
            self.clock.stand_still(now);
            self.clock.watch_anew(now);
            return self.rest(now, notices);
        }
        let moment = self.clock.advance(now);
        let input = PlanInput {
            now: moment,
            seed: self.random.u64(..),
            wall_ms: self.ports.clock().wall_ms(),
            environment: &self.environment,
            rules: &self.rules,
            fleets: &self.fleets,
            observed: &self.observed,
        };
        let mut plan = self.decide.plan(&input);
        // Counted and shown, in production too. What must not happen in any case is refused again
        // before it is carried out.
        let broken = check(&input, &plan);
        self.breaches += broken.len() as u64;
        for violation in &broken {
            let by_rule = Arc::make_mut(&mut self.breaches_by_rule);
            *by_rule.entry(violation.invariant).or_default() += 1;
        }
        notices.extend(broken.into_iter().map(Notice::Breach));
        let mut batch = batch_of(&mut plan, moment, self.ports.clock().wall_ms());
        #[cfg(feature = "mutants")]
        self.misbehave(&plan, &mut batch, &ghosts, &mut notices);
        self.note_deeds(&mut batch);
        let changed = match self.commit_plan(batch) {
            Ok(changed) => changed,
            Err(NotCommitted(error)) => {
                tracing::debug!(%error, "the plan is dropped");
                return self.rest(now, notices);
            }
        };
        let actions = self.act(&plan, &ghosts, &mut notices);
        for (name, fleet) in &plan.fleets {
            if let Some(news) = news(self.reports.get(name), &fleet.report) {
                tracing::info!(fleet = %name, "{news}");
            }
        }
        let reports = plan.fleets.into_iter();
        self.reports = Arc::new(reports.map(|(name, fleet)| (name, fleet.report)).collect());
        self.publish(now, notices);
        PassOutcome::Decided { changed, actions }
    }

    /// Ends a pass that decides nothing. A catalogue may still withhold what was committed and
    /// told to it before: clients are shown that, whatever the store does now.
    fn rest(&mut self, now: Duration, mut notices: Vec<Notice>) -> PassOutcome {
        let outcome = match self.hold {
            Hold::Stopped(_) => PassOutcome::Stopped,
            Hold::Until { .. } | Hold::None => {
                self.show_names(&mut notices);
                PassOutcome::Held
            }
        };
        self.publish(now, notices);
        outcome
    }

    /// Whether the catalogue keeps decisions from being taken. The first pass after that tells for how
    /// long it did.
    fn is_held_outside(&mut self) -> bool {
        let wall_ms = self.ports.clock().wall_ms();
        let Some(reason) = self.ports.catalogue().holds() else {
            let Some(held) = self.outside.take() else {
                return false;
            };
            tracing::warn!(reason = held.reason, "deciding again");
            let line = away::held(&held, wall_ms);
            let batch = Batch {
                moment: self.clock.moment(),
                wall_ms,
                history: line.into_iter().collect(),
                ..Batch::default()
            };
            // A store that fails now holds the next pass.
            return !batch.history.is_empty() && self.commit(batch).is_err();
        };
        match &mut self.outside {
            Some(held) => held.reason = reason,
            None => {
                tracing::error!(%reason, "holding: nothing is decided");
                self.outside = Some(Held {
                    reason,
                    since_wall_ms: wall_ms,
                    tries: 1,
                    stopped: false,
                });
            }
        }
        true
    }

    /// Whether decisions can be taken; while held, tries the store again when its time has come.
    pub(crate) fn ready(&mut self, now: Duration) -> bool {
        match &self.hold {
            Hold::None => true,
            Hold::Stopped(_) => false,
            Hold::Until { retry_at, .. } if now < *retry_at => false,
            Hold::Until { .. } => self.reload(now),
        }
    }

    /// After a failed commit it is not known what the store holds: reads it again, and proves by
    /// a commit that it can be written.
    fn reload(&mut self, now: Duration) -> bool {
        let wall_ms = self.ports.clock().wall_ms();
        let stored = match self.ports.store().load() {
            Ok(stored) => stored,
            Err(error) => {
                self.hold.fail(chain(&error), now, wall_ms);
                return false;
            }
        };
        match &stored.epoch {
            Some(epoch) if *epoch == self.epoch => {}
            // An approval that was committed, although the disk could not say so.
            Some(epoch) if self.approved_meanwhile(&stored, epoch) => {
                self.take_epoch(epoch.clone());
            }
            Some(_) | None => {
                self.hold.stop(taken_over(&stored), wall_ms);
                return false;
            }
        }
        if stored.recovering.is_none() {
            self.end_recovery();
        }
        self.revision = stored.revision;
        self.fleets = Arc::new(stored.fleets);
        self.gone = Arc::new(stored.gone);
        self.environment = Arc::new(stored.environment);
        self.fleets_version += 1;
        let held = self.hold.shown();
        let batch = Batch {
            moment: self.clock.moment(),
            history: held
                .and_then(|held| away::held(held, wall_ms))
                .into_iter()
                .collect(),
            ..Batch::default()
        };
        self.clock.stand_still(now);
        self.commit(batch).is_ok()
    }

    /// Shows the newest picture.
    pub(crate) fn publish(&mut self, now: Duration, notices: Vec<Notice>) {
        self.passes += 1;
        if *self.notices != notices {
            for notice in &notices {
                if !self.notices.contains(notice) {
                    tracing::warn!("{notice}");
                }
            }
            self.notices = Arc::new(notices);
        }
        self.view = Arc::new(View {
            number: self.passes,
            epoch: self.epoch.clone(),
            moment: self.clock.moment(),
            up: now.saturating_sub(self.started),
            wall_ms: self.ports.clock().wall_ms(),
            revision: self.revision,
            held: self.shown_held(),
            recovery: self.recovery.as_ref().map(Recovery::shown),
            breaches: self.breaches,
            breaches_by_rule: Arc::clone(&self.breaches_by_rule),
            environment: Arc::clone(&self.environment),
            rules: Arc::clone(&self.rules),
            fleets: Arc::clone(&self.fleets),
            gone: Arc::clone(&self.gone),
            reports: Arc::clone(&self.reports),
            observed: Arc::clone(&self.observed),
            catalogue: Arc::new(self.ports.catalogue().word()),
            notices: Arc::clone(&self.notices),
        });
    }

    /// Why nothing is decided, the store first.
    fn shown_held(&self) -> Option<Held> {
        let held = self.hold.shown().or(self.outside.as_ref());
        held.cloned().or_else(|| self.recovery_held())
    }

    /// Shows the newest picture between two passes.
    pub(crate) fn publish_again(&mut self, now: Duration) {
        let notices = Vec::clone(&self.notices);
        self.publish(now, notices);
    }
}
