//! An operator service that answers from a script. What a rollout does is in its fleet's name:
//! `web` is done, `bad` goes back, `first` fails, `slow` never ends, `resumed` ends only after
//! the coordinator was away, `never` has none; `switched` is settling,
//! `mine` was started by who asks; `stuck` gets no answer, `wbe` is not there.

mod service;
mod states;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use calvin_proto::wire::operator_server::OperatorServer;
use tokio::{net::UnixListener, runtime::Runtime, sync::watch};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

pub(crate) use self::service::Script;

/// What is shared with the service's calls.
#[derive(Debug)]
struct Shared {
    changes: Mutex<Vec<String>>,
    runs: Mutex<u32>,
    watchers: watch::Sender<usize>,
    backups_stall: AtomicBool,
}

/// The service and its socket.
pub(crate) struct Fake {
    directory: tempfile::TempDir,
    shared: Arc<Shared>,
    /// A runtime of its own for each run: to end it ends every connection, as killing a process
    /// does.
    running: Option<Runtime>,
}

impl Fake {
    /// Begins to serve.
    pub(crate) fn start() -> Self {
        let mut fake = Self {
            directory: tempfile::tempdir().unwrap(),
            shared: Arc::new(Shared {
                changes: Mutex::default(),
                runs: Mutex::default(),
                watchers: watch::Sender::new(0),
                backups_stall: AtomicBool::new(false),
            }),
            running: None,
        };
        fake.begin();
        fake
    }

    /// Serves, again after `stop`.
    pub(crate) fn begin(&mut self) {
        *self.shared.runs.lock().unwrap() += 1;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let context = runtime.enter();
        let listener = UnixListener::bind(self.socket()).unwrap();
        runtime.spawn(
            Server::builder()
                .add_service(self.service())
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        drop(context);
        self.running = Some(runtime);
    }

    /// The service, to be served in another way.
    pub(crate) fn service(&self) -> OperatorServer<Script> {
        OperatorServer::new(Script {
            shared: Arc::clone(&self.shared),
        })
    }

    /// Ends as a killed process does: every connection breaks.
    pub(crate) fn stop(&mut self) {
        self.running.take().expect("it runs").shutdown_background();
        fs::remove_file(self.socket()).unwrap();
    }

    /// From now on a backup begins and never ends; who waits for one counts as one who watches.
    pub(crate) fn stall_backups(&self) {
        self.shared.backups_stall.store(true, Ordering::SeqCst);
    }

    /// Waits until so many watch a rollout.
    pub(crate) async fn wait_for_watchers(&self, number: usize) {
        let mut watchers = self.shared.watchers.subscribe();
        tokio::time::timeout(
            crate::run::PATIENCE,
            watchers.wait_for(|now| *now >= number),
        )
        .await
        .expect("somebody watches")
        .unwrap();
    }

    /// The directory that is also the user's home.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The service's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("operator.sock")
    }

    /// What was changed, in order.
    pub(crate) fn changes(&self) -> Vec<String> {
        self.shared.changes.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(runtime) = self.running.take() {
            runtime.shutdown_background();
        }
    }
}
