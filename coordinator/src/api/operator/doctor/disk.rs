//! The doctor's checks that wait for the disk. Each runs on a thread of its own, so that a slow one
//! does not hide the others, and for everybody who asks: a disk that hangs keeps one thread for each
//! check, not one for each call.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use calvin_engine::chain;
use calvin_proto::wire;
use tokio::{sync::watch, time::timeout};

use super::{check, human_ms};
use crate::{
    api::operator::OperatorParts,
    provider::Machines,
    runtime::wall_ms_now,
    store::{History, StoreFailure},
};

/// Free space below this is a warning: the store and its history grow by megabytes a day, consoles
/// by 10 MiB a machine.
const FREE_BYTES: u64 = 512 * 1024 * 1024;
/// Time for each check, of which the longest follows the whole history. Who asks waits for it, so a
/// disk that takes longer is what is found.
const DISK_TIMEOUT: Duration = Duration::from_secs(10);

/// A check's finding, once it came back.
type Finding = watch::Receiver<Option<wire::DoctorCheck>>;

/// Checks that were started, by name. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct DiskLooks(Arc<Mutex<BTreeMap<&'static str, Finding>>>);

/// Whether a look was begun for who asks, or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    Now,
    Before,
}

impl DiskLooks {
    /// What `look` finds, or that it did not within `longest`. While an earlier one of this name has
    /// not come back, that one is waited for instead.
    async fn finding(
        &self,
        name: &'static str,
        longest: Duration,
        look: impl FnOnce() -> wire::DoctorCheck + Send + 'static,
    ) -> wire::DoctorCheck {
        let (mut finding, begun) = self.begin(name, look);
        match timeout(longest, finding.wait_for(Option::is_some)).await {
            Ok(Ok(found)) => match &*found {
                Some(check) => check.clone(),
                None => not_looked_at(name),
            },
            Ok(Err(_)) => not_looked_at(name),
            Err(_) => {
                let longest = human_ms(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX));
                let found = match begun {
                    Begun::Now => format!("did not answer within {longest}"),
                    Begun::Before => format!(
                        "an earlier look did not come back, within {longest} more either, so it \
                         was not looked at again"
                    ),
                };
                let advice = "look at the disk of the data directory (dmesg, iostat)";
                check(name, false, found, advice)
            }
        }
    }

    fn begin(
        &self,
        name: &'static str,
        look: impl FnOnce() -> wire::DoctorCheck + Send + 'static,
    ) -> (Finding, Begun) {
        // A panic cannot leave half of an insertion that is seen.
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(finding) = looks.get(name)
            // The look has the other end.
            && finding.has_changed().is_ok()
        {
            return (finding.clone(), Begun::Before);
        }
        let (found, finding) = watch::channel(None);
        looks.insert(name, finding.clone());
        tokio::task::spawn_blocking(move || found.send_replace(Some(look())));
        (finding, Begun::Now)
    }
}

impl OperatorParts {
    /// Clock, addresses, space and history.
    pub(super) async fn disk_checks(&self) -> [wire::DoctorCheck; 4] {
        let (history, machines) = (self.history.clone(), Arc::clone(&self.machines));
        look_at_all(
            &self.disk_looks,
            DISK_TIMEOUT,
            history,
            machines,
            &self.store,
        )
        .await
    }
}

async fn look_at_all(
    looks: &DiskLooks,
    longest: Duration,
    history: History,
    machines: Arc<dyn Machines>,
    store: &Path,
) -> [wire::DoctorCheck; 4] {
    let (lines, store) = (history.clone(), store.to_owned());
    let found = tokio::join!(
        looks.finding("clock", longest, move || clock(&lines)),
        looks.finding("addresses", longest, move || addresses(&*machines)),
        looks.finding("disk", longest, move || space(&store)),
        looks.finding("history", longest, move || history_holds(&history)),
    );
    found.into()
}

fn not_looked_at(name: &str) -> wire::DoctorCheck {
    let found = "was not looked at, by a fault of ours".to_owned();
    let advice = "please report it with the coordinator's log";
    check(name, false, found, advice)
}

fn clock(history: &History) -> wire::DoctorCheck {
    let newest = match history.newest(1, |_| true) {
        Ok(newest) => newest,
        Err(error) => return unreadable("clock", &error),
    };
    let last = newest.first().map_or(0, |(line, _)| line.line.wall_ms);
    let now = wall_ms_now();
    let found = if now >= last {
        "goes forward".to_owned()
    } else {
        format!(
            "{} behind the newest line of the history",
            human_ms(last - now)
        )
    };
    check(
        "clock",
        now >= last,
        found,
        "look at the machine's time synchronisation (chronyc tracking, timedatectl)",
    )
}

fn addresses(machines: &dyn Machines) -> wire::DoctorCheck {
    let (ok, found) = match machines.room() {
        Ok(capacity) => (
            capacity.free > 0,
            format!("{} of {} free", capacity.free, capacity.total),
        ),
        Err(error) => (false, format!("could not be counted: {error}")),
    };
    let advice = "give provider.process.network a larger network";
    check("addresses", ok, found, advice)
}

fn space(store: &Path) -> wire::DoctorCheck {
    let advice = "make room on the disk of the data directory";
    match rustix::fs::statvfs(store) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let found = format!("{} MiB free", free / (1024 * 1024));
            check("disk", free >= FREE_BYTES, found, advice)
        }
        Err(error) => check(
            "disk",
            false,
            format!("could not be looked at: {error}"),
            advice,
        ),
    }
}

fn history_holds(history: &History) -> wire::DoctorCheck {
    let advice =
        "somebody or something changed the store: compare with a backup before it is trusted";
    match history.verify() {
        Ok(lines) => check("history", true, format!("{lines} lines, unbroken"), advice),
        Err(error @ (StoreFailure::Broken { .. } | StoreFailure::Record(_))) => {
            check("history", false, error.to_string(), advice)
        }
        Err(error) => unreadable("history", &error),
    }
}

/// What is found where the store could not be read.
fn unreadable(name: &str, error: &StoreFailure) -> wire::DoctorCheck {
    let found = format!("not known, the store could not be read: {}", chain(error));
    let advice = "look at the disk of the data directory (df, dmesg)";
    check(name, false, found, advice)
}

#[cfg(test)]
mod tests;
