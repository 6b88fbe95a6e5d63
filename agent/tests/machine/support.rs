//! A machine on disk, its init as a real process, and waiting with a deadline.

use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use calvin_agent::workload::{Runner, RunnerState, WorkloadSpec};
use calvin_model::{HumanDuration, WorkloadState, image::StopSignal};
use calvin_proto::machine::{InitRecord, LOCKS_VARIABLE, MachineFiles, processes::kill_all};
use tempfile::TempDir;

/// Far above what anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A machine in a directory of its own; everything of it is ended when it is dropped.
pub(crate) struct Machine {
    pub(crate) files: MachineFiles,
    pub(crate) address: String,
    root: TempDir,
    init: Option<Child>,
}

impl Machine {
    /// A machine whose agent is a shell script. Its loopback address is made of `number`, one for
    /// each test, and of this process, so that two runs of the tests do not meet.
    pub(crate) fn new(number: u8, agent: &str) -> Self {
        let process = std::process::id();
        let address = format!("127.{}.{}.{number}", 64 + process / 256 % 60, process % 256);
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().canonicalize().unwrap().join("web-abcdefgh");
        fs::create_dir_all(directory.join("image")).unwrap();
        fs::create_dir(root.path().join("locks")).unwrap();
        let script = root.path().join("agent");
        fs::write(&script, format!("#!/bin/sh\n{agent}\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let digest = "01".repeat(32);
        let provision = format!(
            "environment = \"build\"\ninstance = \"web-abcdefgh\"\nfleet = \"web\"\n\
             coordinators = [\"127.0.0.1:1\"]\ndomain = \"build.example\"\n\
             address = \"{address}\"\ndns = \"{address}:8653\"\njoin_token = \"x\"\n\
             ca_pem = \"\"\n[image]\ntag = \"web@1.0\"\ndigest = \"sha256:{digest}\"\n"
        );
        let files = MachineFiles::new(directory);
        fs::write(files.provision(), provision).unwrap();
        Self {
            files,
            address,
            root,
            init: None,
        }
    }

    /// Where the address locks of this test lie.
    pub(crate) fn locks(&self) -> PathBuf {
        self.root.path().join("locks")
    }

    pub(crate) fn dns(&self) -> SocketAddr {
        format!("{}:8653", self.address).parse().unwrap()
    }

    /// The command that starts init.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_calvin-agent"));
        command
            .args(["init", "--machine"])
            .arg(self.files.root())
            .arg("--agent")
            .arg(self.root.path().join("agent"))
            .env(LOCKS_VARIABLE, self.locks())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }

    /// Starts init and waits until the machine is up.
    pub(crate) fn start(&mut self) -> InitRecord {
        self.start_with(Stdio::null())
    }

    pub(crate) fn start_with(&mut self, stdin: Stdio) -> InitRecord {
        let init = self.command().stdin(stdin).spawn().unwrap();
        self.until_up(init)
    }

    /// The same, with a soft limit of descriptors as a shell sets it.
    pub(crate) fn start_with_soft_limit(&mut self, limit: u64) -> InitRecord {
        let init = self.command();
        let mut limited = Command::new("/bin/sh");
        limited
            .args(["-c", &format!("ulimit -Sn {limit}; exec \"$0\" \"$@\"")])
            .arg(init.get_program())
            .args(init.get_args())
            .env(LOCKS_VARIABLE, self.locks())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        self.until_up(limited.spawn().unwrap())
    }

    fn until_up(&mut self, mut init: Child) -> InitRecord {
        let mut said = String::new();
        std::io::Read::read_to_string(&mut init.stdout.take().unwrap(), &mut said).unwrap();
        self.init = Some(init);
        assert_eq!(said, "ready\n", "{}", self.agent_log());
        self.record()
    }

    pub(crate) fn record(&self) -> InitRecord {
        InitRecord::read(&self.files).unwrap().unwrap()
    }

    pub(crate) fn init(&mut self) -> &mut Child {
        self.init.as_mut().unwrap()
    }

    pub(crate) fn agent_log(&self) -> String {
        fs::read_to_string(self.files.agent_log()).unwrap_or_default()
    }

    /// Connects as an agent does.
    pub(crate) fn runner(&self) -> Runner {
        let (runner, connection) = Runner::connect(self.files.init_socket());
        tokio::spawn(connection.run());
        runner
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let record = InitRecord::read(&self.files).ok().flatten();
        let ended = kill_all(self.files.root(), record.as_ref(), DEADLINE);
        if let Some(mut init) = self.init.take() {
            let _ = init.kill();
            let _ = init.wait();
        }
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

/// A workload that is a shell script.
pub(crate) fn workload(machine: &Machine, script: &str) -> WorkloadSpec {
    WorkloadSpec {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        env: BTreeMap::from([
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
            (
                "CALVIN_MACHINE".to_owned(),
                machine.files.root().display().to_string(),
            ),
        ]),
        directory: "/".into(),
        stop_signal: StopSignal::Term,
        stop_timeout: HumanDuration::from_secs(10),
        restart_min: HumanDuration::from_millis(10),
        restart_max: HumanDuration::from_millis(50),
        needs_lease: false,
    }
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}

/// Waits until the runner's state is as it should be.
pub(crate) async fn state(
    runner: &Runner,
    what: &str,
    mut good: impl FnMut(&RunnerState) -> bool,
) -> RunnerState {
    let mut states = runner.state();
    let found = states.wait_for(|state| state.as_ref().is_some_and(&mut good));
    within(what, found).await.unwrap().clone().unwrap()
}

pub(crate) async fn running(runner: &Runner) -> RunnerState {
    state(runner, "the workload runs", |state| {
        state.workload == WorkloadState::Running
    })
    .await
}

/// Looks again and again until there is something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// A pid that a script wrote into a file.
pub(crate) async fn pid_in(path: &Path) -> i32 {
    eventually("a pid is written", || {
        let text = fs::read_to_string(path).ok()?;
        text.strip_suffix('\n')?.parse().ok()
    })
    .await
}
