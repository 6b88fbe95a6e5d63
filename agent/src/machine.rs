//! The layout of a machine's directory: every path in it, named once.

use std::path::{Path, PathBuf};

/// The directory that one agent, its runner and its provider share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineDir {
    root: PathBuf,
}

impl MachineDir {
    /// A machine's directory at `root`; nothing is looked at yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Who the machine is; written by the provider before the first boot.
    #[must_use]
    pub fn provision(&self) -> PathBuf {
        self.root.join("provision.toml")
    }

    /// The image's directory (a link): `image.toml` and files. Commands run in it.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.root.join("image")
    }

    /// What the machine is.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.image().join("image.toml")
    }

    /// What the agent keeps across restarts; only its own user may read it.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The sockets' directory.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Where the runner listens for the agent.
    #[must_use]
    pub fn init_socket(&self) -> PathBuf {
        self.run().join("init.sock")
    }

    /// Where the agent answers `status` and `explain`.
    #[must_use]
    pub fn agent_socket(&self) -> PathBuf {
        self.run().join("agent.sock")
    }

    /// The provider's tag.
    #[must_use]
    pub fn tag(&self) -> PathBuf {
        self.root.join("machine.json")
    }

    /// The workload's raw output, bounded by its runner.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.root.join("console.log")
    }
}
