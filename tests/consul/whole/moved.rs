//! An environment that had the embedded catalogue and is given Consul: by another configuration, and by
//! nothing else.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use calvin_consul::health::ServiceStatus;
use nix::sys::signal::Signal;
use tokio::{task::JoinHandle, time::sleep};

use super::{COUNT, COUNT_SIZE};
use crate::{
    stage::{
        images::{GOOD, Pace, WEB},
        names,
        whole::{DOMAIN, Whole},
    },
    support::until,
};

/// Looks a name up with the agents of all machines, again and again, as long as it lives.
struct Watcher {
    task: JoinHandle<()>,
    asked: Arc<AtomicU64>,
    empty: Arc<AtomicU64>,
}

impl Watcher {
    fn start(machines: Vec<IpAddr>) -> Self {
        let asked = Arc::new(AtomicU64::new(0));
        let empty = Arc::new(AtomicU64::new(0));
        let counted = (asked.clone(), empty.clone());
        let task = tokio::spawn(async move {
            let name = active();
            loop {
                for machine in &machines {
                    let found = names::addresses(*machine, &name).await;
                    counted.0.fetch_add(1, Ordering::Relaxed);
                    if found.is_empty() {
                        counted.1.fetch_add(1, Ordering::Relaxed);
                    }
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        Self { task, asked, empty }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Who serves.
fn active() -> String {
    format!("active.{WEB}.service.{DOMAIN}")
}

/// The addresses of the fleet's machines, in order.
async fn machines(whole: &Whole) -> Vec<IpAddr> {
    let fleet = whole.fleet().await.unwrap();
    let mut found: Vec<IpAddr> = fleet
        .instances
        .iter()
        .map(|one| one.address.parse().unwrap())
        .collect();
    found.sort();
    found
}

/// Waits until these machines are what everybody finds: each machine with its own agent, and a consumer
/// in Consul.
async fn until_found(whole: &Whole, machines: &[IpAddr]) {
    until("the names", async || {
        for machine in machines {
            let found = names::addresses(*machine, &active()).await;
            if found != machines {
                return Err(format!("{machine} finds {found:?}"));
            }
        }
        let found = names::ask(whole.edge.dns, &active()).await;
        (found == machines)
            .then_some(())
            .ok_or_else(|| format!("{found:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_moves_to_consul_by_its_configuration_and_nobody_is_restarted() {
    let mut whole = Whole::prepare_embedded("moved", 1).await;
    whole.calvin.start_coordinator().await;
    whole
        .roll_out_first(&GOOD[..2], COUNT, Pace::default())
        .await;
    let instances = whole.instances("1.0").await;
    let machines = machines(&whole).await;
    let (workloads, agents) = (whole.workloads(), whole.agents());
    assert_eq!(workloads.len(), COUNT_SIZE);
    assert!(whole.catalogue(WEB).await.unwrap().is_empty());
    let lines = whole.calvin.operator.history(WEB).await.len();
    let watcher = Watcher::start(machines.clone());

    whole.calvin.signal_coordinator(Signal::SIGTERM);
    whole.calvin.coordinator_ended().await;
    whole.configure_consul().await;
    whole.calvin.start_coordinator().await;
    whole.until_active(&instances).await;
    until("all passing", async || {
        let found = whole.catalogue(WEB).await?;
        let passing = |status| status == ServiceStatus::Passing;
        let all = found.iter().all(|one| passing(one.status()));
        (all && found.len() == COUNT_SIZE)
            .then_some(())
            .ok_or_else(|| format!("{found:#?}"))
    })
    .await;
    until_found(&whole, &machines).await;
    whole.calvin.until_whole(WEB, COUNT).await;
    let (asked, empty) = (&watcher.asked, &watcher.empty);
    let (asked, empty) = (asked.load(Ordering::Relaxed), empty.load(Ordering::Relaxed));
    eprintln!("{asked} look-ups, {empty} found nobody");
    assert!(asked > 20, "{asked}");
    assert_eq!(empty, 0, "of {asked} look-ups");

    assert_eq!(whole.workloads(), workloads);
    assert_eq!(whole.agents(), agents);
    assert_eq!(whole.instances("1.0").await, instances);
    let history = whole.calvin.operator.history(WEB).await;
    let changed = history[lines..]
        .iter()
        .find(|line| ["instance_intended", "instance_retiring"].contains(&&*line.kind));
    assert!(changed.is_none(), "{changed:?}");

    whole.roll_out("2.0").await;
    assert_eq!(whole.until_ended().await.phase, "done");
    let green = whole.instances("2.0").await;
    assert_eq!(green.len(), COUNT_SIZE);
    whole.until_active(&green).await;
    assert_eq!(watcher.empty.load(Ordering::Relaxed), 0, "in the rollout");
}
