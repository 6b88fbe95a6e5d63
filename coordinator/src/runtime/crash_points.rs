//! Numbered places at which a test has the coordinator die: before and after each commit, each
//! call that reaches outside, and the making of each machine. Only `calvin-crash` has them.
//!
//! They lie around the engine's ports, so that nothing has to be kept in mind when the engine
//! changes. A call that repeats the newest one of its kind is no new place: the engine asks again
//! in each pass until what it asked for is seen to be done, and how often depends on the machine.

mod ports;

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::Write as _,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use calvin_engine::{PortSet, ports::CreateOrder};
use calvin_model::Provision;
use rustix::process::{Signal, getpid, kill_process};

use crate::provider::FirstBoot;

#[cfg(not(debug_assertions))]
compile_error!("crash points are for tests: build without the feature `crash-points`");

/// The file that gets one line for each place passed, and one for the death.
const LOG: &str = "CALVIN_CRASH_LOG";
/// Where to die: `NUMBER before` or `NUMBER after`. Without it nobody dies.
const AT: &str = "CALVIN_CRASH_AT";

/// The places of one process.
#[derive(Debug, Clone)]
pub(super) struct CrashPoints(Arc<Mutex<Passed>>);

#[derive(Debug)]
struct Passed {
    log: Option<File>,
    at: Option<(u64, Side)>,
    count: u64,
    /// The newest call of each kind, to know one that repeats it.
    newest: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

impl CrashPoints {
    /// As the environment of this process says.
    pub(super) fn from_environment() -> Self {
        let log = env::var_os(LOG).and_then(|path| {
            let file = File::options().create(true).append(true).open(path);
            file.inspect_err(|error| tracing::error!(%error, "{LOG} cannot be written"))
                .ok()
        });
        let at = env::var(AT).ok().and_then(|text| parse(&text));
        Self(Arc::new(Mutex::new(Passed {
            log,
            at,
            count: 0,
            newest: BTreeMap::new(),
        })))
    }

    /// The same ports, with places around what they do.
    pub(super) fn around(&self, ports: PortSet) -> PortSet {
        ports::around(self, ports)
    }

    /// The same first-boot data, with a place in the middle of the making of each machine.
    pub(super) fn around_first_boot(&self, inner: impl FirstBoot + 'static) -> Arc<dyn FirstBoot> {
        Arc::new(FirstBootPoints {
            points: self.clone(),
            inner,
        })
    }

    /// Does one thing, and dies before or after it if this is the place. `kind` and `what` tell it
    /// from others; a `what` that repeats the newest of its kind is no place.
    fn pass<R>(&self, kind: String, what: String, act: impl FnOnce() -> R) -> R {
        let Some(number) = self.count(kind, what) else {
            return act();
        };
        self.die_at(number, Side::Before);
        let done = act();
        self.die_at(number, Side::After);
        done
    }

    fn count(&self, kind: String, what: String) -> Option<u64> {
        let mut passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if passed.newest.get(&kind) == Some(&what) {
            return None;
        }
        passed.count += 1;
        let number = passed.count;
        passed.write(&format!("{number} {kind}: {what}"));
        passed.newest.insert(kind, what);
        Some(number)
    }

    fn die_at(&self, number: u64, side: Side) {
        let mut passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if passed.at != Some((number, side)) {
            return;
        }
        passed.write(&format!("died {side:?} {number}"));
        // Only this thread's end of the signal is waited for: no other thread gets further either.
        let _ = kill_process(getpid(), Signal::KILL);
        loop {
            thread::park();
        }
    }
}

impl Passed {
    /// What is written before a SIGKILL is in the kernel and stays.
    fn write(&mut self, line: &str) {
        if let Some(log) = &mut self.log
            && let Err(error) = writeln!(log, "{line}")
        {
            tracing::error!(%error, "{LOG} cannot be written");
        }
    }
}

fn parse(text: &str) -> Option<(u64, Side)> {
    let (number, side) = text.split_once(' ')?;
    let side = match side {
        "before" => Side::Before,
        "after" => Side::After,
        _ => return None,
    };
    Some((number.parse().ok()?, side))
}

/// First-boot data is made on the provider's own thread, when the machine's directory is there and
/// nothing runs in it yet.
#[derive(Debug)]
struct FirstBootPoints<F> {
    points: CrashPoints,
    inner: F,
}

impl<F: FirstBoot> FirstBoot for FirstBootPoints<F> {
    fn provision(
        &self,
        order: &CreateOrder,
        address: IpAddr,
    ) -> Result<Provision, Box<dyn std::error::Error + Send + Sync>> {
        let kind = format!("first boot {}", order.instance);
        self.points.pass(kind, address.to_string(), || {
            self.inner.provision(order, address)
        })
    }
}
