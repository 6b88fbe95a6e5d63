//! The three tasks of the names. What comes is served and acknowledged at once; keeping it on disk
//! is another task's, so that a disk that refuses or hangs holds nothing up. And where the environment
//! moves to Consul, they are forgotten, a little later.

use std::{sync::Arc, time::Duration};

use calvin_model::{NamesSnapshot, NamesVersion};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::tasks::{AGAIN, wait_for_newer};
use crate::{
    dns::{Admitted, Names, NamesError, Target},
    fault::chain,
};

/// A write that takes longer than this is told like one that failed: a snapshot is some megabytes
/// at most, and a disk that works takes below a second for it.
const SLOW: Duration = Duration::from_secs(10);

/// Least time between two writes that succeed. While a large fleet comes up, names change several
/// times a second; what is on disk is only for a start without a coordinator, and machines that
/// share a disk (the process provider's do) would keep it busy with nothing else.
const REST: Duration = Duration::from_secs(5);

/// Names from before Consul are given for so long where Consul knows nobody of a name. An environment
/// that moves to Consul has all its machines there within seconds; Consul's own patience with a node is
/// about a minute.
const HANDOVER: Duration = Duration::from_secs(60);

/// Serves the newest names, and says which are served.
pub(super) async fn serve(
    names: Arc<Names>,
    mut newest: watch::Receiver<Option<Arc<NamesSnapshot>>>,
    served: watch::Sender<Option<NamesVersion>>,
) {
    while newest.changed().await.is_ok() {
        let Some(snapshot) = newest.borrow_and_update().clone() else {
            continue;
        };
        match names.admit(snapshot).await {
            Ok(Admitted::New(version)) => drop(served.send_replace(Some(version))),
            Ok(Admitted::Known(_)) => {}
            Err(error) => warn!(error = chain(&error), "names are not served"),
        }
    }
}

/// Keeps on disk what is served, and says why it could not be. What is served at the start came
/// from there. Once nothing more can come it tries what is left at once, and ends.
pub(super) async fn keep(
    names: Arc<Names>,
    mut served: watch::Receiver<Option<NamesVersion>>,
    unsaved: watch::Sender<Option<String>>,
) {
    while served.changed().await.is_ok() {
        // One that comes during the write brings the next round.
        served.mark_unchanged();
        match kept(&names, &unsaved).await {
            Ok(_) => {
                if unsaved.send_if_modified(|known| known.take().is_some()) {
                    info!("the names are on disk again");
                }
                drop(timeout(REST, closed(served.clone())).await);
            }
            Err(error) => {
                tell(&unsaved, chain(&error));
                // A newer snapshot may be shorter, or the disk may have got room.
                if let Ok(Err(_)) = timeout(AGAIN, wait_for_newer(&mut served)).await {
                    drop(kept(&names, &unsaved).await);
                    return;
                }
                served.mark_changed();
            }
        }
    }
}

/// Forgets what is served when a Consul client has answered instead for `HANDOVER`: until then it
/// answers what Consul does not know yet. `answers` says whether it answered the last question.
pub(super) async fn forget(
    names: Arc<Names>,
    mut target: watch::Receiver<Target>,
    mut answers: watch::Receiver<Option<bool>>,
) {
    let is_client = |target: &Target| matches!(target, Target::Client(_));
    let is_snapshots = |target: &Target| *target == Target::Snapshots;
    while target.wait_for(is_client).await.is_ok() {
        if answers
            .wait_for(|given| *given == Some(true))
            .await
            .is_err()
        {
            return;
        }
        let back = async {
            tokio::select! {
                back = target.wait_for(is_snapshots) => back.is_ok(),
                silent = answers.wait_for(|given| *given == Some(false)) => silent.is_ok(),
            }
        };
        match timeout(HANDOVER, back).await {
            Ok(true) => continue,
            Ok(false) => return,
            Err(_) => {}
        }
        let known = names.version();
        match names.forget().await {
            Ok(()) => {
                if let Some(version) = known {
                    info!(%version, "names come from Consul alone, these are forgotten");
                }
            }
            Err(error) => warn!(error = chain(&error), "old names are left on disk"),
        }
        if target.wait_for(is_snapshots).await.is_err() {
            return;
        }
    }
}

/// Waits until nothing more can come.
async fn closed<T>(mut watched: watch::Receiver<T>) {
    while watched.changed().await.is_ok() {}
}

/// One write. While it takes long, that is told: nothing else would ever say so of a disk that
/// hangs.
async fn kept(
    names: &Names,
    unsaved: &watch::Sender<Option<String>>,
) -> Result<Option<NamesVersion>, NamesError> {
    let write = names.keep();
    tokio::pin!(write);
    tokio::select! {
        done = &mut write => return done,
        () = sleep(SLOW) => tell(unsaved, format!("the disk has not answered for {SLOW:?}")),
    }
    write.await
}

