//! Makes every part of the agent, connects them and starts their tasks: the only place that does.

use std::{io, sync::Arc, time::Duration};

use calvin_lifecycle::{AgentRecord, Lifecycle, QuorumOutcome, Spec};
use calvin_model::{BootId, Connections, NamesSnapshot, NamesVersion, Provision};
use calvin_proto::machine::BOOT_VARIABLE;
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tracing::{info, warn};

use super::{
    RunError,
    actor::{Actor, MachineNow, Outbox},
    catalogue,
    events::Inbox,
    names, system,
    tasks::{self, Pace},
};
use crate::{
    catalogue::first_target,
    clock::Clock,
    connections::Counted,
    disk::{self, DiskError},
    dns::{Forwarder, Names, Sources, Target},
    fault::chain,
    health::{CheckContext, Checks},
    hooks::Hooks,
    identity::Keeper,
    init::DnsSockets,
    provision::Provisioned,
    quorum::Quorum,
    session::{PAUSES, Seen, Session, SessionStatus, Speaker},
    status::{self, StatusRequest},
    workload::{Commands, Runner, WorkloadSpec},
};

/// Events of one kind that wait for the loop. Each takes it microseconds; a sender waits, so
/// nothing is lost.
const QUEUE: usize = 64;
/// Largest record of the lifecycle: a few numbers and ids.
const RECORD_BYTES_MAX: u64 = 64 * 1024;

/// The task that keeps the names.
const NAMES_ON_DISK: &str = "names on disk";

pub(super) type Tasks = JoinSet<&'static str>;

/// The tasks beside the loop. Dropping them is as sudden as a kill.
pub(super) struct Parts {
    tasks: Tasks,
    session: AbortHandle,
    finish: watch::Sender<bool>,
}

impl Parts {
    /// Waits for one that ends by itself, and says its name where it did not panic.
    pub(super) async fn one_ended(&mut self) -> Option<&'static str> {
        self.tasks.join_next().await?.ok()
    }

    /// Ends them with what is served on disk, if the disk takes it in `limit`, and the lock given back
    /// if nothing runs with it. Without a session no names come, then none are served, and then the
    /// last are kept.
    pub(super) async fn end(mut self, limit: Duration) {
        self.session.abort();
        self.finish.send_replace(true);
        let mut open = vec![NAMES_ON_DISK, catalogue::LOCK];
        // That one ends by itself, within a time of its own.
        self.until_ended(&mut open, catalogue::LOCK).await;
        let kept = self.until_ended(&mut open, NAMES_ON_DISK);
        if timeout(limit, kept).await.is_err() {
            warn!("the names could not be put on disk before the end");
        }
    }

    async fn until_ended(&mut self, open: &mut Vec<&'static str>, name: &'static str) {
        while open.contains(&name) {
            match self.tasks.join_next().await {
                Some(Ok(ended)) => open.retain(|name| *name != ended),
                // It panicked, or was aborted.
                Some(Err(_)) => {}
                None => return,
            }
        }
    }
}

