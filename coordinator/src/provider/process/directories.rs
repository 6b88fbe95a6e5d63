//! The machines' directories. A machine's directory has its final name only when it is complete, and
//! loses it before the first file of it is removed; so what an interrupted run leaves can be told
//! from a machine by its name alone:
//!
//! - `<instance>`: a machine. Without `run/init.json` it was never started.
//! - `.making-<instance>`: not complete yet.
//! - `.deleting-<instance>`: all its processes are gone, its files on their way.
//! - `.gone/`: what is kept of the output of deleted machines.
//!
//! A directory without a tag of our environment is never touched.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use calvin_engine::chain;
use calvin_model::{EnvironmentName, InstanceId};
use calvin_proto::machine::{
    InitRecord, MachineFiles, MachineTag, ProcessId, RecordError,
    processes::{StillThere, host_boot, kill_all},
    unfinished,
};
use tracing::{info, warn};

/// A killed process is gone within milliseconds; one that is not hangs in the kernel.
pub(super) const KILL_TIMEOUT: Duration = Duration::from_secs(10);
const MAKING: &str = ".making-";
const DELETING: &str = ".deleting-";

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The file system refuses.
    #[error("could not {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// What on.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A record cannot be used.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Processes of a half-made machine do not end.
    #[error(transparent)]
    StillThere(#[from] StillThere),
    /// The name is taken by something that is not ours.
    #[error("{} is there already, and is no machine of this environment", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
}

pub(super) fn failed(
    what: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> DirectoryError + use<> {
    let path = path.to_owned();
    move |source| DirectoryError::File { what, path, source }
}

/// A machine that was found by its tag.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) address: IpAddr,
    pub(super) init: Option<ProcessId>,
}

/// The directory of an environment's machines.
#[derive(Debug)]
pub(super) struct Directories {
    root: PathBuf,
    environment: EnvironmentName,
}

impl Directories {
    /// Makes the directory if it is not there.
    pub(super) fn open(root: &Path, environment: &EnvironmentName) -> Result<Self, DirectoryError> {
        make_private(root)?;
        // Machines are known by their real path: it is in their processes' environment.
        let root = fs::canonicalize(root).map_err(failed("find", root))?;
        Ok(Self {
            root,
            environment: environment.clone(),
        })
    }

    /// The directory of all.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// A machine's files, under their final name.
    pub(super) fn files(&self, instance: &InstanceId) -> MachineFiles {
        MachineFiles::new(self.root.join(instance.as_str()))
    }

    /// Whether there is a directory with our tag. One whose tag cannot be read may be.
    pub(super) fn is_ours(&self, instance: &InstanceId) -> Result<bool, RecordError> {
        let tag = MachineTag::read(&self.files(instance))?;
        Ok(tag.is_some_and(|tag| tag.environment == self.environment && tag.instance == *instance))
    }

    /// The tag, if it is of this environment.
    fn tag_of(&self, files: &MachineFiles) -> Option<MachineTag> {
        match MachineTag::read(files) {
            Ok(tag) => tag.filter(|tag| tag.environment == self.environment),
            Err(error) => {
                warn!("left a directory alone: {error}");
                None
            }
        }
    }

    /// The tag of a machine of ours.
    pub(super) fn tag(&self, instance: &InstanceId) -> Option<MachineTag> {
        self.tag_of(&self.files(instance))
    }

    /// Finds all machines, and ends what was left half made or half deleted. What cannot be ended
    /// stays: it is no reason to leave all others without their coordinator.
    pub(super) fn find(&self) -> Result<BTreeMap<InstanceId, Found>, DirectoryError> {
        let mut found = BTreeMap::new();
        let listed = fs::read_dir(&self.root).map_err(failed("list", &self.root))?;
        for entry in listed {
            let entry = entry.map_err(failed("list", &self.root))?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let files = MachineFiles::new(entry.path());
            if name.starts_with(MAKING) || name.starts_with(DELETING) {
                if let Err(error) = self.sweep(&files) {
                    // It is in nobody's way until its instance is asked for again.
                    warn!("could not clean up: {}", chain(&error));
                }
                continue;
            }
            let Some(tag) = self
                .tag_of(&files)
                .filter(|tag| tag.instance.as_str() == name)
            else {
                continue;
            };
            let machine = self.look_at(&files, &tag).unwrap_or_else(|error| {
                // It stands there, and is removed when the engine wants it deleted.
                warn!(instance = %tag.instance, "could not clean up: {}", chain(&error));
                Some(Found {
                    address: tag.address,
                    init: None,
                })
            });
            match machine {
                Some(machine) => found.insert(tag.instance, machine).map_or((), drop),
                None => info!(instance = %tag.instance, "removed a machine that was never started"),
            }
        }
        Ok(found)
    }

