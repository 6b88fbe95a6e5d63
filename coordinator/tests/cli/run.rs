//! Runs `calvin` in an environment of its own and looks at what it says.

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::fake::Fake;

/// Nothing here takes a second; a machine that builds beside it may be slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How `calvin` ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// Standard output as one JSON value.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// Standard error as one JSON value.
    pub(crate) fn json_error(&self) -> Value {
        serde_json::from_str(&self.err).unwrap_or_else(|error| panic!("{error}: {}", self.err))
    }
}

/// `calvin` with these arguments, asking the fake.
pub(crate) fn command(fake: &Fake, arguments: &[&str]) -> Command {
    let mut command = bare(fake.directory());
    command.env("CALVIN_SOCKET", fake.socket()).args(arguments);
    command
}

/// `calvin` in a home of its own, asking nobody yet.
pub(crate) fn bare(home: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_calvin"));
    command
        .env_clear()
        .env("HOME", home)
        .env("TZ", "UTC")
        .current_dir(home)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs it to its end.
pub(crate) async fn run(fake: &Fake, arguments: &[&str]) -> Ended {
    finish(command(fake, arguments)).await
}

/// Runs a command to its end.
pub(crate) async fn finish(command: Command) -> Ended {
    finish_within(PATIENCE, command).await
}

/// Runs a command that has much to do to its end.
pub(crate) async fn finish_within(patience: Duration, mut command: Command) -> Ended {
    let output = tokio::time::timeout(patience, command.output())
        .await
        .expect("calvin ends")
        .unwrap();
    ended(&output)
}

/// Starts it, with its output to be read.
pub(crate) fn start(mut command: Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a process that ended said.
pub(crate) fn ended(output: &Output) -> Ended {
    Ended {
        code: output.status.code().expect("it was not ended by a signal"),
        out: String::from_utf8(output.stdout.clone()).unwrap(),
        err: String::from_utf8(output.stderr.clone()).unwrap(),
    }
}
