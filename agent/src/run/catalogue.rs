//! Starts what keeps the instance in Consul.

use std::{net::SocketAddr, sync::Arc};

use calvin_model::{BootId, ConsulReport, Join};
use calvin_proto::convert::{RegistrationOrder, join};
use tokio::sync::watch;

use super::{assemble::Tasks, tasks};
use crate::{
    catalogue::{Catalogue, Ends, Keep, Machine, Own, channel, keep},
    provision::Provisioned,
    workload::Runner,
};

/// What the rest of the agent has of it.
pub(super) struct CatalogueEnds {
    pub(super) join: watch::Sender<Option<Join>>,
    pub(super) registration: watch::Sender<Option<RegistrationOrder>>,
    pub(super) own: watch::Sender<Option<Own>>,
    pub(super) report: watch::Receiver<Option<ConsulReport>>,
}

/// What an agent of this machine can beyond what every one can.
pub(super) fn capabilities(machine: &Provisioned) -> Vec<String> {
    let consul = machine.manifest.joins_consul();
    consul
        .then(|| join::CONSUL.to_owned())
        .into_iter()
        .collect()
}

/// Starts it, with what was said before on disk.
pub(super) fn start(
    machine: &Provisioned,
    boot: &BootId,
    runner: Runner,
    forward: watch::Sender<Option<SocketAddr>>,
    tasks: &mut Tasks,
) -> CatalogueEnds {
    let join: watch::Sender<Option<Join>> = kept(machine, "join on disk", tasks);
    let registration: watch::Sender<Option<RegistrationOrder>> =
        kept(machine, "registration on disk", tasks);
    let own = watch::Sender::new(None);
    let report = watch::Sender::new(None);
    let ends = CatalogueEnds {
        report: report.subscribe(),
        join: join.clone(),
        registration: registration.clone(),
        own: own.clone(),
    };
    let catalogue = Catalogue::new(
        Machine {
            files: machine.files.clone(),
            provision: Arc::new(machine.provision.clone()),
            manifest: machine.manifest.clone(),
            variables: machine.variables.clone(),
            address: machine.address(),
            loopback: machine.dns().ip(),
            boot: boot.clone(),
        },
        runner,
        Ends {
            join: join.subscribe(),
            registration: registration.subscribe(),
            own: own.subscribe(),
            report,
            forward,
        },
    );
    tasks::spawn(tasks, "catalogue", catalogue.run());
    ends
}

fn kept<T: Keep>(
    machine: &Provisioned,
    task: &'static str,
    tasks: &mut Tasks,
) -> watch::Sender<Option<T>> {
    let state = machine.files.state();
    let said = channel(&state);
    tasks::spawn(tasks, task, keep(state, said.subscribe()));
    said
}
