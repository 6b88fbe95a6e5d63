//! What is to happen in a simulation: a fleet, its images, what an operator does, what goes wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use calvin_model::{
    FleetName, FleetSpec, HumanDuration,
    fleet::{
        Amount, BudgetPolicy, DrainPolicy, FleetKind, OnDrainTimeout, OnSettleTimeout,
        RepairPolicy, ReplacePolicy,
    },
    image::{ImageTag, Work},
};
use calvin_planner::Phase;

use crate::{
    fault::Fault,
    image::{Behaviour, SimImage},
};

/// One simulation, but for its seed.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// How the fleet is run. Its image is that of the first `Apply`.
    pub spec: FleetSpec,
    /// More fleets in the same environment: every step is taken for each of them.
    pub more: Vec<FleetSpec>,
    /// The images that there are.
    pub images: Vec<SimImage>,
    /// What an operator or fate does, each as soon as what came before has ended.
    pub steps: Vec<Step>,
    /// What goes wrong.
    pub faults: BTreeSet<Fault>,
    /// How long it goes wrong: from then on all must come to rest.
    pub faults_for: Duration,
    /// Of what happens by chance, counted from 1, only these; `None` for all of it.
    pub only: Option<BTreeSet<u64>>,
    /// When the coordinator crashes.
    pub crash: Crash,
    /// How fast machines are made.
    pub cloud: Cloud,
    /// How often everybody looks.
    pub pace: Pace,
    /// How often it is noted what clients would see; `None` for never.
    pub sample_every: Option<Duration>,
    /// Virtual time after which the simulation ends in any case.
    pub limit: Duration,
}

/// How fast a provider is when nothing goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cloud {
    /// How long a machine takes, at least and at most.
    pub make: (Duration, Duration),
    /// How many it makes at one time; the others wait.
    pub in_flight: Option<usize>,
}

impl Default for Cloud {
    fn default() -> Self {
        Self {
            make: (Duration::from_millis(200), Duration::from_millis(900)),
            in_flight: None,
        }
    }
}

/// How often everybody looks. The real coordinator looks more often; what is looked at less often
/// is simulated faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Longest time from one pass to the next.
    pub pass: Duration,
    /// Time from one list of the provider, or one probe, to the next.
    pub look: Duration,
    /// Time from one report of an agent to the next, when there is no news.
    pub report: Duration,
    /// Time from one run of a check to the next.
    pub check: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            pass: Duration::from_millis(500),
            look: Duration::from_secs(1),
            report: Duration::from_secs(2),
            check: Duration::from_secs(1),
        }
    }
}

/// One thing that an operator does, or that happens to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Apply the fleet's spec with this image: the first rollout.
    Apply(ImageTag),
    /// Replace the image.
    Rollout(ImageTag),
    /// Go back to the old image, as soon as the running rollout is in this phase.
    RollBackIn(Phase),
    /// Change the count.
    Scale(u32),
    /// Go back to the image that served before.
    Undo,
    /// The same, as soon as an instance that clients find has not answered for so long.
    UndoWhenFailing(Duration),
    /// Delete the fleet.
    Delete,
    /// The machine of an active instance is lost with all on it.
    KillMachine,
    /// Every agent dies and stays away for so long; the workloads go on.
    AgentsAway(Duration),
    /// There is a machine with our tag that no coordinator ever asked for.
    Stray,
    /// For so long no coordinator reaches a machine, and the provider lists none.
    Blackout(Duration),
    /// Nothing happens for so long.
    Wait(Duration),
}

/// On which side of becoming durable a crash comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Nothing was written.
    Before,
    /// All was written, but nobody heard of it.
    After,
}

/// When the coordinator crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Not at a write.
    Never,
    /// At this write, counted from 1 over all runs of the coordinator.
    AtWrite(u64, Side),
    /// After so many actions were handed out, before the rest of their pass; counted from 1.
    AtAction(u64),
    /// At every write that changes a fleet: the first try of each crashes.
    EveryWrite(Side),
}

