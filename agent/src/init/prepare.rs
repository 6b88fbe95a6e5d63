//! Everything that must hold before a machine is up: one thread, the address claimed, what an
//! earlier start left ended, sockets bound.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::DirBuilderExt},
    path::PathBuf,
    time::Duration,
};

use calvin_model::{BootId, Provision};
use calvin_proto::machine::{
    AddressLock, InitRecord, LOCKS_VARIABLE, MachineFiles, ProcessId, address_lock_directory,
    descriptors::raise_limit,
    processes::{host_boot, kill_all},
};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};

use super::{DnsSockets, InitArguments, InitError, child::Reserved, server::Server};

/// A killed process is gone within milliseconds; one that is not hangs in the kernel.
const LEFTOVERS_TIMEOUT: Duration = Duration::from_secs(10);

/// What a machine needs to be started.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) files: MachineFiles,
    pub(super) agent: PathBuf,
    pub(super) record: InitRecord,
    pub(super) sockets: Option<DnsSockets>,
    pub(super) signals: SignalFd,
    pub(super) server: Server,
    /// Held for as long as the machine lives.
    pub(super) _claim: Option<AddressLock>,
    pub(super) _reserved: Reserved,
}

/// Checks and makes everything.
pub(super) fn prepare(arguments: &InitArguments) -> Result<Prepared, InitError> {
    refuse_threads()?;
    // As many as the host lets it have: it is the only one that must not run out. A refusal
    // leaves it with what it has.
    let _ = raise_limit();
    let reserved = Reserved::take().map_err(system("open /dev/null"))?;
    lead_session()?;
    let signals = take_signals()?;
    let root = fs::canonicalize(&arguments.machine).map_err(|source| InitError::File {
        what: "find",
        path: arguments.machine.clone(),
        source,
    })?;
    let files = MachineFiles::new(root);
    let provision = read_provision(&files)?;
    // The claim comes first: it tells two inits apart that are started for one machine.
    let claim = claim_address(&provision)?;
    end_leftovers(&files)?;
    let sockets = provision
        .dns
        .map(|address| {
            DnsSockets::bind(address).map_err(|source| InitError::Dns { address, source })
        })
        .transpose()?;
    make_run_directory(&files)?;
    let server = Server::bind(&files.init_socket()).map_err(|source| InitError::File {
        what: "listen on",
        path: files.init_socket(),
        source,
    })?;
    let agent = match &arguments.agent {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(system("find the own program"))?,
    };
    Ok(Prepared {
        record: new_record()?,
        files,
        agent,
        sockets,
        signals,
        server,
        _claim: claim,
        _reserved: reserved,
    })
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> InitError {
    move |source| InitError::System { what, source }
}

fn refuse_threads() -> Result<(), InitError> {
    let threads = fs::read_dir("/proc/self/task").map_err(system("count the own threads"))?;
    match threads.count() {
        1 => Ok(()),
        count => Err(InitError::Threads { count }),
    }
}

/// Makes this process the leader of a session, which outlives the terminal and the coordinator that
/// it was started from, and the parent of every orphan below it.
fn lead_session() -> Result<(), InitError> {
    // Refused to the leader of a process group, as a shell starts it: then the session is the
    // shell's, and the processes below are found by their environment and descent.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| system("become the parent of orphans")(error.into()))
}

fn take_signals() -> Result<SignalFd, InitError> {
    let mut taken = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        taken.add(signal);
    }
    taken
        .thread_block()
        .and_then(|()| SignalFd::with_flags(&taken, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC))
        .map_err(|error| system("take over the signals")(error.into()))
}

fn read_provision(files: &MachineFiles) -> Result<Provision, InitError> {
    let path = files.provision();
    let text = fs::read_to_string(&path).map_err(|source| InitError::File {
        what: "read",
        path: path.clone(),
        source,
    })?;
    Ok(Provision::parse(&path.display().to_string(), &text)?)
}

/// Claims the machine's address, or takes over the claim that the provider made and handed over as
/// the standard input.
fn claim_address(provision: &Provision) -> Result<Option<AddressLock>, InitError> {
    let Some(address) = provision.address else {
        return Ok(None);
    };
    let chosen = std::env::var_os(LOCKS_VARIABLE).map(PathBuf::from);
    let claim = address_lock_directory(chosen.as_deref()).and_then(|directory| {
        let input = io::stdin().as_fd().try_clone_to_owned().map(File::from);
        if let Ok(input) = input
            && let Some(claim) = AddressLock::adopt(&directory, address, input)?
        {
            return Ok(Some(claim));
        }
        AddressLock::try_take(&directory, address)
    });
    match claim.map_err(system("claim the address"))? {
        Some(claim) => Ok(Some(claim)),
        None => Err(InitError::AddressTaken { address }),
    }
}

/// Ends what an earlier init of this machine left when it was killed.
fn end_leftovers(files: &MachineFiles) -> Result<(), InitError> {
    let record = match InitRecord::read(files) {
        // Never started: nothing can be left.
        Ok(None) => return Ok(()),
        Ok(record) => record,
        // What it says of its processes is lost; they are found by their environment.
        Err(_) => None,
    };
    if let Some(record) = &record {
        let this_boot = host_boot().is_ok_and(|boot| boot == record.host_boot);
        if this_boot && record.init.is_alive() {
            return Err(InitError::Running {
                machine: files.root().to_owned(),
                pid: record.init.pid,
            });
        }
    }
    Ok(kill_all(files.root(), record.as_ref(), LEFTOVERS_TIMEOUT)?)
}

fn make_run_directory(files: &MachineFiles) -> Result<(), InitError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(files.run())
        .map_err(|source| InitError::File {
            what: "make",
            path: files.run(),
            source,
        })
}

fn new_record() -> Result<InitRecord, InitError> {
    let boot = uuid::Uuid::new_v4().to_string();
    let boot: BootId = boot.parse().map_err(|error| {
        let source = io::Error::other(error);
        system("make a boot id")(source)
    })?;
    Ok(InitRecord {
        host_boot: host_boot().map_err(system("read the host's boot id"))?,
        boot,
        init: ProcessId::own().map_err(system("read the own start time"))?,
        agent: None,
        workload: None,
        units: BTreeMap::new(),
    })
}