/// Makes an agent: what decides, what it hears, and every task beside it.
pub(super) fn assemble(
    machine: Provisioned,
    sockets: io::Result<Option<DnsSockets>>,
) -> Result<(Actor, Inbox, Parts), RunError> {
    let boot = boot_id()?;
    let clock = Clock::start();
    let spec = Arc::new(Spec::of(&machine.manifest));
    let lifecycle = Lifecycle::new(spec, stored_record(&machine)?, boot.clone(), clock.now());
    let provision = Arc::new(machine.provision.clone());
    let trust = watch::Sender::new(None);
    let state = machine.files.state();
    let keeper = Keeper::open(provision.clone(), &state, trust.subscribe())?;

    let mut tasks = Tasks::new();
    let first = first_target(&state, &machine.manifest);
    let forward = watch::Sender::new(first);
    let forwarder = start_forwarder(&machine, forward.subscribe(), &mut tasks);
    let names = start_names(
        &machine,
        sockets,
        forwarder.clone(),
        forward.subscribe(),
        &mut tasks,
    )?;
    let runner = start_runner(&machine, &mut tasks);
    let served = names.served.clone();
    let consul = catalogue::start(&machine, &boot, runner.clone(), forward, served, &mut tasks);
    start_orders(&machine, runner.clone(), consul.commands, &mut tasks)?;
    let (records, commits) = start_records(&machine, &mut tasks);
    let (pace, connections) = start_connections(&machine, &mut tasks);
    let requests = start_status(&machine, &mut tasks);
    let (check_results, checks_seen) = mpsc::channel(QUEUE);
    let (hook_ends, hooks_seen) = mpsc::channel(QUEUE);
    let (events, session_events) = mpsc::channel(QUEUE);
    let outbox = Outbox {
        records,
        orders: consul.orders,
        reports: watch::Sender::new(None),
        seen: watch::Sender::new(Seen::default()),
        refuse: watch::Sender::new(None),
        pace,
        own: consul.own,
    };
    let session = Session {
        speaker: speaker(&machine, provision, boot),
        pauses: PAUSES,
        identity: keeper.identity(),
        seen: outbox.seen.subscribe(),
        reports: outbox.reports.subscribe(),
        refuse: outbox.refuse.subscribe(),
        events,
        names: names.incoming,
        trust,
        join: consul.join,
        registration: consul.registration,
        status: watch::Sender::new(SessionStatus::default()),
    };
    let inbox = Inbox {
        session: session_events,
        checks: checks_seen,
        hooks: hooks_seen,
        commits,
        requests,
        runner: runner.state(),
        names: names.served,
        names_unsaved: names.unsaved,
        identity: keeper.identity(),
        connections,
        consul: consul.report,
        lock: consul.lock.clone(),
        quorum: start_quorum(&machine, &mut tasks),
    };
    let actor = Actor {
        lifecycle,
        started: clock.now(),
        clock,
        checks: checks(&machine, check_results),
        hooks: hooks(&machine, hook_ends),
        outbox,
        keeper_status: keeper.status(),
        session_status: session.status.subscribe(),
        dns_fault: names.fault,
        forwarder,
        lock: consul.lock,
        machine_now: MachineNow::GoesOn,
        machine,
    };
    tasks::spawn(&mut tasks, "identity", keeper.run());
    let session = tasks::spawn(&mut tasks, "session", session.run());
    let parts = Parts {
        tasks,
        session,
        finish: consul.finish,
    };
    Ok((actor, inbox, parts))
}

/// The boot that the runner names; else the host's.
fn boot_id() -> Result<BootId, RunError> {
    if let Ok(text) = std::env::var(BOOT_VARIABLE) {
        return Ok(text.parse()?);
    }
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_err(system("read the host's boot id"))?;
    Ok(text.trim().parse()?)
}

fn stored_record(machine: &Provisioned) -> Result<Option<AgentRecord>, RunError> {
    let path = tasks::record_path(&machine.files);
    let Some(bytes) = disk::read_bounded(&path, RECORD_BYTES_MAX)? else {
        return Ok(None);
    };
    let record: AgentRecord =
        serde_json::from_slice(&bytes).map_err(|source| DiskError::Content { path, source })?;
    Ok(Some(record.check()?))
}

fn speaker(machine: &Provisioned, provision: Arc<Provision>, boot: BootId) -> Speaker {
    Speaker {
        provision,
        boot,
        build: machine.manifest.build.clone(),
        manifest: machine.manifest_digest.clone(),
        capabilities: catalogue::capabilities(machine),
    }
}

fn checks(machine: &Provisioned, results: mpsc::Sender<crate::health::CheckResult>) -> Checks {
    let context = CheckContext {
        address: machine.address(),
        variables: machine.variables.clone(),
        image: machine.files.image(),
    };
    Checks::new(&machine.manifest.checks, context, results)
}

fn hooks(machine: &Provisioned, ends: mpsc::Sender<crate::hooks::HookEnd>) -> Hooks {
    Hooks::new(
        machine.manifest.hooks.clone(),
        machine.variables.clone(),
        machine.files.image(),
        ends,
    )
}

/// The ends of what answers names.
struct NamesEnds {
    incoming: watch::Sender<Option<Arc<NamesSnapshot>>>,
    served: watch::Receiver<Option<NamesVersion>>,
    unsaved: watch::Receiver<Option<String>>,
    fault: watch::Receiver<Option<String>>,
}

