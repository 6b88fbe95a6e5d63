//! One environment: started for a test, and ended with it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use calvin_proto::wire::{FleetStatus, InstanceStatus, RolloutStatus};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tonic::Status;

use super::{
    files::{self, Fleet, PORT},
    operator::Operator,
    processes,
    traffic::{self, Counted},
    waiting::until,
};

/// Lines of each log that are shown when a test fails.
const LOG_LINES_SHOWN: usize = 60;

/// Environments of this process: each has a network of its own.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// An environment.
pub(crate) struct Environment {
    home: TempDir,
    coordinator: Option<Child>,
    pub(crate) operator: Operator,
    pub(crate) agents: SocketAddr,
    pub(crate) operators: SocketAddr,
}

/// Where the binaries are.
pub(crate) fn binary(name: &str) -> PathBuf {
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let binaries = std::env::var_os("CALVIN_TEST_BINARIES").map_or_else(
        || {
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../target")
                .join(profile)
        },
        PathBuf::from,
    );
    let program = binaries.join(name);
    assert!(
        program.is_file(),
        "{} is not built; run tests/run",
        program.display()
    );
    program.canonicalize().expect("a file has a path")
}

impl Environment {
    /// Writes the files of an environment; starts nothing.
    pub(crate) fn prepare() -> Self {
        // Short: sockets lie deep inside, and their paths have at most 107 bytes.
        let home = tempfile::Builder::new()
            .prefix("ce-")
            .tempdir()
            .expect("a directory");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let [_, _, _, process] = std::process::id().to_be_bytes();
        let network = format!("127.{}.{}.0/24", 128 + process % 64, number % 256);
        let agents = free_address();
        let operators = free_address();
        let config = format!(
            r#"environment = "test"
data = {data:?}
report_interval = "500ms"

[agents]
listen = "{agents}"

[operators]
listen = "{operators}"

[catalogue]
ttl = "1s"

[provider.process]
network = "{network}"
"#,
            data = home.path().join("data").to_string_lossy(),
        );
        fs::write(home.path().join("calvin.toml"), config).expect("a file can be written");
        let operator = Operator::new(home.path().join("data/run/operator.sock"));
        Self {
            home,
            coordinator: None,
            operator,
            agents,
            operators,
        }
    }

    /// An environment whose coordinator answers.
    pub(crate) async fn start() -> Self {
        let mut environment = Self::prepare();
        environment.start_coordinator().await;
        environment
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// A process `calvin serve`, with its output in the log.
    pub(crate) fn serve(&self) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.home().join("coordinator.log"))
            .expect("a log can be opened");
        Command::new(binary("calvin"))
            .arg("serve")
            .arg("--config")
            .arg(self.home().join("calvin.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a handle can be copied"))
            .stderr(log)
            .spawn()
            .expect("calvin starts")
    }

    /// Gives machines a first process that does nothing, so that a test can play the agent.
    pub(crate) fn use_silent_agent(&self) {
        use std::os::unix::fs::PermissionsExt as _;
        let program = self.home().join("silent-agent");
        let script = "#!/bin/sh\necho ready\nexec sleep 100000\n";
        fs::write(&program, script).expect("a file can be written");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&program, mode).expect("a mode can be set");
        let config = self.home().join("calvin.toml");
        let mut text = fs::read_to_string(&config).expect("it was written");
        text.push_str(&format!("agent = {:?}\n", program.to_string_lossy()));
        fs::write(&config, text).expect("a file can be written");
    }

    /// The certificates of the environment's CA, PEM.
    pub(crate) async fn ca_pem(&self) -> String {
        let mut client = self.operator.client.clone();
        let shown = client.show_ca(calvin_proto::wire::ShowCaRequest {}).await;
        shown.expect("the CA is shown").into_inner().ca_pem
    }

    /// Starts the coordinator and waits until it answers.
    pub(crate) async fn start_coordinator(&mut self) {
        self.coordinator = Some(self.serve());
        until("the coordinator to answer", async || {
            let ended = self
                .coordinator
                .as_mut()
                .and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "the coordinator ended: {ended:?}");
            self.operator.about().await
        })
        .await;
    }

    /// Kills the coordinator with SIGKILL.
    pub(crate) fn kill_coordinator(&mut self) {
        if let Some(mut child) = self.coordinator.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
        }
    }

    /// Sends the coordinator a signal.
    pub(crate) fn signal_coordinator(&self, signal: Signal) {
        let child = self.coordinator.as_ref().expect("the coordinator runs");
        processes::signal(i32::try_from(child.id()).expect("a process id"), signal);
    }

    /// Waits until the coordinator has ended by itself; its exit code.
    pub(crate) async fn coordinator_ended(&mut self) -> Option<i32> {
        let mut child = self.coordinator.take().expect("the coordinator runs");
        let status = until("the coordinator to end", async || {
            child
                .try_wait()
                .expect("a child can be waited for")
                .ok_or("it runs")
        })
        .await;
        status.code()
    }

    /// `calvin` with these arguments against this environment.
    pub(crate) fn calvin(&self, arguments: &[&str]) -> Output {
        Command::new(binary("calvin"))
            .arg("--socket")
            .arg(self.home().join("data/run/operator.sock"))
            .args(arguments)
            .env("HOME", self.home())
            .stdin(Stdio::null())
            .output()
            .expect("calvin runs")
    }

    /// Records web images: version and fault (empty for none).
    pub(crate) async fn add_web_images(&self, images: &[(&str, &str)]) {
        for (version, fault) in images {
            let folder = files::web_image(&binary("calvin"), self.home(), version, fault);
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
        self.add_web_images(&[
            ("1.0", ""),
            ("2.0", ""),
            ("3.0", "--never-healthy"),
            ("4.0", "--bad-when-active"),
        ])
        .await;
        self.bring_up(&Fleet::new("web", "web@1.0", 5)).await;
        self.bring_up_client().await;
    }

    /// A client that asks `web`, and has asked it.
    pub(crate) async fn bring_up_client(&self) {
        let folder = files::client_image(&binary("calvin"), self.home(), "web");
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

    /// Process ids of this kind (`init`, `run`, `workload`) by instance.
    pub(crate) fn processes(&self, fleet: &str, command: &str) -> BTreeMap<String, i32> {
        processes::of_fleet(self.home(), fleet, command)
    }

    /// The coordinator's log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home().join("coordinator.log")).unwrap_or_default()
    }

    fn show_logs(&self) {
        let mut logs = vec![self.home().join("coordinator.log")];
        let machines = self.home().join("data/machines");
        for machine in fs::read_dir(machines).into_iter().flatten().flatten() {
            for file in fs::read_dir(machine.path()).into_iter().flatten().flatten() {
                if file.path().extension().is_some_and(|end| end == "log") {
                    logs.push(file.path());
                }
            }
        }
        for log in logs {
            let text = fs::read(&log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<_> = text.lines().collect();
            eprintln!("--- {} (end of {} lines)", log.display(), lines.len());
            for line in &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..] {
                eprintln!("{line}");
            }
        }
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.kill_coordinator();
        processes::end_all(self.home.path());
        if std::thread::panicking() {
            self.show_logs();
            self.home.disable_cleanup(true);
            eprintln!("files of this test: {}", self.home.path().display());
        }
    }
}

/// An address on loopback that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a listener has an address")
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
