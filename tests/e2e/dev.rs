//! `calvin serve --dev`, as somebody types it who tries Calvinverse for the first time: everything on
//! this machine starts with one command and ends with Ctrl-C.

use std::{
    fs::{self, File},
    process::{Child, Command, Output, Stdio},
};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::{
    environment::binary,
    files::{self, Fleet, Pace, Says},
    processes,
    waiting::until,
};

/// A user with a home of its own.
struct User {
    home: TempDir,
    coordinator: Option<Child>,
}

impl User {
    fn new() -> Self {
        // Short: sockets lie deep inside, and their paths have at most 107 bytes.
        let home = tempfile::Builder::new().prefix("cu-").tempdir().unwrap();
        Self {
            home,
            coordinator: None,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("calvin"));
        command
            .args(arguments)
            .env("HOME", self.home.path())
            .env_remove("XDG_STATE_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        command
    }

    /// `calvin` with these arguments; its standard output.
    fn calvin(&self, arguments: &[&str]) -> Result<String, Output> {
        let output = self.command(arguments).output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(output)
        }
    }

    /// Starts everything, and waits until `calvin status` is answered.
    async fn serve(&mut self) {
        let log = File::create(self.home.path().join("serve.log")).unwrap();
        let child = self
            .command(&["serve", "--dev"])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.coordinator = Some(child);
        until("calvin status to be answered", async || {
            self.calvin(&["status"])
        })
        .await;
    }

    async fn until_status_says(&self, words: &str) {
        until(words, async || {
            let status = self.calvin(&["status"]).map_err(|o| format!("{o:?}"))?;
            if status.contains(words) {
                Ok(())
            } else {
                Err(status)
            }
        })
        .await;
    }

    /// Ctrl-C; waits until the command has ended, and gives its exit code.
    async fn interrupt(&mut self) -> Option<i32> {
        let mut child = self.coordinator.take().unwrap();
        processes::signal(i32::try_from(child.id()).unwrap(), Signal::SIGINT);
        let ended = until("the coordinator to end", async || {
            child.try_wait().unwrap().ok_or("it runs")
        });
        ended.await.code()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("serve.log")).unwrap_or_default()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if let Some(mut child) = self.coordinator.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        processes::end_all(self.home.path());
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

#[tokio::test]
async fn one_command_starts_everything_and_ctrl_c_ends_all_of_it() {
    let mut user = User::new();
    user.serve().await;
    let home = user.home.path().to_owned();
    let image = files::web_image(&binary("calvin"), &home, "1.0", &[], Says::at(Pace::Quick));
    user.calvin(&["image", "add", image.to_str().unwrap()])
        .unwrap();
    fs::write(
        home.join("web.toml"),
        Fleet::new("web", "web@1.0", 3).toml(),
    )
    .unwrap();
    user.calvin(&["fleet", "apply", "--watch", "web.toml"])
        .unwrap();
    user.until_status_says("3 of 3 serving").await;
    assert_eq!(processes::of_fleet(&home, "web", "workload").len(), 3);

    assert_eq!(user.interrupt().await, Some(0), "{}", user.log());
    let left = processes::list(&home);
    assert!(left.is_empty(), "{left:?}\n{}", user.log());
    // Nobody answers, and the answer is an exit code of its own.
    let unanswered = user.calvin(&["status"]).unwrap_err();
    assert_eq!(unanswered.status.code(), Some(6), "{unanswered:?}");

    // The next start makes the fleet again, on the ports of the first.
    user.serve().await;
    user.until_status_says("3 of 3 serving").await;
    assert_eq!(user.interrupt().await, Some(0), "{}", user.log());
    let left = processes::list(&home);
    assert!(left.is_empty(), "{left:?}\n{}", user.log());
}

#[tokio::test]
async fn a_workload_that_will_not_stop_does_not_outlive_ctrl_c() {
    let mut user = User::new();
    user.serve().await;
    let home = user.home.path().to_owned();
    let text = "name = \"stubborn\"\nversion = \"1.0\"\n\n[workload]\n\
        command = [\"/bin/sh\", \"-c\", \"trap '' TERM INT; sleep 98764 & while true; do sleep 1; done\"]\n";
    let image = files::custom_image(&home, "stubborn", "1.0", text);
    user.calvin(&["image", "add", image.to_str().unwrap()])
        .unwrap();
    let fleet = Fleet::new("stubborn", "stubborn@1.0", 2);
    fs::write(home.join("stubborn.toml"), fleet.toml()).unwrap();
    user.calvin(&["fleet", "apply", "--watch", "stubborn.toml"])
        .unwrap();
    assert_eq!(user.interrupt().await, Some(0), "{}", user.log());
    let left = processes::list(&home);
    assert!(left.is_empty(), "{left:?}\n{}", user.log());
}
