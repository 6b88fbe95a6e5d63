//! Starts what keeps the instance in Consul, and what holds the lock of its fleet there.

use std::sync::Arc;

use calvin_model::{BootId, ConsulReport, Join, NamesVersion};
use calvin_proto::convert::{RegistrationOrder, join};
use tokio::sync::watch;

use super::{assemble::Tasks, tasks};
use crate::{
    catalogue::{
        Catalogue, Ends, Keep, Keeper, KeeperEnds, KeptSession, LockSeen, Machine, Own, channel,
        keep,
    },
    dns::Target,
    provision::Provisioned,
    workload::{Commands, Runner, WorkloadOrder},
};

/// What the rest of the agent has of it.
pub(super) struct CatalogueEnds {
    pub(super) join: watch::Sender<Option<Join>>,
    pub(super) registration: watch::Sender<Option<RegistrationOrder>>,
    pub(super) own: watch::Sender<Option<Own>>,
    pub(super) report: watch::Receiver<Option<ConsulReport>>,
    /// What is wanted of the workload.
    pub(super) orders: watch::Sender<Option<WorkloadOrder>>,
    /// What the runner is to be told.
    pub(super) commands: watch::Receiver<Commands>,
    pub(super) lock: watch::Receiver<LockSeen>,
    /// Says that the agent ends.
    pub(super) finish: watch::Sender<bool>,
}

/// The task that holds the lock. It ends by itself when it is told that the agent ends.
pub(super) const LOCK: &str = "lock";

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
    forward: watch::Sender<Target>,
    names: watch::Receiver<Option<NamesVersion>>,
    tasks: &mut Tasks,
) -> CatalogueEnds {
    let join: watch::Sender<Option<Join>> = kept(machine, "join on disk", tasks);
    let registration: watch::Sender<Option<RegistrationOrder>> =
        kept(machine, "registration on disk", tasks);
    let own = watch::Sender::new(None);
    let report = watch::Sender::new(None);
    let machine_facts = Arc::new(Machine {
        files: machine.files.clone(),
        provision: Arc::new(machine.provision.clone()),
        manifest: machine.manifest.clone(),
        variables: machine.variables.clone(),
        address: machine.address(),
        loopback: machine.dns().ip(),
        boot: boot.clone(),
    });
    let kept: watch::Sender<Option<KeptSession>> = kept(machine, "session on disk", tasks);
    let orders = watch::Sender::new(None);
    let commands = watch::Sender::new(Commands::default());
    let lock = watch::Sender::new(LockSeen::default());
    let finish = watch::Sender::new(false);
    let ends = CatalogueEnds {
        report: report.subscribe(),
        join: join.clone(),
        registration: registration.clone(),
        own: own.clone(),
        orders: orders.clone(),
        commands: commands.subscribe(),
        lock: lock.subscribe(),
        finish: finish.clone(),
    };
    let keeper = Keeper::new(
        machine_facts.clone(),
        runner.state(),
        KeeperEnds {
            join: join.subscribe(),
            registration: registration.subscribe(),
            names,
            orders: orders.subscribe(),
            finish: finish.subscribe(),
            commands,
            seen: lock,
            kept,
        },
    );
    tasks::spawn(tasks, LOCK, keeper.run());
    let catalogue = Catalogue::new(
        machine_facts,
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