fn start_names(
    machine: &Provisioned,
    sockets: io::Result<Option<DnsSockets>>,
    forwarder: Arc<Forwarder>,
    target: watch::Receiver<Target>,
    tasks: &mut Tasks,
) -> Result<NamesEnds, RunError> {
    let path = machine.files.state().join("names.json");
    let known = Arc::new(Names::new(&machine.provision.domain, path)?);
    let loaded = match *target.borrow() {
        Target::Snapshots => known.load(),
        // The environment has gone over to Consul since.
        Target::Memory | Target::Client(_) => Ok(None),
    };
    match loaded {
        Ok(Some(version)) => info!(%version, "names on disk"),
        Ok(None) => {}
        // They come again; a machine without names is better than one without an agent.
        Err(error) => warn!(error = chain(&error), "could not use the names on disk"),
    }
    let incoming = watch::Sender::new(None);
    let served = watch::Sender::new(known.version());
    let unsaved = watch::Sender::new(None);
    let fault = watch::Sender::new(None);
    let ends = NamesEnds {
        served: served.subscribe(),
        unsaved: unsaved.subscribe(),
        fault: fault.subscribe(),
        incoming: incoming.clone(),
    };
    let answers = forwarder.answers();
    let sources = Sources {
        names: known.clone(),
        forwarder,
    };
    let answer = tasks::answer_names(sources, sockets, machine.dns(), fault);
    tasks::spawn(tasks, "dns", answer);
    let keep = names::keep(known.clone(), served.subscribe(), unsaved);
    tasks::spawn(tasks, NAMES_ON_DISK, keep);
    let forget = names::forget(known.clone(), target, answers);
    tasks::spawn(tasks, "names before Consul", forget);
    let serve = names::serve(known, incoming.subscribe(), served);
    tasks::spawn(tasks, "names", serve);
    Ok(ends)
}

fn start_runner(machine: &Provisioned, tasks: &mut Tasks) -> Runner {
    let (runner, connection) = Runner::connect(machine.files.init_socket());
    tasks::spawn(tasks, "runner", connection.run());
    runner
}

/// What forwards names to Consul, with what it said before on disk.
fn start_forwarder(
    machine: &Provisioned,
    target: watch::Receiver<Target>,
    tasks: &mut Tasks,
) -> Arc<Forwarder> {
    let path = machine.files.state().join("answers.json");
    let forwarder = Arc::new(Forwarder::new(target));
    forwarder.load(&path);
    let keep = forwarder.clone().keep(path);
    tasks::spawn(tasks, "answers on disk", keep);
    forwarder
}

fn start_orders(
    machine: &Provisioned,
    runner: Runner,
    commands: watch::Receiver<Commands>,
    tasks: &mut Tasks,
) -> Result<(), RunError> {
    let image = machine.files.image();
    let workload = match &machine.manifest.workload {
        Some(workload) => Some(WorkloadSpec::new(workload, &machine.variables, &image)?),
        None => None,
    };
    let give = tasks::give_orders(runner, workload, commands);
    tasks::spawn(tasks, "orders", give);
    Ok(())
}

fn start_records(
    machine: &Provisioned,
    tasks: &mut Tasks,
) -> (watch::Sender<Option<AgentRecord>>, mpsc::Receiver<u64>) {
    let (committed, commits) = mpsc::channel(QUEUE);
    let records = watch::Sender::new(None);
    let path = tasks::record_path(&machine.files);
    let write = tasks::write_records(path, records.subscribe(), committed);
    tasks::spawn(tasks, "record", write);
    (records, commits)
}

type ConnectionsEnds = (
    watch::Sender<Pace>,
    watch::Receiver<Option<Option<Connections>>>,
);

fn start_connections(machine: &Provisioned, tasks: &mut Tasks) -> ConnectionsEnds {
    let services = machine.manifest.services.iter();
    let ports = services.map(|service| service.port).collect();
    let counted = Counted::new(machine.address(), ports);
    let pace = watch::Sender::new(Pace::Idle);
    let seen = watch::Sender::new(None);
    let ends = (pace.clone(), seen.subscribe());
    let look = move || counted.look();
    let count = tasks::count_connections(look, pace.subscribe(), seen);
    tasks::spawn(tasks, "connections", count);
    ends
}

/// Asks what voters there are, where the image says how.
fn start_quorum(machine: &Provisioned, tasks: &mut Tasks) -> Option<mpsc::Receiver<QuorumOutcome>> {
    let quorum = Quorum {
        spec: machine.manifest.quorum.clone()?,
        variables: machine.variables.clone(),
        image: machine.files.image(),
    };
    let (outcomes, heard) = mpsc::channel(QUEUE);
    tasks::spawn(tasks, "quorum", quorum.run(outcomes));
    Some(heard)
}

fn start_status(machine: &Provisioned, tasks: &mut Tasks) -> mpsc::Receiver<StatusRequest> {
    let (asked, requests) = mpsc::channel(QUEUE);
    let answer = status::serve(machine.files.agent_socket(), asked);
    tasks::spawn(tasks, "status", answer);
    requests
}
