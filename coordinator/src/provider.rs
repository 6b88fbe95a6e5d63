//! What makes and deletes machines. The engine asks through its own trait and sees results in a
//! list; people and the operator service see more of the same machines through [`Machines`].

mod console;
pub mod process;

use std::{fmt::Debug, io, net::IpAddr, path::PathBuf};

use calvin_engine::ports::{CreateOrder, Provider};
use calvin_model::{ImageRef, InstanceId, Provision};

use crate::images::ImageStore;

pub use console::ConsoleFollower;
pub use process::{OpenError, ProcessOptions, ProcessProvider};

/// A provider as the coordinator has it: what the engine uses, and what people look at. Handles are
/// cheap to clone; the engine has one, the operator service another.
pub trait Machines: Provider + Send + Sync {
    /// A machine's console, from the newest `bytes_max` bytes on; of one that was deleted lately,
    /// what was kept. The first `read` gives what is there, later ones what came since.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    fn console(
        &self,
        instance: &InstanceId,
        bytes_max: usize,
    ) -> Result<ConsoleFollower, ConsoleError>;

    /// How many machines can be made.
    ///
    /// # Errors
    /// Where that cannot be found out.
    fn room(&self) -> io::Result<Room>;
}

/// How many machines a provider can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// More, now.
    pub free: u64,
    /// In all.
    pub total: u64,
}

/// Why there is no console output.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// Neither a machine nor one that was deleted lately.
    #[error(
        "there is no machine {instance}, and {} keeps no output of one: it holds that of the last machines only",
        kept.display()
    )]
    NoMachine {
        /// The instance asked for.
        instance: InstanceId,
        /// Where the output of deleted machines is kept.
        kept: PathBuf,
    },
    /// It is there and cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The first-boot data of new machines; a provider neither makes nor keeps secrets itself.
pub trait FirstBoot: Debug + Send + Sync {
    /// What the machine of `order` is to know of itself. Asking again for the same order gives the
    /// same join token. Its address and where it answers DNS are filled in by the provider.
    ///
    /// # Errors
    /// Where it cannot be made now; the provider asks again later.
    fn provision(
        &self,
        order: &CreateOrder,
        address: IpAddr,
    ) -> Result<Provision, Box<dyn std::error::Error + Send + Sync>>;
}

/// Where images lie.
pub trait ImageFiles: Debug + Send + Sync {
    /// The directory of an image; `None` when it was never added.
    fn directory(&self, image: &ImageRef) -> Option<PathBuf>;
}

impl ImageFiles for ImageStore {
    fn directory(&self, image: &ImageRef) -> Option<PathBuf> {
        let record = self.get(&image.tag)?;
        Some(record.directory.clone())
    }
}
