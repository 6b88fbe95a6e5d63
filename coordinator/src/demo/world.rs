//! What is the case now: the coordinator's status and the load generator's counters, each followed
//! by a task, for the acts to wait on and for the screen to show.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use calvin_proto::wire::{FleetStatus, RolloutStatus, StatusReply};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use super::{
    DemoError,
    files::{CLIENT_FLEET, PORT, WEB_FLEET},
    operator::Operator,
    show::Show,
    traffic::{self, READING_INTERVAL, Traffic},
    workload::load::Counted,
};

/// Pause before a lost coordinator is looked for again: act four must see it back at once.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Follows the world for as long as it is kept.
#[derive(Debug)]
pub(super) struct World {
    status: watch::Receiver<Option<Arc<StatusReply>>>,
    traffic: watch::Receiver<Traffic>,
    seen: Arc<Mutex<BTreeSet<String>>>,
    // Aborted when the world is dropped.
    _followers: JoinSet<()>,
}

impl World {
    pub(super) fn follow(operator: &Operator, show: &Show) -> Self {
        let mut followers = JoinSet::new();
        let (status_in, status) = watch::channel(None);
        let (traffic_in, traffic) = watch::channel(Traffic::default());
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let follow = follow_status(operator.clone(), show.clone(), status_in, Arc::clone(&seen));
        followers.spawn(follow);
        followers.spawn(follow_traffic(status.clone(), show.clone(), traffic_in));
        Self {
            status,
            traffic,
            seen,
            _followers: followers,
        }
    }

    /// Every instance that there ever was.
    pub(super) fn seen(&self) -> BTreeSet<String> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Every instance that the coordinator knows now.
    pub(super) fn instances(&self) -> BTreeSet<String> {
        self.status
            .borrow()
            .as_deref()
            .map(instances)
            .unwrap_or_default()
    }

    /// Waits until the status shows what is looked for.
    pub(super) async fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut find: impl FnMut(&StatusReply) -> Option<T>,
    ) -> Result<T, DemoError> {
        let mut status = self.status.clone();
        let deadline = Instant::now() + limit;
        loop {
            let newest = status.borrow_and_update().clone();
            if let Some(found) = newest.as_deref().and_then(&mut find) {
                return Ok(found);
            }
            // The sender lives as long as this world.
            if !matches!(timeout_at(deadline, status.changed()).await, Ok(Ok(()))) {
                return Err(DemoError::TookTooLong {
                    what: what.to_owned(),
                    waited: limit,
                    seen: newest.as_deref().map_or("no status".to_owned(), describe),
                });
            }
        }
    }

    /// Waits until the counters show what is looked for.
    pub(super) async fn until_counted(
        &self,
        what: &str,
        limit: Duration,
        good: impl Fn(&Counted) -> bool,
    ) -> Result<Counted, DemoError> {
        let mut traffic = self.traffic.clone();
        let deadline = Instant::now() + limit;
        loop {
            let newest = traffic.borrow_and_update().counted.clone();
            if good(&newest) {
                return Ok(newest);
            }
            if !matches!(timeout_at(deadline, traffic.changed()).await, Ok(Ok(()))) {
                return Err(DemoError::TookTooLong {
                    what: what.to_owned(),
                    waited: limit,
                    seen: format!("{} requests, {} failed", newest.requests, newest.failed),
                });
            }
        }
    }

    /// Waits until no request has failed for two seconds: twice as long as names live.
    pub(super) async fn until_calm(&self, limit: Duration) -> Result<(), DemoError> {
        const CALM: Duration = Duration::from_secs(2);
        let mut traffic = self.traffic.clone();
        let start = Instant::now();
        let mut failed = traffic.borrow_and_update().counted.failed;
        let mut since = start;
        while since.elapsed() < CALM {
            if start.elapsed() > limit {
                return Err(DemoError::TookTooLong {
                    what: "requests to stop failing".to_owned(),
                    waited: limit,
                    seen: format!("{failed} failed"),
                });
            }
            // A reading that does not come leaves the count as it is.
            let _ = timeout_at(since + CALM, traffic.changed()).await;
            let newest = traffic.borrow_and_update().counted.failed;
            if newest != failed {
                failed = newest;
                since = Instant::now();
            }
        }
        Ok(())
    }

    /// The counters as they are read next.
    pub(super) async fn counted(&self) -> Counted {
        let mut traffic = self.traffic.clone();
        let deadline = Instant::now() + READING_INTERVAL * 8;
        traffic.mark_unchanged();
        // A load generator that does not answer has counted nothing new.
        let _ = timeout_at(deadline, traffic.changed()).await;
        traffic.borrow().counted.clone()
    }
}

