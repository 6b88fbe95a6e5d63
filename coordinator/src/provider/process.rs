//! The process provider: a machine is a `calvin-agent init` with all below it, in a directory and
//! on a loopback address of its own, on the coordinator's host.
//!
//! The engine's calls only note what is wanted and return; a few threads do it, and a look at all
//! machines several times a second says what is there. What is wanted is not kept on disk: the
//! engine's own committed intent is asked for again after a restart, and the machines are found
//! again by the tags in their directories.

mod addresses;
mod create;
mod delete;
mod directories;
mod look;
mod output;
mod retry;
mod state;
#[cfg(test)]
mod tests;
mod worker;

use std::{
    collections::BTreeMap,
    fmt, io,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
};

use calvin_engine::ports::{CreateOrder, MachineList, MachineTag, Provider};
use calvin_model::{EnvironmentName, InstanceId};
use calvin_planner::{Capacity, DeleteBasis};
use tracing::{info, warn};

use self::{addresses::Addresses, create::Verified, directories::Directories, state::Shared};
use super::{ConsoleError, ConsoleFollower, FirstBoot, ImageFiles, Machines, Room};
use crate::config::Network;

pub use directories::DirectoryError;

/// Machines that are made or deleted at once. Making one is mostly waiting for its init to start
/// (tens of milliseconds); more at once than a small host has cores for would only compete.
const WORKERS: usize = 4;

/// What the provider must know.
#[derive(Debug, Clone)]
pub struct ProcessOptions {
    /// Whose machines they are.
    pub environment: EnvironmentName,
    /// The directory of the machines' directories; made if it is not there.
    pub machines: PathBuf,
    /// Where their addresses come from.
    pub network: Network,
    /// The program `calvin-agent`.
    pub agent: PathBuf,
    /// Where addresses are claimed, in place of the host's own place for that.
    pub locks: Option<PathBuf>,
}

/// Told whenever something changed that the engine should look at.
pub type OnChange = Arc<dyn Fn() + Send + Sync>;

/// Why the provider cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The machines' directories cannot be used.
    #[error(transparent)]
    Directories(#[from] DirectoryError),
    /// There is no place where addresses can be claimed.
    #[error("could not find a place for the locks of loopback addresses")]
    Locks(#[source] io::Error),
    /// A thread cannot be started.
    #[error("could not start a thread of the process provider")]
    Thread(#[source] io::Error),
}

/// The provider. Cheap to clone; all clones are one. When the last is dropped, its threads end and
/// its machines go on.
#[derive(Debug, Clone)]
pub struct ProcessProvider {
    inner: Arc<Inner>,
}

struct Inner {
    context: Arc<Context>,
    threads: Vec<JoinHandle<()>>,
}

/// What all threads share.
struct Context {
    options: ProcessOptions,
    directories: Directories,
    addresses: Addresses,
    verified: Verified,
    images: Arc<dyn ImageFiles>,
    first_boot: Arc<dyn FirstBoot>,
    on_change: OnChange,
    shared: Shared,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessProvider")
            .field("options", &self.context.options)
            .finish_non_exhaustive()
    }
}

impl ProcessProvider {
    /// Finds the environment's machines again, ends what an earlier run left half made or half
    /// deleted, and starts the threads.
    ///
    /// # Errors
    /// Where the machines' directory cannot be used, or threads cannot be started.
    pub fn open(
        options: ProcessOptions,
        images: Arc<dyn ImageFiles>,
        first_boot: Arc<dyn FirstBoot>,
        on_change: OnChange,
    ) -> Result<Self, OpenError> {
        let directories = Directories::open(&options.machines, &options.environment)?;
        let found = directories.find()?;
        info!(
            machines = found.len(),
            "found the machines of this environment"
        );
        let locks = calvin_proto::machine::address_lock_directory(options.locks.as_deref())
            .map_err(OpenError::Locks)?;
        let context = Arc::new(Context {
            addresses: Addresses::new(options.network, locks),
            directories,
            verified: Verified::default(),
            images,
            first_boot,
            on_change,
            shared: Shared::new(found),
            options,
        });
        context.look();
        let mut inner = Inner {
            context,
            threads: Vec::new(),
        };
        inner.spawn("machines-look", Context::look_on)?;
        for number in 0..WORKERS {
            inner.spawn(&format!("machines-{number}"), Context::work)?;
        }
        Ok(Self {
            inner: Arc::new(inner),
        })
    }
}

impl Inner {
    fn spawn(&mut self, name: &str, run: fn(&Context)) -> Result<(), OpenError> {
        let context = Arc::clone(&self.context);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&context))
            .map_err(OpenError::Thread)?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.context.shared.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                warn!("a thread of the process provider panicked");
            }
        }
    }
}

impl Provider for ProcessProvider {
    fn create(&mut self, order: &CreateOrder) {
        self.inner.context.shared.create(order);
    }

    fn delete(&mut self, instance: &InstanceId, basis: &DeleteBasis) {
        if self.inner.context.shared.delete(instance) {
            info!(%instance, ?basis, "deleting a machine");
        }
    }

    fn list(&self) -> MachineList {
        self.inner.context.shared.list()
    }

    fn tags(&self) -> BTreeMap<InstanceId, MachineTag> {
        let context = &self.inner.context;
        let machines = context.shared.list().machines.into_iter();
        let tags = machines.filter_map(|machine| {
            let tag = context.directories.tag(&machine.instance)?;
            let tag = MachineTag {
                fleet: tag.fleet,
                image: tag.image,
                epoch: tag.epoch,
            };
            Some((machine.instance, tag))
        });
        tags.collect()
    }

    fn capacity(&self) -> Capacity {
        // Every machine takes an address. Those that others of this host hold are found out when one
        // is made: to look at their locks takes too long for every pass.
        let context = &self.inner.context;
        let taken = context.shared.addresses().len();
        let free = context.addresses.size().saturating_sub(taken as u64);
        Capacity::Free(u32::try_from(free).unwrap_or(u32::MAX))
    }
}

impl Machines for ProcessProvider {
    fn console(
        &self,
        instance: &InstanceId,
        bytes_max: usize,
    ) -> Result<ConsoleFollower, ConsoleError> {
        self.inner.context.directories.console(instance, bytes_max)
    }

    fn room(&self) -> io::Result<Room> {
        let context = &self.inner.context;
        context.addresses.capacity(&context.shared.addresses())
    }
}
