//! The engine while it recovers: it looks, listens and compares; the decision clock stands still.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use calvin_model::{Epoch, InstanceId};
use calvin_planner::{Build, Command, Event, EventKind, Moment};

use super::{
    Approval, Difference, Found, KnownImage, Listed, RecoveryRefusal, RecoveryView, WhatBlocks,
    World, compare, numbers,
    words::{history, summary},
};
use crate::{
    act::Told,
    command::CommandError,
    decide::Decide,
    engine::{Engine, NotCommitted, PassOutcome},
    hold::Held,
    ports::{Batch, HistoryLine, Images, Ports, Recovering, RecoveringChange, Stored},
    view::Notice,
};

/// Plans that were shown lately are kept, so that an approval of one that no longer holds is told
/// what has changed.
const PLANS_KEPT: usize = 16;
/// Lines that are named of what has changed.
const CHANGES_NAMED: usize = 5;

/// A run that recovers.
#[derive(Debug)]
pub(crate) struct Recovery {
    recovering: Recovering,
    difference: Difference,
    /// Earlier plans by id, with their lines.
    earlier: VecDeque<(String, BTreeSet<String>)>,
}

impl Recovery {
    pub(crate) fn new(recovering: Recovering) -> Self {
        Self {
            recovering,
            difference: Difference::default(),
            earlier: VecDeque::new(),
        }
    }

    /// From now on nothing is told to anybody.
    pub(crate) fn begin<P: Ports>(&self, ports: &mut P) {
        tracing::error!(reason = %self.recovering.reason, "recovering: nothing is decided until a person approves what is found");
        ports.agents().only_listen(Some(&self.recovering.reason));
    }

    pub(crate) fn reason(&self) -> &str {
        &self.recovering.reason
    }

    pub(crate) fn shown(&self) -> Arc<RecoveryView> {
        Arc::new(RecoveryView {
            recovering: self.recovering.clone(),
            difference: self.difference.clone(),
        })
    }

    fn take(&mut self, difference: Difference) {
        if difference.id != self.difference.id && !self.difference.id.is_empty() {
            let lines = lines(&self.difference);
            self.earlier.push_back((self.difference.id.clone(), lines));
            if self.earlier.len() > PLANS_KEPT {
                self.earlier.pop_front();
            }
        }
        self.difference = difference;
    }

    /// What is different from an earlier plan, for people.
    fn changed_since(&self, plan: &str) -> String {
        let Some((_, before)) = self.earlier.iter().rev().find(|(id, _)| id == plan) else {
            return "it was not shown lately".to_owned();
        };
        let now = lines(&self.difference);
        let gone = before
            .difference(&now)
            .map(|line| format!("no longer: {line}"));
        let new = now.difference(before).map(|line| format!("now: {line}"));
        let all: Vec<String> = gone.chain(new).collect();
        let mut text = all[..all.len().min(CHANGES_NAMED)].join("; ");
        match all.len().saturating_sub(CHANGES_NAMED) {
            0 => {}
            more => text.push_str(&format!("; and {more} more changes")),
        }
        if text.is_empty() {
            text = "the numbers that are taken are others".to_owned();
        }
        text
    }
}

