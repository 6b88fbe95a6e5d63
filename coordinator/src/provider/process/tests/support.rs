//! A data directory, an image, and providers on them.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use calvin_engine::ports::{CreateOrder, Provider};
use calvin_model::{Digest, ImageRef, InstanceId, Provision};
use calvin_planner::{DeleteBasis, MachineState, ProviderFault};
use calvin_proto::machine::{InitRecord, MachineFiles, MachineTag, ProcessId, processes};
use tempfile::TempDir;

use super::super::{
    super::{FirstBoot, ImageFiles},
    ProcessOptions, ProcessProvider,
};
use crate::{config::Network, images::digest_of};

/// Far above what anything here takes on a busy machine.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
/// Says that it is up, and has a child that has left its process group and session.
pub(super) const WORKLOAD: &str = "setsid sleep 600 & echo workload is up; wait";

/// Waits for a condition.
pub(super) fn until(what: &str, mut good: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !good() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The program, as built beside the tests.
fn agent() -> &'static Path {
    static AGENT: OnceLock<PathBuf> = OnceLock::new();
    AGENT.get_or_init(|| {
        // target/debug/deps/<test> -> target/debug/calvin-agent
        let own = std::env::current_exe().unwrap();
        let agent = own.ancestors().nth(2).unwrap().join("calvin-agent");
        if !agent.exists() {
            let built = Command::new(env!("CARGO"))
                .args(["build", "--package", "calvin-agent", "--locked"])
                .status()
                .unwrap();
            assert!(built.success());
        }
        agent
    })
}

/// Everything of one test; all machines are ended when it is dropped.
pub(super) struct Bench {
    root: TempDir,
    network: Network,
    image: ImageRef,
    told: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Secrets;

impl FirstBoot for Secrets {
    fn provision(
        &self,
        order: &CreateOrder,
        _address: IpAddr,
    ) -> Result<Provision, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Provision {
            environment: "build".parse()?,
            instance: order.instance.clone(),
            fleet: order.fleet.clone(),
            image: order.image.clone(),
            coordinators: vec!["127.0.0.1:1".parse()?],
            domain: "build.example".to_owned(),
            address: None,
            dns: None,
            join_token: format!("token of {}", order.instance),
            ca_pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        })
    }
}

#[derive(Debug)]
struct OneImage(PathBuf);

impl ImageFiles for OneImage {
    fn directory(&self, _image: &ImageRef) -> Option<PathBuf> {
        Some(self.0.clone())
    }
}

impl Bench {
    /// A test with a network of its own, made of `number` and of this process, so that two runs of
    /// the tests do not meet.
    pub(super) fn new(number: u32, prefix: u32) -> Self {
        let process = std::process::id();
        let (high, low) = (128 + process / 256 % 60, process % 256);
        let network = format!("127.{high}.{low}.{}/{prefix}", number * 16);
        let root = tempfile::tempdir().unwrap();
        let image = root.path().join("image");
        fs::create_dir(&image).unwrap();
        fs::write(
            image.join("image.toml"),
            "name = \"web\"\nversion = \"1.0\"\n",
        )
        .unwrap();
        fs::write(image.join("index.html"), "hello").unwrap();
        fs::create_dir(root.path().join("machines")).unwrap();
        fs::create_dir(root.path().join("locks")).unwrap();
        let image = ImageRef {
            tag: "web@1.0".parse().unwrap(),
            digest: digest_of(&image).unwrap(),
        };
        Self {
            root,
            network: network.parse().unwrap(),
            image,
            told: Arc::default(),
        }
    }

    /// The address of this number in the test's network.
    pub(super) fn address(&self, number: u32) -> Ipv4Addr {
        self.network.address(number).unwrap()
    }

    pub(super) fn image(&self) -> PathBuf {
        self.root.path().join("image")
    }

    pub(super) fn machines(&self) -> PathBuf {
        self.root.path().join("machines").canonicalize().unwrap()
    }

    pub(super) fn locks(&self) -> PathBuf {
        self.root.path().join("locks")
    }

