//! What the doctor says of a disk that hangs.

use std::io;

use calvin_engine::ports::{CreateOrder, MachineList, Provider};
use calvin_model::InstanceId;
use calvin_planner::DeleteBasis;

use super::*;
use crate::{
    provider::{ConsoleError, ConsoleFollower, Room},
    store::Database,
};

/// Longer than a check takes that does not hang.
const LONGEST: Duration = Duration::from_secs(1);

/// A provider that only counts.
#[derive(Debug)]
struct Counted;

impl Provider for Counted {
    fn create(&mut self, _: &CreateOrder) {}

    fn delete(&mut self, _: &InstanceId, _: &DeleteBasis) {}

    fn list(&self) -> MachineList {
        MachineList::default()
    }
}

impl Machines for Counted {
    fn console(&self, _: &InstanceId, _: usize) -> Result<ConsoleFollower, ConsoleError> {
        unreachable!("the doctor reads no console")
    }

    fn room(&self) -> io::Result<Room> {
        Ok(Room { free: 1, total: 2 })
    }
}

#[tokio::test]
async fn a_disk_that_hangs_hides_no_other_check_and_keeps_one_thread_for_each() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let database = Arc::new(Database::open(&path).unwrap());
    let history = History::new(Arc::clone(&database));
    let looks = DiskLooks::default();
    let call = |longest| {
        let machines: Arc<dyn Machines> = Arc::new(Counted);
        look_at_all(&looks, longest, history.clone(), machines, &path)
    };
    let hung = database.fault().hang_reads_now();
    for said in [
        "did not answer within 1s",
        "an earlier look did not come back",
    ] {
        let [clock, addresses, space, history] = call(LONGEST).await;
        for check in [clock, history] {
            assert!(!check.ok && check.found.starts_with(said), "{check:?}");
        }
        assert_eq!(addresses.found, "1 of 2 free");
        assert!(space.found.ends_with("free"), "{space:?}");
        assert_eq!(hung.holds(), 2, "the clock's and the history's");
    }
    drop(hung);
    // What waited comes back, and whoever asks then looks again.
    let [clock, _, _, history] = call(Duration::from_secs(10)).await;
    assert!(clock.ok && history.ok, "{clock:?} {history:?}");
}
