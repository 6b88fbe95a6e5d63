//! What a test brings up in its environment, and what it waits for there.

use std::{net::SocketAddr, path::PathBuf};

use calvin_proto::wire::{FleetStatus, InstanceStatus, RolloutStatus};
use tonic::Status;

use super::{
    environment::{Environment, binary},
    files::{self, Fleet, PORT, Says, Traffic},
    processes,
    traffic::{self, Counted},
    waiting::until,
};

impl Environment {
    /// Records web images: version and fault (empty for none).
    pub(crate) async fn add_web_images(&self, images: &[(&str, &str)]) {
        for (version, fault) in images {
            let fault: Vec<&str> = fault.split_whitespace().collect();
            let says = Says::at(self.pace);
            let folder = files::web_image(&binary("calvin"), self.home(), version, &fault, says);
            self.add_image(folder).await;
        }
    }

    pub(crate) async fn add_image(&self, folder: PathBuf) {
        let shown = folder.display().to_string();
        let added = self.operator.add_image(folder).await;
        added.unwrap_or_else(|status| panic!("image {shown}: {status}"));
    }

    /// Applies a fleet and waits until its first rollout is done.
    pub(crate) async fn bring_up(&self, fleet: &Fleet) {
        let applied = self.operator.apply(&fleet.toml()).await;
        applied.unwrap_or_else(|status| panic!("fleet {}: {status}", fleet.name));
        let ended = self.until_ended(&fleet.name).await;
        assert_eq!(ended.phase, "done", "{ended:?}");
    }

    /// Five web servers of version 1.0 and a client that asks them; the other versions are recorded
    /// too: 2.0 good, 3.0 never healthy, 4.0 breaks under traffic.
    pub(crate) async fn bring_up_web_with_traffic(&self) {
        self.bring_up_with_traffic(&Fleet::new("web", "web@1.0", 5), Traffic::Busy)
            .await;
    }

    /// The same with a fleet of one's own, of the image `web@1.0`.
    pub(crate) async fn bring_up_with_traffic(&self, web: &Fleet, traffic: Traffic) {
        self.add_web_images(&[
            ("1.0", ""),
            ("2.0", ""),
            ("3.0", "--never-healthy"),
            ("4.0", "--bad-when-active"),
        ])
        .await;
        self.bring_up(web).await;
        self.bring_up_client_at(traffic).await;
    }

    /// A client that asks `web`, and has asked it.
    pub(crate) async fn bring_up_client(&self) {
        self.bring_up_client_at(Traffic::Busy).await;
    }

    async fn bring_up_client_at(&self, traffic: Traffic) {
        let folder = files::client_image(&binary("calvin"), self.home(), "web", traffic);
        self.add_image(folder).await;
        self.bring_up(&Fleet {
            bake: "0s",
            ..Fleet::new("client", "client@1.0", 1)
        })
        .await;
        self.until_requests(100).await;
    }

    /// The fleet's newest status.
    pub(crate) async fn fleet(&self, name: &str) -> Result<FleetStatus, Status> {
        let status = self.operator.status().await?;
        let mut fleets = status.fleets.into_iter();
        fleets
            .find(|fleet| fleet.name == name)
            .ok_or_else(|| Status::not_found(format!("no fleet {name}")))
    }

    /// Waits until the fleet's newest status is as wanted.
    pub(crate) async fn until_fleet(
        &self,
        name: &str,
        what: &str,
        good: impl Fn(&FleetStatus) -> bool,
    ) -> FleetStatus {
        until(what, async || {
            let fleet = self
                .fleet(name)
                .await
                .map_err(|status| status.to_string())?;
            if good(&fleet) {
                Ok(fleet)
            } else {
                Err(describe(&fleet))
            }
        })
        .await
    }

    /// Waits until the fleet's newest rollout has ended.
    pub(crate) async fn until_ended(&self, fleet: &str) -> RolloutStatus {
        let ended =
            |fleet: &FleetStatus| fleet.rollout.as_ref().is_some_and(|rollout| rollout.ended);
        let status = self.until_fleet(fleet, "the rollout to end", ended).await;
        status.rollout.expect("it was looked for")
    }

    /// Waits until the rollout of this id has ended.
    pub(crate) async fn until_rollout_ended(&self, fleet: &str, id: &str) -> RolloutStatus {
        let ended = |fleet: &FleetStatus| {
            fleet
                .rollout
                .as_ref()
                .is_some_and(|rollout| rollout.id == id && rollout.ended)
        };
        let status = self
            .until_fleet(fleet, &format!("rollout {id} to end"), ended)
            .await;
        status.rollout.expect("it was looked for")
    }

    /// Waits until the rollout is in this phase.
    pub(crate) async fn until_phase(&self, fleet: &str, phase: &str) {
        let there = |fleet: &FleetStatus| {
            fleet
                .rollout
                .as_ref()
                .is_some_and(|rollout| rollout.phase == phase)
        };
        self.until_fleet(fleet, &format!("phase {phase}"), there)
            .await;
    }

    /// Waits until the fleet has exactly so many instances, all serving, and as many machines.
    pub(crate) async fn until_whole(&self, fleet: &str, count: u32) -> Vec<InstanceStatus> {
        let whole = |status: &FleetStatus| {
            status.serving == count
                && status.instances.len() == count as usize
                && processes::of_fleet(self.home(), fleet, "init").len() == count as usize
        };
        self.until_fleet(fleet, &format!("{count} of {fleet} and no more"), whole)
            .await
            .instances
    }

    /// The load generator's counters.
    pub(crate) async fn counted(&self) -> Counted {
        until("the counters", async || {
            let fleet = self
                .fleet("client")
                .await
                .map_err(|status| status.to_string())?;
            let instance = fleet.instances.first().ok_or("no client")?;
            let address = instance.address.parse().map_err(|_| "no address yet")?;
            let counted = traffic::read(SocketAddr::new(address, PORT)).await;
            counted.ok_or_else(|| "no answer from the load generator".to_owned())
        })
        .await
    }

    /// Waits until so many more requests were made.
    pub(crate) async fn until_requests(&self, more: u64) -> Counted {
        let before = self.counted().await.requests;
        until("requests", async || {
            let counted = self.counted().await;
            if counted.requests >= before + more {
                Ok(counted)
            } else {
                Err(counted)
            }
        })
        .await
    }

    /// Fails unless no request and no look-up ever failed.
    pub(crate) async fn assert_nothing_failed(&self) {
        let counted = self.until_requests(50).await;
        assert_eq!(
            (counted.failed, counted.lookups_failed),
            (0, 0),
            "{counted:?}"
        );
    }
}

fn describe(fleet: &FleetStatus) -> String {
    let rollout = fleet.rollout.as_ref().map(|rollout| {
        (
            &rollout.id,
            &rollout.phase,
            &rollout.reason,
            &rollout.waiting,
            &rollout.blocked,
        )
    });
    let instances: Vec<_> = fleet
        .instances
        .iter()
        .map(|one| {
            (
                &one.id,
                &one.image,
                &one.set,
                &one.catalogue,
                &one.class,
                &one.machine,
                &one.text,
            )
        })
        .collect();
    format!(
        "{} of {} serve, rollout {rollout:?}, waiting {:?}, blocked {:?}, instances {instances:?}",
        fleet.serving, fleet.wanted, fleet.waiting, fleet.blocked
    )
}