fn lines(difference: &Difference) -> BTreeSet<String> {
    difference
        .findings
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// Orders that only change what is wanted: they may be what the plan lacks.
pub(crate) fn taken_while_recovering(order: &Command) -> bool {
    matches!(
        order,
        Command::ApplyFleet { .. } | Command::Scale { .. } | Command::DeleteFleet { .. }
    )
}

impl<P: Ports, D: Decide> Engine<P, D> {
    /// The moment for an order: while recovering, time stands still.
    pub(crate) fn moment(&mut self, now: Duration) -> Moment {
        if self.recovery.is_some() {
            self.clock.stand_still(now);
        }
        self.clock.advance(now)
    }

    /// Why nothing is decided, as status and health show it.
    pub(crate) fn recovery_held(&self) -> Option<Held> {
        let recovering = &self.recovery.as_ref()?.recovering;
        Some(Held {
            reason: format!(
                "it recovers, because {}; calvin recover show says what was found",
                recovering.reason
            ),
            since_wall_ms: recovering.since_wall_ms,
            tries: 0,
            stopped: false,
        })
    }

    /// Begins to recover when an agent or a tag knows more than this coordinator ever said.
    pub(crate) fn notice_being_behind(&mut self) {
        if self.recovery.is_some() {
            return;
        }
        let Some(reason) = self.told_by_an_agent().or_else(|| self.told_by_a_tag()) else {
            return;
        };
        let wall_ms = self.ports.clock().wall_ms();
        let line = HistoryLine {
            wall_ms,
            who: "engine".to_owned(),
            event: Event {
                fleet: None,
                instance: None,
                kind: EventKind::Hold,
                text: format!("recovering: nothing is decided, because {reason}"),
            },
        };
        let batch = Batch {
            moment: self.clock.moment(),
            history: vec![line],
            recovering: Some(RecoveringChange::Begins(Recovering {
                reason: reason.clone(),
                since_wall_ms: wall_ms,
            })),
            ..Batch::default()
        };
        // Where it cannot be committed, the store holds the engine, which decides nothing either.
        if self.commit(batch).is_err() {
            tracing::error!(%reason, "behind the world, and the store cannot be written");
        }
    }

    fn told_by_an_agent(&mut self) -> Option<String> {
        let heard = self.ports.agents().heard();
        let mut heard = heard.iter();
        heard.find_map(|(instance, heard)| {
            numbers::behind(instance, heard, &self.epoch, &self.fleets)
        })
    }

    fn told_by_a_tag(&mut self) -> Option<String> {
        let mut reason = None;
        for (name, provider) in self.ports.providers() {
            if self.tags_compared.contains(name) || provider.list().age.is_none() {
                continue;
            }
            self.tags_compared.insert(name.to_owned());
            let tags = provider.tags().into_iter();
            let mut tags = tags.map(|(instance, tag)| (instance, tag.epoch));
            let later = tags
                .find(|(_, epoch)| *epoch > self.epoch.number && *epoch <= numbers::BELIEVABLE_MAX);
            if let Some((instance, epoch)) = later {
                reason = Some(format!(
                    "the machine of {instance} was made in epoch {epoch}, which this coordinator, in epoch {}, never had",
                    self.epoch.number
                ));
            }
        }
        reason
    }

    /// One pass that decides nothing: compares and shows.
    pub(crate) fn compare(
        &mut self,
        now: Duration,
        listening_for: Duration,
        mut notices: Vec<Notice>,
    ) -> PassOutcome {
        self.clock.stand_still(now);
        // They are in the plan, with what becomes of them.
        notices.retain(|notice| !matches!(notice, Notice::Stray { .. }));
        self.look_again(listening_for);
        self.publish(now, notices);
        PassOutcome::Held
    }

    fn look_again(&mut self, listening_for: Duration) {
        let difference = self.difference(listening_for);
        if let Some(recovery) = &mut self.recovery {
            recovery.take(difference);
        }
    }

    fn difference(&mut self, listening_for: Duration) -> Difference {
        let agents = self.ports.agents().heard();
        let mut machines = BTreeMap::new();
        let mut providers = BTreeMap::new();
        for (name, provider) in self.ports.providers() {
            let list = provider.list();
            let mut tags = provider.tags();
            let listed = if list.age.is_some() {
                Listed::Completely
            } else {
                Listed::NotYet
            };
            providers.insert(name.to_owned(), listed);
            for machine in list.machines {
                let tag = tags.remove(&machine.instance);
                let found = Found {
                    provider: name.to_owned(),
                    state: machine.state,
                    tag,
                };
                machines.entry(machine.instance).or_insert(found);
            }
        }
        let images = known_images(&machines, self.ports.images());
        compare(&World {
            epoch: &self.epoch,
            moment: self.clock.moment(),
            fleets: &self.fleets,
            machines,
            providers,
            agents,
            images,
            listening_for,
        })
    }

    /// Takes a person's word on the plan: from then on this coordinator decides again. Gives what
    /// was done, one sentence each.
    ///
    /// # Errors
    /// Nothing is in effect, or, after a store that failed, that is not known.
    pub fn approve_recovery(
        &mut self,
        approval: &Approval,
        who: &str,
    ) -> Result<Vec<String>, CommandError> {
        let now = self.ports.clock().monotonic();
        let listening_for = self.clock.look(now);
        if self.recovery.is_none() {
            return Err(RecoveryRefusal::NotRecovering.into());
        }
        if !self.ready(now) {
            self.publish_again(now);
            let held = self.hold.shown();
            return Err(CommandError::Held {
                reason: held.map(|held| held.reason.clone()).unwrap_or_default(),
            });
        }
        self.clock.stand_still(now);
        self.look_again(listening_for);
        let difference = self.approvable(approval)?;
        let identities: Vec<InstanceId> = difference.identities.iter().cloned().collect();
        let adopted = self.ports.agents().adopt(&identities);
        adopted.map_err(|error| RecoveryRefusal::NotAdopted {
            plan: approval.plan.clone(),
            why: error.0,
        })?;
        let epoch = Epoch {
            number: difference.epoch_next,
            run: self.epoch.run.clone(),
        };
        let lines = summary(&difference);
        let batch = Batch {
            moment: self.clock.moment(),
            epoch: Some(epoch.clone()),
            fleets: difference
                .fleets
                .iter()
                .map(|(name, fleet)| (name.clone(), Some(fleet.clone())))
                .collect(),
            history: history(&difference, approval, who, self.ports.clock().wall_ms()),
            recovering: Some(RecoveringChange::Ends),
            ..Batch::default()
        };
        let before = std::mem::replace(&mut self.epoch, epoch.clone());
        match self.commit(batch) {
            Ok(()) => {
                self.take_epoch(epoch);
                self.publish_again(now);
                Ok(lines)
            }
            Err(NotCommitted(error)) => {
                self.epoch = before;
                self.publish_again(now);
                Err(CommandError::NotCommitted(error))
            }
        }
    }

    /// The plan, if it is the one that is approved and nothing stands in its way.
    fn approvable(&self, approval: &Approval) -> Result<Difference, RecoveryRefusal> {
        let Some(recovery) = &self.recovery else {
            return Err(RecoveryRefusal::NotRecovering);
        };
        let difference = &recovery.difference;
        let plan = approval.plan.clone();
        if difference.id != plan {
            return Err(RecoveryRefusal::PlanChanged {
                changed: recovery.changed_since(&plan),
                now: difference.id.clone(),
                plan,
            });
        }
        match approval.blocked {
            WhatBlocks::IsLeftAlone => {}
            WhatBlocks::Refuses => {
                if let Some(first) = difference.blocked().next() {
                    let more = match difference.blocked().count() - 1 {
                        0 => String::new(),
                        more => format!(" (and {more} more)"),
                    };
                    let what = format!("{first}{more}");
                    return Err(RecoveryRefusal::Blocked { plan, what });
                }
                if let Some(first) = difference.waits.first() {
                    let what = first.clone();
                    return Err(RecoveryRefusal::TooEarly { plan, what });
                }
            }
        }
        Ok(difference.clone())
    }

    /// Whether `stored`, with this epoch, is what an approval of this run made of it.
    pub(crate) fn approved_meanwhile(&self, stored: &Stored, epoch: &Epoch) -> bool {
        self.recovery.is_some()
            && stored.recovering.is_none()
            && epoch.run == self.epoch.run
            && epoch.number > self.epoch.number
    }

    /// From now on this run speaks with `epoch`.
    pub(crate) fn take_epoch(&mut self, epoch: Epoch) {
        tracing::warn!(%epoch, "speaks with another epoch");
        self.ports.agents().speak(&epoch);
        self.ports.catalogue().speak(&epoch);
        self.epoch = epoch;
    }

    /// Decides again; everybody is told everything anew.
    pub(crate) fn end_recovery(&mut self) {
        if self.recovery.take().is_none() {
            return;
        }
        tracing::warn!("recovered: deciding");
        self.told = Told::default();
        let epoch = self.epoch.clone();
        self.ports.agents().speak(&epoch);
        self.ports.agents().only_listen(None);
        let now = self.ports.clock().monotonic();
        self.clock.watch_anew(now);
    }
}

fn known_images(
    machines: &BTreeMap<InstanceId, Found>,
    images: &dyn Images,
) -> BTreeMap<calvin_model::ImageRef, KnownImage> {
    let mut known = BTreeMap::new();
    for tag in machines.values().filter_map(|found| found.tag.as_ref()) {
        if known.contains_key(&tag.image) {
            continue;
        }
        let Some(manifest) = images.manifest(&tag.image) else {
            continue;
        };
        let work = manifest.workload.as_ref().map(|workload| workload.work);
        let build = Build {
            image: tag.image.clone(),
            work: work.unwrap_or_default(),
            services: !manifest.services.is_empty(),
            quorum: manifest.quorum.is_some(),
        };
        known.insert(
            tag.image.clone(),
            KnownImage {
                build,
                manifest: images.manifest_digest(&tag.image),
                build_id: manifest.build.clone(),
            },
        );
    }
    known
}
