//! A whole coordinator in this process, on a store whose disk the test can make hang.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use calvin_proto::{
    transport::{connect_unix, new_key, services, signing_request},
    wire::{self, operator_client::OperatorClient},
};
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::transport::Channel;

use super::{AtEnd, Ready, ServeError, block_on, serve::run_in};
use crate::{
    config::ServeConfig,
    store::{self, OpenError, StoreFault},
};

/// No condition of these tests takes longer.
const DEADLINE: Duration = Duration::from_secs(30);
/// Whoever does not need the disk is answered within this time.
const AT_ONCE: Duration = Duration::from_secs(1);

struct Bench {
    data: tempfile::TempDir,
    fault: Arc<StoreFault>,
    ready: Ready,
    shutdown: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), ServeError>>,
}

/// Longest end of a coordinator, whatever hangs.
const END: Duration = Duration::from_secs(10);

fn config(data: &Path) -> ServeConfig {
    let text = format!(
        r#"environment = "test"
data = "{}"

[agents]
listen = "127.0.0.1:0"

[operators]
listen = "127.0.0.1:0"

[provider.process]
network = "127.77.0.0/16"
agent = "/bin/true"
"#,
        data.display()
    );
    ServeConfig::parse("calvin.toml", &text).unwrap()
}

impl Bench {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let (directory, database) = store::open(data.path()).unwrap();
        let fault = Arc::clone(database.fault());
        let (shutdown, told) = oneshot::channel();
        let (say, is_ready) = oneshot::channel();
        let config = config(data.path());
        let ended = tokio::spawn(async move {
            let say = |ready: &Ready| say.send(ready.clone()).unwrap();
            let shutdown = async {
                // A bench that is dropped ends its coordinator, too.
                let _ = told.await;
            };
            let at_end = AtEnd::MachinesGoOn;
            run_in(directory, database, config, at_end, say, shutdown).await
        });
        Self {
            data,
            fault,
            ready: is_ready.await.unwrap(),
            shutdown,
            ended,
        }
    }

    /// An operator at this machine.
    async fn local(&self) -> OperatorClient<Channel> {
        let channel = connect_unix(&self.ready.socket).await.unwrap();
        services::operator_client(channel)
    }

    async fn stop(self) -> (tempfile::TempDir, Result<(), ServeError>) {
        self.shutdown.send(()).unwrap();
        let ended = tokio::time::timeout(DEADLINE, self.ended).await;
        (self.data, ended.unwrap().unwrap())
    }
}

/// Asks for a certificate of operator `name`.
fn add_operator(name: &str, key: &str) -> wire::AddOperatorRequest {
    wire::AddOperatorRequest {
        name: name.to_owned(),
        role: "viewer".to_owned(),
        csr_der: signing_request(key).unwrap(),
        valid_ms: 0,
    }
}

async fn until(condition: impl Fn() -> bool, what: &str) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, wait).await;
    assert!(waited.is_ok(), "waited in vain for {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn operators_are_answered_while_the_disk_hangs() {
    let bench = Bench::start().await;
    let (mut one, mut other) = (bench.local().await, bench.local().await);
    let hung = bench.fault.hang_now();
    let asking = async {
        until(|| hung.holds_somebody(), "somebody at the disk").await;
        let began = Instant::now();
        other.status(wire::StatusRequest::default()).await.unwrap();
        let operators = other.list_operators(wire::ListOperatorsRequest::default());
        assert!(operators.await.unwrap().into_inner().operators.is_empty());
        let ca = other.show_ca(wire::ShowCaRequest::default()).await.unwrap();
        assert_eq!(ca.into_inner().trusted.len(), 1);
        let took = began.elapsed();
        assert!(took < AT_ONCE, "{took:?}");
        drop(hung);
    };
    let key = new_key().unwrap();
    let (added, ()) = tokio::join!(one.add_operator(add_operator("ann", &key)), asking);
    added.unwrap();
    let (_data, ended) = bench.stop().await;
    ended.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_read_is_one_finding_of_the_doctor_among_others() {
    let bench = Bench::start().await;
    let mut local = bench.local().await;
    let key = new_key().unwrap();
    bench.fault.set_full(true);
    // `redb` is opened again after a write that failed, and that writes, too.
    local
        .add_operator(add_operator("ann", &key))
        .await
        .unwrap_err();
    let checks = local
        .doctor(wire::DoctorRequest {})
        .await
        .unwrap()
        .into_inner()
        .checks;
    let of = |name| checks.iter().find(|check| check.name == name).unwrap();
    for name in ["clock", "history"] {
        let check = of(name);
        assert!(
            !check.ok && check.found.contains("could not be read"),
            "{check:?}"
        );
    }
    let descriptors = of("descriptors");
    assert!(
        descriptors.ok && descriptors.found.contains(" of "),
        "{descriptors:?}"
    );
    assert!(of("CA").ok);
    bench.fault.set_full(false);
    let (_data, ended) = bench.stop().await;
    ended.unwrap();
}

#[test]
fn a_coordinator_whose_disk_hangs_ends_and_keeps_its_directory_until_its_writers_are_gone() {
    let (data, hung, told) = block_on(async {
        let bench = Bench::start().await;
        let mut local = bench.local().await;
        let hung = bench.fault.hang_now();
        let key = new_key().unwrap();
        tokio::spawn(async move { local.add_operator(add_operator("ann", &key)).await });
        until(|| hung.holds_somebody(), "somebody at the disk").await;
        let told = Instant::now();
        let (data, ended) = bench.stop().await;
        ended.unwrap();
        (data, hung, told)
    })
    .unwrap();
    let took = told.elapsed();
    assert!(took < END, "{took:?}");
    let error = store::open(data.path()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    drop(hung);
    let deadline = Instant::now() + DEADLINE;
    while let Err(error) = store::open(data.path()) {
        assert!(matches!(error, OpenError::InUse { .. }), "{error}");
        assert!(Instant::now() < deadline, "nobody lets the directory go");
        std::thread::yield_now();
    }
}
