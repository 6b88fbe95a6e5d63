//! A store that is behind the world: a second coordinator on a copy of it disturbs nobody, and a
//! backup that is restored onto a fleet of another image takes over what serves.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use calvin_proto::wire;
use tokio::time::sleep;

use crate::support::{
    Environment,
    environment::{binary, free_address},
    files::Fleet,
    operator::Operator,
    waiting::until,
};

/// What makes the shell that starts a coordinator add `--adopt`.
const ADOPT: &str = "set -- \"$@\" --adopt";

async fn recovery(operator: &Operator) -> Result<wire::Recovery, String> {
    let mut client = operator.client.clone();
    let shown = client.show_recovery(wire::ShowRecoveryRequest {}).await;
    shown
        .map(tonic::Response::into_inner)
        .map_err(|status| status.to_string())
}

/// Waits for a plan with so many instances to adopt, that nothing stands in the way of.
async fn plan(operator: &Operator, adopted: usize) -> wire::Recovery {
    until("the plan", async || {
        let found = recovery(operator).await?;
        let adopts = found.findings.iter().filter(|it| it.verdict == "adopt");
        let blocked = found.findings.iter().any(|finding| finding.blocks);
        if adopts.count() == adopted && found.waits.is_empty() && !blocked {
            Ok(found)
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A second coordinator's data directory and configuration, beside the first one's.
struct Second {
    config: PathBuf,
    log: PathBuf,
    data: PathBuf,
    operator: Operator,
}

impl Second {
    fn on_a_copy(environment: &Environment) -> Self {
        let home = environment.home();
        let data = home.join("copy");
        fs::create_dir_all(data.join("ca")).unwrap();
        fs::copy(home.join("data/store.redb"), data.join("store.redb")).unwrap();
        for entry in fs::read_dir(home.join("data/ca")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, data.join("ca").join(path.file_name().unwrap())).unwrap();
        }
        let config = home.join("copy.toml");
        let agents = free_address();
        let text = format!(
            "environment = \"test\"\ndata = {:?}\n[agents]\nlisten = \"{agents}\"\n[provider.process]\nnetwork = \"127.250.7.0/24\"\n",
            data.to_string_lossy()
        );
        fs::write(&config, text).unwrap();
        Self {
            config,
            log: home.join("copy.log"),
            operator: Operator::new(data.join("run/operator.sock")),
            data,
        }
    }

    fn serve(&self, more: &[&str]) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        Command::new(binary("calvin"))
            .args(["serve", "--config"])
            .arg(&self.config)
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn calvin(&self, arguments: &[&str]) -> Output {
        Command::new(binary("calvin"))
            .arg("--socket")
            .arg(self.data.join("run/operator.sock"))
            .args(arguments)
            .env("HOME", &self.data)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

/// What an agent says of itself: its session, role and numbers.
fn agents(environment: &Environment) -> Vec<String> {
    let machines = environment.home().join("data/machines");
    let mut said = Vec::new();
    for instance in environment.processes("web", "run").keys() {
        let output = Command::new(binary("calvin-agent"))
            .args(["status", "--machine"])
            .arg(machines.join(instance))
            .output()
            .unwrap();
        let text = text(&output);
        let lines = text.lines().filter(|line| {
            ["session", "role", "generation"]
                .iter()
                .any(|word| line.trim_start().starts_with(word))
        });
        said.push(lines.collect::<Vec<_>>().join("\n"));
    }
    said
}

#[tokio::test]
async fn a_second_coordinator_on_a_copy_disturbs_nobody() {
    let environment = Environment::start().await;
    environment.bring_up_web_with_traffic().await;
    let before = agents(&environment);
    assert!(
        !before.is_empty() && before.iter().all(|it| it.contains("session")),
        "{before:?}"
    );
    // Copied while nobody writes to it.
    environment.signal_coordinator(nix::sys::signal::Signal::SIGSTOP);
    let second = Second::on_a_copy(&environment);
    environment.signal_coordinator(nix::sys::signal::Signal::SIGCONT);

    let mut refused = second.serve(&[]);
    let status = until("the second to end", async || {
        refused.try_wait().unwrap().ok_or("it runs")
    })
    .await;
    let log = fs::read_to_string(&second.log).unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains("a copy or a restored backup") && log.contains("--adopt"),
        "{log}"
    );

    let machines = environment.processes("web", "init");
    let mut adopted = second.serve(&["--adopt"]);
    let found = until("the second to show what it found", async || {
        let found = recovery(&second.operator).await?;
        if found.findings.is_empty() {
            Err(format!("{found:?}"))
        } else {
            Ok(found)
        }
    })
    .await;
    assert!(found.reason.contains("adopted"), "{found:?}");
    assert!(
        found.findings.iter().all(|it| it.verdict == "missing"),
        "{found:?}"
    );
    sleep(Duration::from_secs(2)).await;
    let status = second.calvin(&["status"]);
    assert_eq!(status.status.code(), Some(8), "{}", text(&status));
    assert!(text(&status).contains("RECOVERING"), "{}", text(&status));
    let started = second.operator.start("web", "web@2.0").await.unwrap_err();
    assert!(started.message().contains("recovers"), "{started}");
    assert_eq!(environment.processes("web", "init"), machines);
    assert_eq!(agents(&environment), before);
    let made = fs::read_dir(second.data.join("machines")).unwrap().count();
    assert_eq!(made, 0, "the second made machines");

    // The first goes on, also with a rollout.
    let started = environment.operator.start("web", "web@2.0").await.unwrap();
    let ended = environment
        .until_rollout_ended("web", &started.rollout)
        .await;
    assert_eq!(ended.phase, "done", "{ended:?}");
    environment.assert_nothing_failed().await;
    adopted.kill().unwrap();
    adopted.wait().unwrap();
}

/// Moves the store and what belongs to it away; the machines go on where they are.
fn lose_store(data: &Path) {
    let lost = data.with_file_name("lost");
    fs::create_dir(&lost).unwrap();
    for name in ["store.redb", "ca", "audit.log"] {
        fs::rename(data.join(name), lost.join(name)).unwrap();
    }
}

#[tokio::test]
async fn a_backup_of_before_a_rollout_takes_over_what_serves_after_it() {
    let mut environment = Environment::start().await;
    environment.bring_up_web_with_traffic().await;
    let backup = environment.home().join("yesterday.backup");
    let file = backup.to_string_lossy().into_owned();
    let made = environment.calvin(&["backup", "create", "--to", &file]);
    assert!(made.status.success(), "{}", text(&made));
    assert!(text(&made).contains("whose chain holds"), "{}", text(&made));
    let started = environment.operator.start("web", "web@2.0").await.unwrap();
    let ended = environment
        .until_rollout_ended("web", &started.rollout)
        .await;
    assert_eq!(ended.phase, "done", "{ended:?}");
    environment.until_whole("web", 5).await;

    environment.kill_coordinator();
    let machines = environment.processes("web", "init");
    let workloads = environment.processes("web", "workload");
    let data = environment.home().join("data");
    let to = data.to_string_lossy().into_owned();
    let used = environment.calvin(&["restore", &file, "--data", &to]);
    assert!(
        !used.status.success() && text(&used).contains("is not empty"),
        "{}",
        text(&used)
    );
    lose_store(&data);
    let restored = environment.calvin(&["restore", &file, "--data", &to]);
    assert!(restored.status.success(), "{}", text(&restored));
    let mut refused = environment.serve();
    assert_eq!(refused.wait().unwrap().code(), Some(1));

    environment.start_coordinator_after(ADOPT).await;
    let found = plan(&environment.operator, 5).await;
    assert!(found.epoch_next > found.epoch_seen, "{found:?}");
    let shown = environment.calvin(&["recover", "show"]);
    assert_eq!(shown.status.code(), Some(8), "{}", text(&shown));
    assert!(text(&shown).contains("web@2.0"), "{}", text(&shown));
    let wrong = environment.calvin(&["-y", "recover", "approve", "0000", "--reason", "a test"]);
    assert_eq!(wrong.status.code(), Some(4), "{}", text(&wrong));
    let approved = environment.calvin(&[
        "-y",
        "recover",
        "approve",
        &found.plan,
        "--reason",
        "the disk was lost",
    ]);
    assert!(approved.status.success(), "{}", text(&approved));

    let whole = environment.until_whole("web", 5).await;
    assert!(
        whole.iter().all(|one| one.image.starts_with("web@2.0")),
        "{whole:?}"
    );
    assert_eq!(
        environment.processes("web", "init"),
        machines,
        "machines were made or deleted"
    );
    assert_eq!(environment.processes("web", "workload"), workloads);
    environment.assert_nothing_failed().await;
    let status = environment.calvin(&["status"]);
    assert_eq!(status.status.code(), Some(0), "{}", text(&status));
    let history = environment.operator.history("web").await;
    assert!(
        history
            .iter()
            .any(|line| line.text.contains("the disk was lost")),
        "{history:?}"
    );

    // Restarted without a word, it goes on deciding; and it rolls out.
    environment.kill_coordinator();
    environment.start_coordinator().await;
    let started = environment.operator.start("web", "web@1.0").await.unwrap();
    let ended = environment
        .until_rollout_ended("web", &started.rollout)
        .await;
    assert_eq!(ended.phase, "done", "{ended:?}");
    environment.until_whole("web", 5).await;
    environment.assert_nothing_failed().await;
    let again = environment.home().join("today.backup");
    let made = environment.calvin(&["backup", "create", "--to", &again.to_string_lossy()]);
    assert!(text(&made).contains("whose chain holds"), "{}", text(&made));
}

#[tokio::test]
async fn a_fleet_that_came_after_the_backup_blocks_the_plan_until_its_file_is_applied() {
    let mut environment = Environment::start().await;
    environment.add_web_images(&[("1.0", "")]).await;
    let backup = environment.home().join("empty.backup");
    let file = backup.to_string_lossy().into_owned();
    let made = environment.calvin(&["backup", "create", "--to", &file]);
    assert!(made.status.success(), "{}", text(&made));
    let web = Fleet::new("web", "web@1.0", 2);
    environment.bring_up(&web).await;
    environment.kill_coordinator();
    let machines = environment.processes("web", "init");
    let data = environment.home().join("data");
    lose_store(&data);
    let restored = environment.calvin(&["restore", &file, "--data", &data.to_string_lossy()]);
    assert!(restored.status.success(), "{}", text(&restored));
    environment.start_coordinator_after(ADOPT).await;
    until("both to be found", async || {
        let found = recovery(&environment.operator).await?;
        let unknown = found
            .findings
            .iter()
            .filter(|it| it.verdict == "unknown_fleet");
        if unknown.count() == 2 {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await;
    environment.operator.apply(&web.toml()).await.unwrap();
    let found = plan(&environment.operator, 2).await;
    let approved = environment.calvin(&[
        "-y",
        "recover",
        "approve",
        &found.plan,
        "--reason",
        "a test",
    ]);
    assert!(approved.status.success(), "{}", text(&approved));
    environment.until_whole("web", 2).await;
    assert_eq!(environment.processes("web", "init"), machines);
}
