//! One Consul process on a loopback address of its own. It ends with whoever started it, also where
//! that is killed: the kernel ends it with the thread that made it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// The ports of one process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) https: u16,
    pub(crate) dns: u16,
    pub(crate) serf: u16,
    pub(crate) server: u16,
}

/// A Consul process.
pub(crate) struct Process {
    pub(crate) address: IpAddr,
    pub(crate) ports: Ports,
    pub(crate) directory: PathBuf,
    child: Child,
}

/// A loopback address that no other process of the tests has, and no machine of an environment: the
/// second byte is the run's own, as far as there are any.
pub(crate) fn own_address() -> IpAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let run = u8::try_from(200 + std::process::id() % 50).unwrap();
    IpAddr::V4(Ipv4Addr::new(127, run, high, low))
}

/// Ports that are free for both protocols. All are held at once, so that they differ.
pub(crate) fn free_ports(address: IpAddr) -> Ports {
    let mut held = Vec::new();
    let mut port = || loop {
        let tcp = TcpListener::bind(SocketAddr::new(address, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        if let Ok(udp) = UdpSocket::bind(SocketAddr::new(address, port)) {
            held.push((tcp, udp));
            return port;
        }
    };
    Ports {
        https: port(),
        dns: port(),
        serf: port(),
        server: port(),
    }
}

/// The Consul that `tests/run` built.
fn program() -> PathBuf {
    let named = std::env::var_os("CALVIN_TEST_CONSUL").map(PathBuf::from);
    named.expect("CALVIN_TEST_CONSUL names no Consul: run `tests/run consul`, or set it to what `tests/servers/build consul` prints")
}

impl Process {
    /// Starts Consul with this configuration.
    pub(crate) fn start(
        address: IpAddr,
        ports: Ports,
        directory: &Path,
        configuration: &Value,
    ) -> Self {
        let file = directory.join("consul.json");
        fs::write(&file, serde_json::to_vec_pretty(configuration).unwrap()).unwrap();
        let child = spawn(directory);
        Self {
            address,
            ports,
            directory: directory.to_owned(),
            child,
        }
    }

    /// Where it answers.
    pub(crate) fn url(&self) -> String {
        format!(
            "https://{}",
            SocketAddr::new(self.address, self.ports.https)
        )
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, signal).unwrap();
    }

    /// Changes its configuration, and has it read that. Only some of it is read by one that runs.
    pub(crate) fn reload(&self, change: impl FnOnce(&mut Value)) {
        let file = self.directory.join("consul.json");
        let mut configuration = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        change(&mut configuration);
        fs::write(&file, serde_json::to_vec_pretty(&configuration).unwrap()).unwrap();
        self.signal(Signal::SIGHUP);
    }

    /// Has it log every request that it answers.
    pub(crate) fn say_requests(&self) {
        self.reload(|configuration| configuration["log_level"] = "DEBUG".into());
    }

    /// How many requests over HTTP it has answered since it says that.
    pub(crate) fn requests(&self) -> usize {
        requests(&self.log())
    }

    /// Kills it, as a machine dies.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again with what it kept on disk.
    pub(crate) fn start_again(&mut self) {
        self.kill();
        self.child = spawn(&self.directory);
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

/// Requests over HTTP that a Consul with the level `DEBUG` logged as answered.
pub(crate) fn requests(log: &str) -> usize {
    let answered = |line: &&str| line.contains("agent.http: Request finished");
    log.lines().filter(answered).count()
}

fn spawn(directory: &Path) -> Child {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(directory.join("log"))
        .unwrap();
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program())
        .args(["agent", "-config-file"])
        .arg(directory.join("consul.json"))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("setpriv (package util-linux) starts Consul")
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let from = lines.len().saturating_sub(40);
            eprintln!("last lines of Consul at {}:", self.url());
            for line in &lines[from..] {
                eprintln!("  {line}");
            }
        }
    }
}