    pub(super) fn script(&self, name: &str, script: &str) -> PathBuf {
        let path = self.root.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A program that does `script` when it is started first, and is the real one from then on.
    pub(super) fn agent_that_fails_once(&self, script: &str) -> PathBuf {
        let failed = self.root.path().join("failed");
        self.script(
            "fails-once",
            &format!(
                "[ -e {0} ] && exec {1} \"$@\"; touch {0}; {script}",
                failed.display(),
                agent().display()
            ),
        )
    }

    pub(super) fn open(&self, environment: &str) -> ProcessProvider {
        self.open_as(environment, agent(), &self.locks())
    }

    pub(super) fn open_with_locks(&self, environment: &str, locks: &Path) -> ProcessProvider {
        self.open_as(environment, agent(), locks)
    }

    pub(super) fn open_with_agent(&self, environment: &str, agent: &Path) -> ProcessProvider {
        self.open_as(environment, agent, &self.locks())
    }

    fn open_as(&self, environment: &str, agent: &Path, locks: &Path) -> ProcessProvider {
        let options = ProcessOptions {
            environment: environment.parse().unwrap(),
            machines: self.machines(),
            network: self.network,
            agent: agent.to_owned(),
            locks: Some(locks.to_owned()),
        };
        let told = Arc::clone(&self.told);
        let on_change = Arc::new(move || {
            told.fetch_add(1, Ordering::Relaxed);
        });
        let images = Arc::new(OneImage(self.image()));
        ProcessProvider::open(options, images, Arc::new(Secrets), on_change).unwrap()
    }

    pub(super) fn times_told(&self) -> usize {
        self.told.load(Ordering::Relaxed)
    }

    pub(super) fn order(&self, instance: &str) -> CreateOrder {
        CreateOrder {
            zone: None,
            instance: instance.parse().unwrap(),
            fleet: "web".parse().unwrap(),
            image: self.image.clone(),
            epoch: 4,
        }
    }

    pub(super) fn tag(&self, environment: &str, instance: &str) -> MachineTag {
        MachineTag {
            environment: environment.parse().unwrap(),
            instance: instance.parse().unwrap(),
            fleet: "web".parse().unwrap(),
            image: ImageRef {
                tag: "web@1.0".parse().unwrap(),
                digest: Digest::from_sha256([1; 32]),
            },
            address: "127.72.255.1".parse().unwrap(),
            zone: None,
            epoch: 4,
        }
    }

    pub(super) fn files(&self, instance: &str) -> MachineFiles {
        MachineFiles::new(self.machines().join(instance))
    }

    pub(super) fn record(&self, instance: &str) -> InitRecord {
        InitRecord::read(&self.files(instance)).unwrap().unwrap()
    }

    /// What lies in the machines' directory, but the kept output.
    pub(super) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.machines()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != ".gone")
            .collect()
    }

    pub(super) fn make(&self, provider: &mut ProcessProvider, instance: &str) {
        provider.create(&self.order(instance));
        self.until_state(provider, instance, Some(MachineState::Running));
    }

    pub(super) fn delete(&self, provider: &mut ProcessProvider, instance: &str) {
        provider.delete(&instance.parse().unwrap(), &DeleteBasis::Replaced);
        self.until_state(provider, instance, None);
    }

    pub(super) fn until_state(
        &self,
        provider: &ProcessProvider,
        instance: &str,
        expected: Option<MachineState>,
    ) {
        let instance: InstanceId = instance.parse().unwrap();
        until(&format!("{instance} is {expected:?}"), || {
            let list = provider.list();
            let machine = list.machines.iter().find(|m| m.instance == instance);
            machine.map(|machine| machine.state) == expected
        });
    }

    pub(super) fn until_fault(&self, provider: &ProcessProvider, instance: &str) -> ProviderFault {
        let instance: InstanceId = instance.parse().unwrap();
        let mut found = None;
        until(&format!("{instance} has a fault"), || {
            found = provider.list().faults.get(&instance).cloned();
            found.is_some()
        });
        found.unwrap()
    }

    /// Starts a workload as an agent would, and waits until it has written something.
    pub(super) fn start_workload(&self, instance: &str, script: &str) -> ProcessId {
        let files = self.files(instance);
        let spec = serde_json::json!({
            "program": "/bin/sh",
            "arguments": ["-c", script],
            "env": {"PATH": "/usr/bin:/bin", "CALVIN_MACHINE": files.root()},
            "directory": "/",
            "stop_signal": "SIGTERM",
            "stop_timeout": "10s",
            "restart_min": "1s",
            "restart_max": "1s",
        });
        let request = serde_json::json!({"id": 1, "order": {"start": spec}});
        let mut stream = UnixStream::connect(files.init_socket()).unwrap();
        writeln!(stream, "{request}").unwrap();
        let answer = BufReader::new(stream)
            .lines()
            .map(Result::unwrap)
            .find(|line| line.contains("\"answer\""));
        assert_eq!(answer.unwrap(), r#"{"answer":{"id":1,"refused":null}}"#);
        until("the workload has written", || {
            fs::metadata(files.console()).is_ok_and(|console| console.len() > 0)
        });
        self.record(instance).workload.unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for name in self.names() {
            let files = self.files(&name);
            let record = InitRecord::read(&files).ok().flatten();
            let ended = processes::kill_all(files.root(), record.as_ref(), DEADLINE);
            if !std::thread::panicking() {
                ended.unwrap();
            }
        }
    }
}
