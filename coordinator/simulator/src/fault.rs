//! What can go wrong by chance, with the name of each for a command line.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// What can go wrong, again and again and by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Machines take long to be made.
    SlowProvider,
    /// Some creations and deletions fail, and succeed when asked again.
    FailingProvider,
    /// The provider does nothing for a while, and lists nothing; then it does all at once.
    HungProvider,
    /// A creation is said to have failed, and its machine appears all the same, later.
    LateProvider,
    /// The provider's lists are of some seconds ago.
    OldList,
    /// For a while the provider's lists lack most machines.
    ShortList,
    /// Messages are lost.
    Loss,
    /// Messages take long.
    Delay,
    /// Single messages take very long, so that later ones overtake them.
    Reordering,
    /// Messages arrive twice.
    Repetition,
    /// Machines are cut off from the coordinator for a while, in both directions.
    Cut,
    /// Machines are cut off in one direction.
    HalfCut,
    /// Agents crash and come back; their workloads go on.
    AgentCrash,
    /// Agents stand still, and go on later as if no time had passed.
    AgentHang,
    /// Machines die. Their provider notices at once.
    MachineDeath,
    /// Machines die, and their provider goes on listing them as running for long.
    UnseenDeath,
    /// Workloads answer and do not answer, by turns.
    FlappingHealth,
    /// Workloads take long until they answer for the first time.
    SlowStart,
    /// Images turn out bad: never healthy, healthy until active, or healthy for a while.
    BadImage,
    /// The names that are published reach nobody for a while.
    StaleCatalogue,
    /// Nothing can be published for a while.
    CatalogueDown,
    /// The coordinator crashes at any time.
    CoordinatorCrash,
    /// The coordinator crashes at a write, before or after it is durable, or between two requests
    /// to the world, of which some never left it.
    CrashPoints,
    /// Another coordinator starts on the same store, and the old one does not know.
    OldCoordinator,
    /// Commits fail for a while; some of those that failed are durable all the same.
    StoreFailure,
    /// The coordinator's disk is full for a while.
    DiskFull,
    /// Agents' disks are full for a while.
    AgentDiskFull,
    /// Wall clocks jump, the coordinator's and the machines'.
    ClockJump,
    /// Clocks run at speeds of their own.
    ClockDrift,
    /// An operator who presses everything.
    Operators,
    /// A creation succeeds twice: two machines carry the tag of one instance.
    DoubleCreate,
    /// A coordinator starts on a copy of the store, beside the old one; with `--adopt` or without.
    CopiedStore,
    /// The store is restored from a backup that is some time old.
    RestoredBackup,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 33] = [
        Self::SlowProvider,
        Self::FailingProvider,
        Self::HungProvider,
        Self::LateProvider,
        Self::OldList,
        Self::ShortList,
        Self::Loss,
        Self::Delay,
        Self::Reordering,
        Self::Repetition,
        Self::Cut,
        Self::HalfCut,
        Self::AgentCrash,
        Self::AgentHang,
        Self::MachineDeath,
        Self::UnseenDeath,
        Self::FlappingHealth,
        Self::SlowStart,
        Self::BadImage,
        Self::StaleCatalogue,
        Self::CatalogueDown,
        Self::CoordinatorCrash,
        Self::CrashPoints,
        Self::OldCoordinator,
        Self::StoreFailure,
        Self::DiskFull,
        Self::AgentDiskFull,
        Self::ClockJump,
        Self::ClockDrift,
        Self::Operators,
        Self::DoubleCreate,
        Self::CopiedStore,
        Self::RestoredBackup,
    ];

    /// The name for people, as a command line takes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SlowProvider => "slow-provider",
            Self::FailingProvider => "failing-provider",
            Self::HungProvider => "hung-provider",
            Self::LateProvider => "late-provider",
            Self::OldList => "old-list",
            Self::ShortList => "short-list",
            Self::Loss => "loss",
            Self::Delay => "delay",
            Self::Reordering => "reordering",
            Self::Repetition => "repetition",
            Self::Cut => "cut",
            Self::HalfCut => "half-cut",
            Self::AgentCrash => "agent-crash",
            Self::AgentHang => "agent-hang",
            Self::MachineDeath => "machine-death",
            Self::UnseenDeath => "unseen-death",
            Self::FlappingHealth => "flapping-health",
            Self::SlowStart => "slow-start",
            Self::BadImage => "bad-image",
            Self::StaleCatalogue => "stale-catalogue",
            Self::CatalogueDown => "catalogue-down",
            Self::CoordinatorCrash => "coordinator-crash",
            Self::CrashPoints => "crash-points",
            Self::OldCoordinator => "old-coordinator",
            Self::StoreFailure => "store-failure",
            Self::DiskFull => "disk-full",
            Self::AgentDiskFull => "agent-disk-full",
            Self::ClockJump => "clock-jump",
            Self::ClockDrift => "clock-drift",
            Self::Operators => "operators",
            Self::DoubleCreate => "double-create",
            Self::CopiedStore => "copied-store",
            Self::RestoredBackup => "restored-backup",
        }
    }

    /// Reads a list of names with commas between them; `all` and `none` are lists, too.
    ///
    /// # Errors
    /// A name is none of a fault.
    pub fn parse_list(text: &str) -> Result<BTreeSet<Self>, UnknownFault> {
        match text.trim() {
            "all" => return Ok(Self::ALL.into_iter().collect()),
            "none" | "" => return Ok(BTreeSet::new()),
            _ => {}
        }
        text.split(',').map(|name| name.trim().parse()).collect()
    }

    /// The names of `faults` as `parse_list` takes them.
    #[must_use]
    pub fn list(faults: &BTreeSet<Self>) -> String {
        if faults.is_empty() {
            return "none".to_owned();
        }
        if faults.len() == Self::ALL.len() {
            return "all".to_owned();
        }
        let names: Vec<&str> = faults.iter().map(|fault| fault.as_str()).collect();
        names.join(",")
    }
}

/// A name that is none of a fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no fault {name:?}; there are all, none, {}", names())]
pub struct UnknownFault {
    /// What was given.
    pub name: String,
}

fn names() -> String {
    Fault::ALL.map(Fault::as_str).join(", ")
}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let found = Self::ALL.into_iter().find(|fault| fault.as_str() == text);
        found.ok_or_else(|| UnknownFault {
            name: text.chars().take(80).collect(),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