/// The fleet of this name.
pub(super) fn fleet<'a>(status: &'a StatusReply, name: &str) -> Option<&'a FleetStatus> {
    status.fleets.iter().find(|fleet| fleet.name == name)
}

/// The newest rollout of the web servers.
pub(super) fn web_rollout(status: &StatusReply) -> Option<&RolloutStatus> {
    fleet(status, WEB_FLEET)?.rollout.as_ref()
}

/// Ids of all instances that the coordinator knows.
fn instances(status: &StatusReply) -> BTreeSet<String> {
    let instances = status.fleets.iter().flat_map(|fleet| &fleet.instances);
    instances.map(|instance| instance.id.clone()).collect()
}

fn describe(status: &StatusReply) -> String {
    let mut parts = Vec::new();
    if !status.held.is_empty() {
        parts.push(format!("held: {}", status.held));
    }
    for fleet in &status.fleets {
        let rollout = fleet.rollout.as_ref();
        let phase = rollout.map_or("no rollout", |rollout| rollout.phase.as_str());
        let mut text = format!(
            "{} {} of {}, {phase}",
            fleet.name, fleet.serving, fleet.wanted
        );
        let waiting = fleet
            .waiting
            .iter()
            .chain(rollout.into_iter().flat_map(|it| &it.waiting));
        for waiting in waiting {
            text.push_str(&format!("; waits for {}", waiting.what));
        }
        let blocked = fleet
            .blocked
            .iter()
            .chain(rollout.into_iter().flat_map(|it| &it.blocked));
        for blocked in blocked {
            text.push_str(&format!(
                "; {}: {} ({})",
                blocked.what, blocked.rule, blocked.fact
            ));
        }
        parts.push(text);
    }
    parts.join(" | ")
}

async fn follow_status(
    operator: Operator,
    show: Show,
    status: watch::Sender<Option<Arc<StatusReply>>>,
    seen: Arc<Mutex<BTreeSet<String>>>,
) {
    loop {
        if let Ok(mut stream) = operator.watch_status().await {
            while let Ok(Some(reply)) = stream.message().await {
                seen.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend(instances(&reply));
                let reply = Arc::new(reply);
                show.status(Arc::clone(&reply));
                status.send_replace(Some(reply));
            }
        }
        show.coordinator_away();
        sleep(LOOK_AGAIN).await;
    }
}

async fn follow_traffic(
    status: watch::Receiver<Option<Arc<StatusReply>>>,
    show: Show,
    traffic: watch::Sender<Traffic>,
) {
    let mut ticks = tokio::time::interval(READING_INTERVAL);
    let mut client = None;
    loop {
        ticks.tick().await;
        if let Some(found) = status.borrow().as_deref().and_then(load_generator) {
            client = Some(found);
        }
        let Some(client) = client else { continue };
        let Some(counted) = traffic::read(client).await else {
            continue;
        };
        traffic.send_modify(|traffic| traffic.take(counted));
        show.traffic(traffic.borrow().clone());
    }
}

/// Where the load generator answers.
fn load_generator(status: &StatusReply) -> Option<SocketAddr> {
    let instance = fleet(status, CLIENT_FLEET)?.instances.first()?;
    Some(SocketAddr::new(instance.address.parse().ok()?, PORT))
}
