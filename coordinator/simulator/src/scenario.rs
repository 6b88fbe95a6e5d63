//! What is to happen in a simulation: a fleet, its images, what an operator does, what goes wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use calvin_model::{
    Digest, FleetName, FleetSpec, HumanDuration, ImageManifest, ImageRef,
    fleet::{
        Amount, BudgetPolicy, DrainPolicy, FleetKind, OnDrainTimeout, OnSettleTimeout,
        RepairPolicy, ReplacePolicy,
    },
    image::{ImageTag, Work},
};
use calvin_planner::{Build, Phase};

/// One simulation, but for its seed.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// How the fleet `web` is run. Its image is that of the first `Apply`.
    pub spec: FleetSpec,
    /// The images that there are.
    pub images: Vec<SimImage>,
    /// What an operator or fate does, each as soon as what came before has ended.
    pub steps: Vec<Step>,
    /// What goes wrong.
    pub faults: BTreeSet<Fault>,
    /// How long it goes wrong: from then on all must come to rest.
    pub faults_for: Duration,
    /// When the coordinator crashes.
    pub crash: Crash,
    /// Virtual time after which the simulation ends in any case.
    pub limit: Duration,
}

/// An image, with how machines made from it behave.
#[derive(Debug, Clone)]
pub struct SimImage {
    /// Name and version.
    pub tag: ImageTag,
    /// How its workload behaves.
    pub behaviour: Behaviour,
    /// When its workload may run.
    pub work: Work,
}

/// How a workload behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Its checks pass while it runs.
    Good,
    /// Its checks never pass.
    NeverHealthy,
    /// Its checks pass for so long, then fail for as long, and so on.
    Flapping {
        /// How long.
        each: Duration,
    },
    /// Its checks begin to fail when it has been active for so long.
    BadOnceActive {
        /// How long.
        after: Duration,
    },
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
    /// Delete the fleet.
    Delete,
    /// The machine of an active instance is lost with all on it.
    KillMachine,
    /// Every agent dies and stays away for so long; the workloads go on.
    AgentsAway(Duration),
    /// There is a machine with our tag that no coordinator ever asked for.
    Stray,
    /// For so long the coordinator reaches no machine, and the provider lists none.
    Blackout(Duration),
    /// Nothing happens for so long.
    Wait(Duration),
}

/// What can go wrong, again and again and by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Machines take long to be made.
    SlowProvider,
    /// Some creations fail, and succeed when asked again.
    FailingProvider,
    /// Messages are lost.
    Loss,
    /// Messages take long, and overtake each other.
    Delay,
    /// Messages arrive twice.
    Repetition,
    /// Machines are cut off from the coordinator for a while.
    Cut,
    /// Agents crash and come back; their workloads go on.
    AgentCrash,
    /// The coordinator crashes at any time.
    CoordinatorCrash,
    /// Commits fail for a while; some of those that failed are durable all the same.
    StoreFailure,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::SlowProvider,
        Self::FailingProvider,
        Self::Loss,
        Self::Delay,
        Self::Repetition,
        Self::Cut,
        Self::AgentCrash,
        Self::CoordinatorCrash,
        Self::StoreFailure,
    ];

    /// The name for people, as a command line takes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SlowProvider => "slow-provider",
            Self::FailingProvider => "failing-provider",
            Self::Loss => "loss",
            Self::Delay => "delay",
            Self::Repetition => "repetition",
            Self::Cut => "cut",
            Self::AgentCrash => "agent-crash",
            Self::CoordinatorCrash => "coordinator-crash",
            Self::StoreFailure => "store-failure",
        }
    }
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

impl SimImage {
    /// What `image add` would have recorded.
    pub(crate) fn reference(&self) -> ImageRef {
        let mut bytes = [0; 32];
        for (place, byte) in bytes.iter_mut().zip(self.tag.to_string().bytes()) {
            *place = byte;
        }
        ImageRef {
            tag: self.tag.clone(),
            digest: Digest::from_sha256(bytes),
        }
    }

    /// What the planner knows of it.
    pub(crate) fn build(&self) -> Build {
        Build {
            image: self.reference(),
            work: self.work,
            services: true,
        }
    }

    /// Its `image.toml`.
    ///
    /// # Panics
    /// Never: the text is the one below, with a tag that was parsed.
    pub(crate) fn manifest(&self) -> ImageManifest {
        let work = match self.work {
            Work::Boot => "boot",
            Work::OnActive => "on_active",
        };
        let when = match self.work {
            Work::Boot => "always",
            Work::OnActive => "active",
        };
        let text = format!(
            "name = \"{}\"\nversion = \"{}\"\n\
             [workload]\ncommand = [\"web\"]\nwork = \"{work}\"\n\
             [[service]]\nname = \"web\"\nport = 80\n\
             [[check]]\nname = \"http\"\nhttp = \"/health\"\nport = 80\n\
             interval = \"1s\"\ntimeout = \"500ms\"\nwhen = \"{when}\"\n",
            self.tag.name, self.tag.version,
        );
        match ImageManifest::parse("image.toml", &text) {
            Ok(manifest) => manifest,
            Err(error) => unreachable!("the simulator's own manifest: {error}"),
        }
    }
}

impl Scenario {
    /// A fleet `web` of `instances` with policies of seconds, so that a rollout is over soon, and
    /// images `web@1` to `web@4`: good, good, never healthy, bad 2 s after it is active.
    #[must_use]
    pub fn small(instances: u32) -> Self {
        let image = |tag: &str, behaviour| SimImage {
            tag: image_tag(tag),
            behaviour,
            work: Work::Boot,
        };
        let after = Duration::from_secs(2);
        Self {
            spec: spec(instances),
            images: vec![
                image("web@1", Behaviour::Good),
                image("web@2", Behaviour::Good),
                image("web@3", Behaviour::NeverHealthy),
                image("web@4", Behaviour::BadOnceActive { after }),
            ],
            steps: vec![Step::Apply(image_tag("web@1"))],
            faults: BTreeSet::new(),
            faults_for: Duration::from_secs(90),
            crash: Crash::Never,
            limit: Duration::from_secs(600),
        }
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

    pub(crate) fn image(&self, tag: &ImageTag) -> Option<&SimImage> {
        self.images.iter().find(|image| image.tag == *tag)
    }
}

/// The fleet that every simulation is about.
pub(crate) fn fleet_name() -> FleetName {
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
