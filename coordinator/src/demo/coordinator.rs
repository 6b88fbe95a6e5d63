//! The coordinator as a child process: started, killed and started again.

use std::{
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::{DemoError, operator::Operator};

/// Time for a coordinator to answer after its start: it makes a CA and a database the first time.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// Pause between two looks at a socket that does not answer yet.
const START_POLL: Duration = Duration::from_millis(25);

/// Time for a coordinator to end when it is told to, before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Coordinator {
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Coordinator {
    pub(super) fn new(program: PathBuf, home: &Path, config: PathBuf) -> Self {
        let log = home.join("coordinator.log");
        Self {
            program,
            config,
            log,
            child: None,
        }
    }

    /// Starts it and waits until it answers.
    pub(super) async fn start(&mut self, operator: &Operator) -> Result<(), DemoError> {
        let file = |source| DemoError::File {
            doing: "open",
            path: self.log.clone(),
            source,
        };
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(file)?;
        let errors = log.try_clone().map_err(file)?;
        let child = Command::new(&self.program)
            .arg("serve")
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C on the terminal is for the demo, which then ends the coordinator in order.
            .process_group(0)
            .spawn()
            .map_err(|source| DemoError::File {
                doing: "start",
                path: self.program.clone(),
                source,
            })?;
        self.child = Some(child);
        self.wait_until_it_answers(operator).await
    }

    async fn wait_until_it_answers(&mut self, operator: &Operator) -> Result<(), DemoError> {
        let start = Instant::now();
        loop {
            let problem = match operator.about().await {
                Ok(_) => return Ok(()),
                Err(status) => status,
            };
            if let Some(status) = self.ended() {
                return Err(DemoError::CoordinatorEnded {
                    status: status.to_string(),
                    log: self.log.clone(),
                });
            }
            if start.elapsed() > START_TIMEOUT {
                return Err(DemoError::TookTooLong {
                    what: "the coordinator to answer".to_owned(),
                    waited: START_TIMEOUT,
                    seen: problem.message().to_owned(),
                });
            }
            sleep(START_POLL).await;
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child
            .as_mut()
            .and_then(|child| child.try_wait().ok().flatten())
    }

    /// Kills it with SIGKILL: it gets no chance to write or to say anything.
    pub(super) async fn kill(&mut self) -> Result<(), DemoError> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        child.kill().await.map_err(|source| DemoError::System {
            doing: "kill the coordinator",
            source,
        })
    }

    /// Tells it to end, and kills it if it does not.
    pub(super) async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
            // Gone already is as good.
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        let ended: Result<io::Result<ExitStatus>, _> = timeout(STOP_TIMEOUT, child.wait()).await;
        if ended.is_err() {
            // It was asked; what is left of it is found by `processes::end_all`.
            let _ = child.kill().await;
        }
    }

    /// The program that it is a process of: this one.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Its process id, while it runs.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Lets it outlive the demo.
    pub(super) fn leave_running(&mut self) {
        self.child = None;
    }
}
