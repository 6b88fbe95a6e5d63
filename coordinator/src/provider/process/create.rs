//! Makes one machine: the image is checked, an address claimed, the directory written as a whole,
//! and init started in it. What fails is undone, so that the next try begins anew, with another
//! address.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use calvin_engine::{chain, ports::CreateOrder};
use calvin_model::{Digest, ImageRef};
use calvin_planner::FaultKind;
use calvin_proto::machine::{
    AddressLock, InitRecord, LOCKS_VARIABLE, MACHINE_VARIABLE, MachineFiles, MachineTag,
    READY_LINE, descriptors::start_with_own_limit, write_atomic,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use tracing::warn;

use super::{
    super::console::tail,
    Context,
    addresses::DNS_PORT,
    directories::{DirectoryError, failed},
    retry::Retry,
    state::{Failure, Started},
};
use crate::images::{DigestError, Fingerprint, digest_of};

/// Init binds two sockets and starts one process; more than a second means a host in trouble.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// What init says of a failed start is one line.
const INIT_LOG_BYTES: usize = 1024;
/// What a machine's processes see of the coordinator's environment: where programs are, how times
/// are shown, and what is to be logged. Nothing else is theirs to know.
const PASSED_ON: [&str; 6] = [
    "PATH",
    "TZ",
    "LANG",
    "CALVIN_LOG",
    "RUST_LOG",
    "RUST_BACKTRACE",
];

/// Why a machine was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum CreateError {
    #[error("image {image} is not recorded")]
    NoImage { image: ImageRef },
    #[error("could not check image {image}")]
    Unchecked {
        image: ImageRef,
        #[source]
        source: DigestError,
    },
    #[error(
        "image {image} in {} is not what was recorded: its digest is {found}, not {expected}",
        directory.display()
    )]
    OtherImage {
        image: ImageRef,
        directory: PathBuf,
        expected: String,
        found: String,
    },
    #[error("could not claim an address")]
    Claim(#[source] io::Error),
    #[error("no address of {network} is free")]
    NoAddress { network: String },
    #[error("could not make the first-boot data")]
    FirstBoot(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("could not write the first-boot data down")]
    Provision(#[source] toml::ser::Error),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("could not start {}", program.display())]
    Start {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the machine did not come up: {said}")]
    NotReady { said: String },
}

impl CreateError {
    pub(super) fn into_failure(self) -> Failure {
        let retry = match &self {
            Self::NoImage { .. } | Self::OtherImage { .. } => Retry::Never,
            Self::Directory(DirectoryError::Foreign { .. }) => Retry::Never,
            Self::Unchecked { .. }
            | Self::Claim(_)
            | Self::NoAddress { .. }
            | Self::FirstBoot(_)
            | Self::Provision(_)
            | Self::Directory(_)
            | Self::Start { .. }
            | Self::NotReady { .. } => Retry::Later,
        };
        let kind = match &self {
            Self::NoImage { .. } | Self::OtherImage { .. } => FaultKind::Image,
            Self::NoAddress { .. } => FaultKind::Quota,
            Self::Unchecked { .. }
            | Self::Claim(_)
            | Self::FirstBoot(_)
            | Self::Provision(_)
            | Self::Directory(_)
            | Self::Start { .. }
            | Self::NotReady { .. } => FaultKind::Other,
        };
        Failure {
            message: chain(&self),
            retry,
            kind,
        }
    }
}

/// Digests of directories that were not written to since. A hundred machines of one image cost one
/// hash; the lock is held while it is computed, so that nobody computes it twice.
#[derive(Debug, Default)]
pub(super) struct Verified {
    digests: Mutex<BTreeMap<PathBuf, (Fingerprint, Digest)>>,
}

impl Verified {
    fn digest_of(&self, directory: &Path) -> Result<Digest, DigestError> {
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        let fingerprint = Fingerprint::of(directory)?;
        if let Some((known, digest)) = digests.get(directory)
            && *known == fingerprint
        {
            return Ok(digest.clone());
        }
        let digest = digest_of(directory)?;
        // Written to while it was read: the next machine has it read again.
        if Fingerprint::of(directory)? == fingerprint {
            digests.insert(directory.to_owned(), (fingerprint, digest.clone()));
        }
        Ok(digest)
    }
}

impl Context {
    /// Makes the machine of `order`.
    pub(super) fn create(&self, order: &CreateOrder) -> Result<(Started, Child), CreateError> {
        // A machine is only made while none of its instance is known. What carries its tag all
        // the same is left of a try that failed and could not be undone.
        self.end(&order.instance)?;
        let image = self.checked_image(&order.image)?;
        let (address, claim) = self.claim_address()?;
        let files = self.write_machine(order, &image, address)?;
        let result = self.start(&files, claim).and_then(|child| {
            let init = match InitRecord::read(&files) {
                Ok(record) => record.map(|record| record.init),
                Err(error) => {
                    end_child(child);
                    return Err(CreateError::Directory(error.into()));
                }
            };
            let machine = Started {
                address,
                init,
                runs: true,
            };
            Ok((machine, child))
        });
        if result.is_err()
            && let Err(error) = self.end(&order.instance)
        {
            // Its address is claimed as long as anything of it lives. The next try begins here.
            warn!(instance = %order.instance, "could not undo a failed start: {}", chain(&error));
        }
        result
    }

    fn checked_image(&self, image: &ImageRef) -> Result<PathBuf, CreateError> {
        let no_image = || CreateError::NoImage {
            image: image.clone(),
        };
        let directory = self.images.directory(image).ok_or_else(no_image)?;
        let unchecked = |source| CreateError::Unchecked {
            image: image.clone(),
            source,
        };
        let found = self.verified.digest_of(&directory).map_err(unchecked)?;
        if found != image.digest {
            return Err(CreateError::OtherImage {
                image: image.clone(),
                directory,
                expected: image.digest.short().to_owned(),
                found: found.short().to_owned(),
            });
        }
        Ok(directory)
    }

    fn claim_address(&self) -> Result<(IpAddr, AddressLock), CreateError> {
        // Workers that make machines now hold locks on theirs.
        let taken = self.shared.addresses();
        let claimed = self.addresses.claim(&taken).map_err(CreateError::Claim)?;
        claimed.ok_or_else(|| CreateError::NoAddress {
            network: self.options.network.to_string(),
        })
    }

    fn write_machine(
        &self,
        order: &CreateOrder,
        image: &Path,
        address: IpAddr,
    ) -> Result<MachineFiles, CreateError> {
        let mut provision = self
            .first_boot
            .provision(order, address)
            .map_err(CreateError::FirstBoot)?;
        provision.address = Some(address);
        provision.dns = Some(SocketAddr::new(address, DNS_PORT));
        let provision = toml::to_string(&provision).map_err(CreateError::Provision)?;
        let making = self.directories.begin(&MachineTag {
            environment: self.options.environment.clone(),
            instance: order.instance.clone(),
            fleet: order.fleet.clone(),
            image: order.image.clone(),
            address,
            zone: order.zone.clone(),
            epoch: order.epoch,
        })?;
        let path = making.provision();
        write_atomic(&path, provision.as_bytes(), 0o600).map_err(failed("write", &path))?;
        std::os::unix::fs::symlink(image, making.image())
            .map_err(failed("make", &making.image()))?;
        Ok(self.directories.complete(&making, &order.instance)?)
    }

    /// Starts init, which leaves our session and lives on without us, and waits until it is up.
    fn start(&self, files: &MachineFiles, claim: AddressLock) -> Result<Child, CreateError> {
        let log = File::create(files.init_log()).map_err(failed("write", &files.init_log()))?;
        let passed_on = PASSED_ON
            .iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut command = Command::new(&self.options.agent);
        start_with_own_limit(&mut command);
        let mut child = command
            .args(["init", "--machine"])
            .arg(files.root())
            .current_dir(files.root())
            .env_clear()
            .envs(passed_on)
            .env(MACHINE_VARIABLE, files.root())
            .env(LOCKS_VARIABLE, self.addresses.locks())
            .stdin(Stdio::from(claim.into_file()))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|source| CreateError::Start {
                program: self.options.agent.clone(),
                source,
            })?;
        let said = child.stdout.take().map(wait_for_ready);
        if matches!(said, Some(Ok(true))) {
            return Ok(child);
        }
        let why = match said {
            Some(Err(error)) => error.to_string(),
            Some(Ok(_)) | None => String::new(),
        };
        let said = tail(&files.init_log(), INIT_LOG_BYTES).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let said = [why.as_str(), said.trim()].join(" ").trim().to_owned();
        end_child(child);
        Err(CreateError::NotReady {
            said: if said.is_empty() {
                "it ended without a word".to_owned()
            } else {
                said
            },
        })
    }
}

/// It is our child: it must be killed and reaped also when it is not found by its record.
fn end_child(mut child: Child) {
    // The only failures are that it has ended.
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits for the line that init says once the machine is up. An end without it is a failed start.
fn wait_for_ready(mut output: ChildStdout) -> io::Result<bool> {
    let deadline = Instant::now() + READY_TIMEOUT;
    let expected = format!("{READY_LINE}\n");
    let mut said = Vec::new();
    while said.len() < expected.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut descriptors = [PollFd::new(&output, PollFlags::IN)];
        let ready = match poll(&mut descriptors, Some(&timeout)) {
            // A signal to the coordinator says nothing of the machine.
            Err(Errno::INTR) => continue,
            ready => ready?,
        };
        if ready == 0 {
            let message = format!("it was not up within {READY_TIMEOUT:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        let mut chunk = [0; 64];
        match output.read(&mut chunk)? {
            0 => break,
            count => said.extend_from_slice(&chunk[..count]),
        }
    }
    Ok(said == expected.as_bytes())
}