fn tell(unsaved: &watch::Sender<Option<String>>, reason: String) {
    unsaved.send_if_modified(|known| {
        // The same again and again is one line in the log.
        let new = known.as_ref() != Some(&reason);
        if new {
            warn!(reason, "the names that are served are not on disk");
            *known = Some(reason);
        }
        new
    });
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);
    const DOMAIN: &str = "prod.example";

    fn snapshot(number: u64) -> Arc<NamesSnapshot> {
        Arc::new(NamesSnapshot {
            version: NamesVersion { epoch: 1, number },
            domain: DOMAIN.into(),
            ttl: Duration::from_secs(5),
            entries: Vec::new(),
        })
    }

    async fn until<T: Clone>(watched: &mut watch::Receiver<T>, good: impl FnMut(&T) -> bool) -> T {
        let found = timeout(DEADLINE, watched.wait_for(good)).await;
        found.unwrap().unwrap().clone()
    }

    #[tokio::test]
    async fn names_are_acknowledged_while_the_disk_refuses_and_that_is_said_until_it_takes_them() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let path = missing.join("names.json");
        let names = Arc::new(Names::new(DOMAIN, path.clone()).unwrap());
        let newest = watch::Sender::new(None);
        let (served, mut acknowledged) = watch::channel(None);
        let (unsaved, mut said) = watch::channel(None);
        let mut tasks = JoinSet::new();
        tasks.spawn(keep(names.clone(), served.subscribe(), unsaved));
        tasks.spawn(serve(names.clone(), newest.subscribe(), served));
        for number in 1..3 {
            newest.send_replace(Some(snapshot(number)));
            let version = Some(NamesVersion { epoch: 1, number });
            until(&mut acknowledged, |served| *served == version).await;
            assert_eq!(names.version(), version);
        }
        let reason = until(&mut said, Option::is_some).await.unwrap();
        assert!(reason.contains("No such file"), "{reason}");
        std::fs::create_dir(&missing).unwrap();
        until(&mut said, Option::is_none).await;
        let again = Names::new(DOMAIN, path).unwrap();
        assert_eq!(again.load().unwrap(), names.version());
    }

    #[tokio::test]
    async fn what_came_within_the_rest_is_on_disk_at_the_end_of_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("names.json");
        let names = Arc::new(Names::new(DOMAIN, path.clone()).unwrap());
        let newest = watch::Sender::new(None);
        let (served, mut acknowledged) = watch::channel(None);
        let (unsaved, _said) = watch::channel(None);
        let mut tasks = JoinSet::new();
        tasks.spawn(keep(names.clone(), served.subscribe(), unsaved));
        tasks.spawn(serve(names, newest.subscribe(), served));
        let on_disk = || {
            let kept = Names::new(DOMAIN, path.clone()).unwrap();
            kept.load().unwrap().map(|version| version.number)
        };
        for number in 1..3 {
            newest.send_replace(Some(snapshot(number)));
            let version = Some(NamesVersion { epoch: 1, number });
            until(&mut acknowledged, |served| *served == version).await;
            while on_disk().is_none() {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(on_disk(), Some(1), "it rests");
        drop(newest);
        let ended = async { while tasks.join_next().await.is_some() {} };
        timeout(REST / 2, ended).await.unwrap();
        assert_eq!(on_disk(), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_change_all_the_time_are_written_now_and_then_and_the_last_of_them_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("names.json");
        let names = Arc::new(Names::new(DOMAIN, path.clone()).unwrap());
        let (served, _) = watch::channel(None);
        let (unsaved, _said) = watch::channel(None);
        let mut tasks = JoinSet::new();
        tasks.spawn(keep(names.clone(), served.subscribe(), unsaved));
        let on_disk = || {
            let kept = Names::new(DOMAIN, path.clone()).unwrap();
            kept.load().unwrap().map(|version| version.number)
        };
        let mut seen = std::collections::BTreeSet::new();
        for number in 1..=40 {
            names.admit(snapshot(number)).await.unwrap();
            served.send_replace(names.version());
            sleep(Duration::from_millis(250)).await;
            seen.extend(on_disk());
        }
        assert!((2..=4).contains(&seen.len()), "{seen:?} in 10 s");
        sleep(REST * 2).await;
        assert_eq!(on_disk(), Some(40));
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_forgotten_when_consul_has_answered_for_long_enough_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("names.json");
        let names = Arc::new(Names::new(DOMAIN, path.clone()).unwrap());
        names.admit(snapshot(1)).await.unwrap();
        names.keep().await.unwrap();
        let target = watch::Sender::new(Target::Snapshots);
        let answers = watch::Sender::new(None);
        let mut tasks = JoinSet::new();
        tasks.spawn(forget(
            names.clone(),
            target.subscribe(),
            answers.subscribe(),
        ));
        let second = Duration::from_secs(1);
        let client = Target::Client(std::net::SocketAddr::from(([127, 0, 0, 1], 8600)));

        sleep(2 * HANDOVER).await;
        // Nobody could be asked yet.
        target.send_replace(Target::Memory);
        sleep(2 * HANDOVER).await;
        // It may be asked, and has said nothing yet; then it does, and cannot any more.
        target.send_replace(client);
        sleep(2 * HANDOVER).await;
        answers.send_replace(Some(true));
        sleep(HANDOVER - second).await;
        answers.send_replace(Some(false));
        sleep(2 * HANDOVER).await;
        assert!(names.version().is_some());
        // Given up again: the snapshots are what there is.
        answers.send_replace(Some(true));
        sleep(HANDOVER - second).await;
        target.send_replace(Target::Snapshots);
        sleep(2 * HANDOVER).await;
        assert!(names.version().is_some());
        target.send_replace(client);
        sleep(HANDOVER - second).await;
        assert!(names.version().is_some() && path.exists());
        // Not trusted for a while, which is no way back.
        target.send_replace(Target::Memory);
        sleep(2 * second).await;
        while path.exists() {
            sleep(second).await;
        }
        assert_eq!(names.version(), None);

        // Whoever leaves Consul again has names again, and they are forgotten like the first.
        target.send_replace(Target::Snapshots);
        sleep(second).await;
        names.admit(snapshot(2)).await.unwrap();
        sleep(2 * HANDOVER).await;
        assert!(names.version().is_some());
        target.send_replace(client);
        sleep(HANDOVER + second).await;
        assert_eq!(names.version(), None);
    }
}