impl Scenario {
    /// A fleet `web` of `instances` with policies of seconds, so that a rollout is over soon, and
    /// images `web@1` to `web@5`: good, good, never healthy, bad 2 s after it is active, and bad
    /// 12 s after it is active for as long as things go wrong by chance.
    #[must_use]
    pub fn small(instances: u32) -> Self {
        let image = |tag: &str, behaviour| SimImage {
            tag: image_tag(tag),
            behaviour,
            work: Work::Boot,
            votes: false,
        };
        let after = Duration::from_secs(2);
        let leak = Duration::from_secs(12);
        Self {
            spec: spec(instances),
            more: Vec::new(),
            images: vec![
                image("web@1", Behaviour::Good),
                image("web@2", Behaviour::Good),
                image("web@3", Behaviour::NeverHealthy),
                image("web@4", Behaviour::BadOnceActive { after }),
                image("web@5", Behaviour::LeaksOnceActive { after: leak }),
            ],
            steps: vec![Step::Apply(image_tag("web@1"))],
            faults: BTreeSet::new(),
            faults_for: Duration::from_secs(90),
            only: None,
            crash: Crash::Never,
            cloud: Cloud::default(),
            pace: Pace::default(),
            sample_every: None,
            limit: Duration::from_secs(600),
        }
    }

    /// The same with fleets of this kind, and images that they can be made of.
    #[must_use]
    pub fn of_kind(mut self, kind: FleetKind) -> Self {
        for spec in std::iter::once(&mut self.spec).chain(&mut self.more) {
            spec.kind = kind;
            if kind == FleetKind::Exclusive {
                spec.count = 1;
            }
        }
        for image in &mut self.images {
            match kind {
                FleetKind::Service => {}
                FleetKind::Exclusive => image.work = Work::OnActive,
                FleetKind::Quorum => image.votes = true,
            }
            // A quorum whose members all fail for good votes nobody out, and one that fails as soon as it
            // is active never is: with nothing to go back to, both are beyond any order.
            if let (FleetKind::Exclusive | FleetKind::Quorum, Behaviour::BadOnceActive { after }) =
                (kind, image.behaviour)
            {
                image.behaviour = Behaviour::LeaksOnceActive { after };
            }
        }
        self
    }

    /// The same with one more step.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The same with a rollout to `web@VERSION` as the next step.
    #[must_use]
    pub fn then_rollout(self, version: u32) -> Self {
        self.then(Step::Rollout(image_tag(&format!("web@{version}"))))
    }

    /// The same with these faults.
    #[must_use]
    pub fn with_faults(mut self, faults: impl IntoIterator<Item = Fault>) -> Self {
        self.faults.extend(faults);
        self
    }

    /// The same with this crash.
    #[must_use]
    pub fn with_crash(mut self, crash: Crash) -> Self {
        self.crash = crash;
        self
    }

    /// Every fleet.
    pub(crate) fn specs(&self) -> impl Iterator<Item = &FleetSpec> {
        std::iter::once(&self.spec).chain(&self.more)
    }

    pub(crate) fn image(&self, tag: &ImageTag) -> Option<&SimImage> {
        self.images.iter().find(|image| image.tag == *tag)
    }
}

/// The fleet of small simulations.
fn fleet_name() -> FleetName {
    match "web".parse() {
        Ok(name) => name,
        Err(error) => unreachable!("the simulator's own fleet: {error}"),
    }
}

fn image_tag(text: &str) -> ImageTag {
    match text.parse() {
        Ok(tag) => tag,
        Err(error) => unreachable!("the simulator's own image: {error}"),
    }
}

fn spec(count: u32) -> FleetSpec {
    FleetSpec {
        name: fleet_name(),
        image: image_tag("web@1"),
        count,
        provider: crate::provider::NAME.to_owned(),
        replace: ReplacePolicy {
            surge: Amount::Percent(100),
            min_healthy: HumanDuration::from_secs(3),
            healthy_deadline: HumanDuration::from_secs(30),
            progress_deadline: HumanDuration::from_secs(60),
            settle: HumanDuration::from_secs(2),
            settle_max: HumanDuration::from_secs(20),
            on_settle_timeout: OnSettleTimeout::GoOn,
            bake: HumanDuration::from_secs(6),
            max_instance_failures: 0,
            keep_failed: HumanDuration::from_secs(30),
            ..ReplacePolicy::default()
        },
        drain: DrainPolicy {
            timeout: HumanDuration::from_secs(5),
            on_timeout: OnDrainTimeout::Force,
        },
        repair: RepairPolicy {
            silent_after: HumanDuration::from_secs(60),
            unmanaged_after: HumanDuration::from_secs(120),
            ..RepairPolicy::default()
        },
        kind: FleetKind::Service,
        zones: Vec::new(),
        after: Vec::new(),
        uses: BTreeMap::new(),
        budget: BudgetPolicy::default(),
    }
}
