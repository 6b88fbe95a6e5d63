//! One environment: started for a test, and ended with it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{files::Pace, operator::Operator, processes, waiting::until};

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
    pub(crate) pace: Pace,
    /// More for the coordinator's environment.
    pub(crate) variables: Vec<(&'static str, String)>,
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
        Self::prepare_at(Pace::Quick)
    }

    /// The same, at this pace.
    pub(crate) fn prepare_at(pace: Pace) -> Self {
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
{reports}

[agents]
listen = "{agents}"

[operators]
listen = "{operators}"

[catalogue]
ttl = "1s"

[provider.process]
network = "{network}"
"#,
            reports = pace.report_interval(),
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
            pace,
            variables: Vec::new(),
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
        self.serve_with(Command::new(binary("calvin")))
    }

    /// The same, by this command, which runs `calvin`.
    pub(crate) fn serve_with(&self, mut command: Command) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.home().join("coordinator.log"))
            .expect("a log can be opened");
        command
            .arg("serve")
            .arg("--config")
            .arg(self.home().join("calvin.toml"))
            .envs(self.variables.iter().cloned())
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
        self.use_agent(&program);
    }

    /// Has machines made with this program.
    pub(crate) fn use_agent(&self, program: &Path) {
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

    /// The same, with a coordinator that gets an error instead of a signal when a file may not
    /// grow: what is ignored stays so over `exec`.
    pub(crate) async fn start_coordinator_that_survives_a_full_disk(&mut self) {
        self.start_coordinator_after("trap '' XFSZ").await;
    }

    /// Starts the coordinator from a shell that has done `script`, and waits until it answers.
    pub(crate) async fn start_coordinator_after(&mut self, script: &str) {
        let script = format!("{script}; exec \"$@\"");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script, "sh"]).arg(binary("calvin"));
        self.coordinator = Some(self.serve_with(command));
        self.until_it_answers().await;
    }

    /// Process id of the coordinator.
    pub(crate) fn coordinator_id(&self) -> u32 {
        self.coordinator
            .as_ref()
            .expect("the coordinator runs")
            .id()
    }

    /// Starts the coordinator and waits until it answers.
    pub(crate) async fn start_coordinator(&mut self) {
        self.start_program("calvin", &[]);
        self.until_it_answers().await;
    }

    /// Starts this program as the coordinator, with these variables besides; does not wait.
    pub(crate) fn start_program(&mut self, name: &str, variables: &[(&'static str, String)]) {
        let mut command = Command::new(binary(name));
        command.envs(variables.iter().cloned());
        self.coordinator = Some(self.serve_with(command));
    }

    /// Whether the coordinator that was started has ended.
    #[allow(dead_code, reason = "only where it kills itself is that not known")]
    pub(crate) fn is_dead(&mut self) -> bool {
        let child = self.coordinator.as_mut().expect("one was started");
        let ended = child.try_wait().expect("a child can be waited for");
        ended.is_some()
    }

    async fn until_it_answers(&mut self) {
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
