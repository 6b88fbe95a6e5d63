//! A whole coordinator in this process, on a store whose disk the test can make hang.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use calvin_proto::{
    transport::{
        Trusted, client_config, connect, connect_unix, coordinator_dns_name, new_key, services,
        signing_request,
    },
    wire::{self, operator_client::OperatorClient},
};
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{Code, Status, Streaming, transport::Channel};

use super::{AtEnd, Ready, ServeError, block_on, serve::run_in};
use crate::{
    config::ServeConfig,
    identity::REASON_HEADER,
    store::{self, OpenError, StoreFault},
};

/// No condition of these tests takes longer.
const DEADLINE: Duration = Duration::from_secs(30);
/// Whoever does not need the disk is answered within this time.
const AT_ONCE: Duration = Duration::from_secs(1);

const IMAGE: &str = r#"name = "web"
version = "1.0"

[workload]
command = ["server"]

[[service]]
name = "web"
port = 8080

[[check]]
name = "page"
http = "/"
port = 8080
"#;

const FLEET: &str = r#"name = "web"
image = "web@1.0"
count = 1
"#;

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
        let (directory, database) = store::open(data.path(), store::Copies::Refused).unwrap();
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

    /// A client with this certificate of an operator.
    async fn remote(&self, added: &wire::AddOperatorReply, key: &str) -> OperatorClient<Channel> {
        let trusted = Trusted::from_pem(&added.ca_pem).unwrap();
        let own = Some((added.certificate_pem.as_str(), key));
        let tls = Arc::new(client_config(&trusted, own).unwrap());
        let name = coordinator_dns_name(&"test".parse().unwrap());
        let address = self.ready.operators.unwrap();
        services::operator_client(connect(address, &name, tls).await.unwrap())
    }

    /// What asks for the output of a machine that has been made, as it grows.
    async fn console_of_a_machine(
        &self,
        local: &mut OperatorClient<Channel>,
    ) -> wire::ConsoleRequest {
        let image = self.data.path().join("image");
        fs::create_dir(&image).unwrap();
        fs::write(image.join("image.toml"), IMAGE).unwrap();
        let location = image.display().to_string();
        let image = wire::AddImageRequest {
            location,
            ..wire::AddImageRequest::default()
        };
        local.add_image(image).await.unwrap();
        let fleet = wire::ApplyFleetRequest {
            toml: FLEET.to_owned(),
            ..wire::ApplyFleetRequest::default()
        };
        local.apply_fleet(fleet).await.unwrap();
        let made = async {
            loop {
                let status = local.status(wire::StatusRequest::default()).await.unwrap();
                let status = status.into_inner();
                let instances = status.fleets.iter().flat_map(|fleet| &fleet.instances);
                for instance in instances {
                    let request = wire::ConsoleRequest {
                        instance: instance.id.clone(),
                        follow: true,
                        bytes: 0,
                    };
                    if local.console(request.clone()).await.is_ok() {
                        return request;
                    }
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, made).await.unwrap()
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
    let error = store::open(data.path(), store::Copies::Refused).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    drop(hung);
    let deadline = Instant::now() + DEADLINE;
    while let Err(error) = store::open(data.path(), store::Copies::Refused) {
        assert!(matches!(error, OpenError::InUse { .. }), "{error}");
        assert!(Instant::now() < deadline, "nobody lets the directory go");
        std::thread::yield_now();
    }
}

/// The status that a stream ends with.
async fn end_of<T>(mut stream: Streaming<T>) -> Status {
    let end = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a word"),
                Err(status) => return status,
            }
        }
    };
    tokio::time::timeout(DEADLINE, end).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_watches_ends_with_its_certificate_or_its_revocation() {
    let bench = Bench::start().await;
    let mut local = bench.local().await;
    let key = new_key().unwrap();
    let add = |name, valid_ms| wire::AddOperatorRequest {
        valid_ms,
        ..add_operator(name, &key)
    };
    let ann = local
        .add_operator(add("ann", 0))
        .await
        .unwrap()
        .into_inner();
    let watch = wire::StatusRequest::default;
    let watched = bench.remote(&ann, &key).await.watch_status(watch()).await;
    let mut watched = watched.unwrap().into_inner();
    watched.message().await.unwrap().unwrap();
    let console = bench.console_of_a_machine(&mut local).await;
    let read = bench.remote(&ann, &key).await.console(console).await;
    let read = read.unwrap().into_inner();
    let tim = local
        .add_operator(add("tim", 3_000))
        .await
        .unwrap()
        .into_inner();
    let short = bench.remote(&tim, &key).await.watch_status(watch()).await;
    let of_root = local.watch_status(watch()).await.unwrap().into_inner();

    let end = end_of(short.unwrap().into_inner()).await;
    assert_eq!(end.code(), Code::Unauthenticated);
    assert_eq!(
        end.metadata().get(REASON_HEADER).unwrap(),
        "certificate_expired"
    );
    let name = "ann".to_owned();
    local
        .revoke_operator(wire::RevokeOperatorRequest { name })
        .await
        .unwrap();
    for end in [end_of(watched).await, end_of(read).await] {
        assert_eq!(end.code(), Code::PermissionDenied);
        let reason = end.metadata().get(REASON_HEADER).unwrap();
        assert_eq!(reason, "operator_revoked");
    }

    let (_data, ended) = bench.stop().await;
    ended.unwrap();
    assert_eq!(end_of(of_root).await.code(), Code::Unavailable);
}
