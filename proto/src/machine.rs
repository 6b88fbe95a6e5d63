//! A machine of the process provider: the directory by which the coordinator, which makes and
//! deletes it, and `calvin-agent init`, which is its first process, understand each other.
//!
//! Neither side sees the other's code, and either may be killed and started again at any moment,
//! so what they agree on is on disk and stands here once: where the files lie, what is in them, how
//! a process is known again ([`ProcessId`]), how everything of a machine is found and ended
//! ([`processes`]), how an address is claimed ([`AddressLock`]), and how many descriptors what they
//! start may have ([`descriptors`]).

mod address;
pub mod descriptors;
pub mod processes;
mod records;

use std::path::{Path, PathBuf};

pub use address::{AddressLock, address_lock_directory};
pub use processes::ProcessId;
pub use records::{InitRecord, MachineTag, RecordError, open_file, unfinished, write_atomic};

/// Environment variable that every process of a machine carries: the machine's directory.
pub const MACHINE_VARIABLE: &str = "CALVIN_MACHINE";
/// Environment variable of an agent: the boot id that its parent made.
pub const BOOT_VARIABLE: &str = "CALVIN_BOOT_ID";
/// Environment variable with the directory of the address locks, where the default does not fit.
pub const LOCKS_VARIABLE: &str = "CALVIN_ADDRESS_LOCKS";
/// The one line that init writes to its standard output once the machine is up.
pub const READY_LINE: &str = "ready";

/// Where the files of one machine lie.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MachineFiles {
    root: PathBuf,
}

impl MachineFiles {
    /// The files of the machine in the directory `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// First-boot data, readable for its owner only.
    #[must_use]
    pub fn provision(&self) -> PathBuf {
        self.root.join("provision.toml")
    }

    /// The image: a link to its directory.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.root.join("image")
    }

    /// What the provider says of the machine: a [`MachineTag`].
    #[must_use]
    pub fn tag(&self) -> PathBuf {
        self.root.join("machine.json")
    }

    /// Sockets and records of the running machine.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// What init says of its processes: an [`InitRecord`]. Made at the first start, never removed:
    /// a machine that has none was never started.
    #[must_use]
    pub fn init_record(&self) -> PathBuf {
        self.root.join("run/init.json")
    }

    /// The runner, for the agent.
    #[must_use]
    pub fn init_socket(&self) -> PathBuf {
        self.root.join("run/init.sock")
    }

    /// The agent, for `calvin-agent status`.
    #[must_use]
    pub fn agent_socket(&self) -> PathBuf {
        self.root.join("run/agent.sock")
    }

    /// What the agent keeps: identity, wanted state, names.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The newest output of the workload; what was before it is in `console.log.1`.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.root.join("console.log")
    }

    /// The newest output of the agent and of init; what was before it is in `agent.log.1`.
    #[must_use]
    pub fn agent_log(&self) -> PathBuf {
        self.root.join("agent.log")
    }

    /// The newest output of what runs beside the workload under a name; what was before it is in
    /// `<name>.log.1`.
    #[must_use]
    pub fn unit_log(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.log"))
    }

    /// What init said before it could write to the agent's log.
    #[must_use]
    pub fn init_log(&self) -> PathBuf {
        self.root.join("init.log")
    }
}