    /// One that was never started is removed: the engine asks for it again if it is still wanted.
    fn look_at(
        &self,
        files: &MachineFiles,
        tag: &MachineTag,
    ) -> Result<Option<Found>, DirectoryError> {
        let init = match InitRecord::read(files) {
            Ok(Some(record)) => {
                let this_boot = host_boot().is_ok_and(|boot| boot == record.host_boot);
                Some(record.init).filter(|_| this_boot)
            }
            Ok(None) => {
                // It may have been started a moment before its coordinator was killed.
                kill_all(files.root(), None, KILL_TIMEOUT)?;
                self.remove(&tag.instance)?;
                return Ok(None);
            }
            Err(error) => {
                warn!(instance = %tag.instance, "its processes are not known: {error}");
                None
            }
        };
        Ok(Some(Found {
            address: tag.address,
            init,
        }))
    }

    /// Removes what an interrupted run left, if it carries our tag, or was left before it had one.
    fn sweep(&self, files: &MachineFiles) -> Result<(), DirectoryError> {
        if has_no_tag_yet(files) || self.tag_of(files).is_some() {
            remove_tree(files)?;
        }
        Ok(())
    }

    /// Begins a machine: an empty directory with its tag, not under its final name yet.
    pub(super) fn begin(&self, tag: &MachineTag) -> Result<MachineFiles, DirectoryError> {
        let making = MachineFiles::new(self.root.join(format!("{MAKING}{}", tag.instance)));
        self.sweep(&making)?;
        let made = fs::DirBuilder::new().mode(0o700).create(making.root());
        match made {
            // It was not swept, so it is not ours.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(DirectoryError::Foreign {
                    path: making.root().to_owned(),
                });
            }
            made => made.map_err(failed("make", making.root()))?,
        }
        tag.write(&making)?;
        Ok(making)
    }

    /// Gives a complete machine its final name.
    pub(super) fn complete(
        &self,
        making: &MachineFiles,
        instance: &InstanceId,
    ) -> Result<MachineFiles, DirectoryError> {
        let files = self.files(instance);
        if fs::symlink_metadata(files.root()).is_ok() {
            return Err(DirectoryError::Foreign {
                path: files.root().to_owned(),
            });
        }
        fs::rename(making.root(), files.root()).map_err(failed("rename", making.root()))?;
        sync(&self.root)?;
        Ok(files)
    }

    /// Removes a machine whose processes are gone.
    pub(super) fn remove(&self, instance: &InstanceId) -> Result<(), DirectoryError> {
        let files = self.files(instance);
        let deleting = MachineFiles::new(self.root.join(format!("{DELETING}{instance}")));
        self.sweep(&deleting)?;
        fs::rename(files.root(), deleting.root()).map_err(failed("rename", files.root()))?;
        sync(&self.root)?;
        remove_tree(&deleting)
    }
}

/// Whether a directory holds nothing at all but a tag that was not written to its end: the first
/// thing that is written into it.
fn has_no_tag_yet(files: &MachineFiles) -> bool {
    let unfinished = unfinished(&files.tag());
    fs::read_dir(files.root()).is_ok_and(|mut entries| {
        entries.all(|entry| entry.is_ok_and(|entry| entry.path() == unfinished))
    })
}

pub(super) fn make_private(path: &Path) -> Result<(), DirectoryError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("make", path))
}

fn sync(directory: &Path) -> Result<(), DirectoryError> {
    fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("write", directory))
}

/// Removes a directory with its tag last: as long as anything is left, it says whose it is.
fn remove_tree(files: &MachineFiles) -> Result<(), DirectoryError> {
    let path = files.root();
    let removed = fs::read_dir(path).and_then(|entries| {
        for entry in entries {
            let entry = entry?;
            if entry.path() == files.tag() {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    });
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed("remove", path))?,
    }
    match fs::remove_file(files.tag()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &files.tag())(error));
        }
        Ok(()) | Err(_) => {}
    }
    fs::remove_dir(path).map_err(failed("remove", path))
}
