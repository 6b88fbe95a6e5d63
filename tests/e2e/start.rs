//! A coordinator that cannot start says why, names what is in its way, and touches nothing.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use nix::sys::signal::Signal;
use redb::{ReadableDatabase as _, TableDefinition};

use crate::support::{Environment, environment::binary, files::Fleet, waiting::until};

/// What a coordinator ends with that could not start.
const FAILED: Option<i32> = Some(1);

/// Waits until a coordinator that must not start has ended; its exit code and log.
async fn refused(environment: &Environment, mut child: Child) -> (Option<i32>, String) {
    let status = until("the coordinator to refuse", async || {
        child
            .try_wait()
            .expect("a child can be waited for")
            .ok_or("it runs")
    })
    .await;
    assert!(!status.success(), "{}", environment.log());
    (status.code(), environment.log())
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let environment = Environment::prepare();
    let taken = TcpListener::bind(environment.agents).unwrap();
    let (code, log) = refused(&environment, environment.serve()).await;
    assert_eq!(code, FAILED, "{log}");
    assert!(log.contains(&environment.agents.to_string()), "{log}");
    assert!(log.to_lowercase().contains("in use"), "{log}");
    drop(taken);
}

#[tokio::test]
async fn a_coordinator_may_open_what_the_host_allows_and_its_workloads_as_many_as_before() {
    let mut environment = Environment::prepare();
    environment.start_coordinator_after("ulimit -Sn 300").await;
    environment.add_web_images(&[("1.0", "")]).await;
    environment.bring_up(&Fleet::new("web", "web@1.0", 1)).await;
    let limits = |pid: i64| {
        let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = text.lines().find(|line| line.contains("open files"));
        let words: Vec<&str> = line.unwrap().split_ascii_whitespace().collect();
        (words[3].to_owned(), words[4].to_owned())
    };
    let (raised, hard) = limits(environment.coordinator_id().into());
    assert_eq!(raised, hard);
    for (role, expected) in [("init", hard.as_str()), ("run", &hard), ("workload", "300")] {
        for pid in environment.processes("web", role).into_values() {
            assert_eq!(limits(pid.into()).0, expected, "{role}");
        }
    }
}

#[tokio::test]
async fn a_data_directory_in_use_by_another_coordinator_is_refused_and_the_first_goes_on() {
    let environment = Environment::start().await;
    let config = environment.home().join("calvin.toml");
    let text = fs::read_to_string(&config).unwrap();
    // Ports of its own, so that only the directory is in its way.
    let text = text
        .replace(&environment.agents.to_string(), "127.0.0.1:0")
        .replace(&environment.operators.to_string(), "127.0.0.1:0");
    fs::write(&config, text).unwrap();
    let (code, log) = refused(&environment, environment.serve()).await;
    assert_eq!(code, FAILED, "{log}");
    assert!(log.contains("another") || log.contains("in use"), "{log}");
    environment.operator.about().await.unwrap();
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_used_is_named() {
    let environment = Environment::prepare();
    fs::write(
        environment.home().join("data"),
        "a file where the directory should be",
    )
    .unwrap();
    let (code, log) = refused(&environment, environment.serve()).await;
    assert_eq!(code, FAILED, "{log}");
    assert!(
        log.contains(environment.home().join("data").to_str().unwrap()),
        "{log}"
    );
}

/// `calvin` as somebody who may not write where the mode of a directory says so: root may, by a
/// capability that setpriv(1) takes away.
fn without_privileges() -> Command {
    let calvin = binary("calvin");
    if !rustix::process::geteuid().is_root() {
        return Command::new(calvin);
    }
    let mut command = Command::new("setpriv");
    for option in ["--inh-caps", "--bounding-set"] {
        command.args([option, "-dac_override,-dac_read_search"]);
    }
    command.arg(calvin);
    command
}

#[tokio::test]
async fn a_data_directory_that_may_not_be_written_to_is_refused_and_named() {
    let environment = Environment::prepare();
    let data = environment.home().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o500)).unwrap();
    let child = environment.serve_with(without_privileges());
    let (code, log) = refused(&environment, child).await;
    assert_eq!(code, FAILED, "{log}");
    assert!(log.contains(data.to_str().unwrap()), "{log}");
    assert!(log.contains("Permission denied"), "{log}");
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
}

#[tokio::test]
async fn a_store_that_is_no_store_is_refused_and_left_as_it_is() {
    let environment = Environment::prepare();
    let data = environment.home().join("data");
    fs::create_dir(&data).unwrap();
    let rubbish = b"this was a database once".repeat(200);
    fs::write(data.join("store.redb"), &rubbish).unwrap();
    let (code, log) = refused(&environment, environment.serve()).await;
    assert_eq!(code, FAILED, "{log}");
    assert!(log.contains("store.redb"), "{log}");
    assert_eq!(fs::read(data.join("store.redb")).unwrap(), rubbish);
}

#[tokio::test]
async fn a_store_without_its_keys_does_not_make_new_ones() {
    let mut environment = Environment::start().await;
    environment.add_web_images(&[("1.0", "")]).await;
    environment.bring_up(&Fleet::new("web", "web@1.0", 1)).await;
    environment.kill_coordinator();
    let keys = environment.home().join("data/ca");
    let aside = environment.home().join("aside");
    fs::rename(&keys, &aside).unwrap();
    let (code, log) = refused(&environment, environment.serve()).await;
    assert_eq!(code, FAILED, "{log}");
    assert!(log.contains("ca"), "{log}");
    // With the keys back, everything is as it was.
    drop(fs::remove_dir_all(&keys));
    fs::rename(&aside, &keys).unwrap();
    environment.start_coordinator().await;
    environment.until_whole("web", 1).await;
}

/// Every file below this directory that is not a socket, with its content.
fn content(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                found.insert(entry.path(), fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

/// Puts what the store says of the version that made it, and gives what it said before.
fn put_version(store: &Path, version: &[u8]) -> Vec<u8> {
    const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");
    let database = redb::Database::open(store).unwrap();
    let before = {
        let table = database.begin_read().unwrap().open_table(ABOUT).unwrap();
        table.get("version").unwrap().unwrap().value().to_vec()
    };
    let write = database.begin_write().unwrap();
    {
        let mut table = write.open_table(ABOUT).unwrap();
        table.insert("version", version).unwrap();
    }
    write.commit().unwrap();
    before
}

#[tokio::test]
async fn a_data_directory_of_a_newer_version_is_refused_and_nothing_in_it_is_changed() {
    let mut environment = Environment::start().await;
    environment.add_web_images(&[("1.0", "")]).await;
    environment.bring_up(&Fleet::new("web", "web@1.0", 2)).await;
    environment.signal_coordinator(Signal::SIGTERM);
    assert_eq!(environment.coordinator_ended().await, Some(0));
    let data = environment.home().join("data");
    let store = data.join("store.redb");
    let newer = br#"{"format":1,"value":{"format":7,"made_by":"calvin 9.1.0"}}"#;
    let this = put_version(&store, newer);
    // Agents go on and write their own logs. The lock names who took it last; all else is what
    // the newer version left.
    let coordinators = || {
        let mut content = content(&data);
        let lock = data.join("lock");
        content.retain(|path, _| !path.starts_with(data.join("machines")) && *path != lock);
        content
    };
    let before = coordinators();
    let machines = environment.processes("web", "init");

    let (code, log) = refused(&environment, environment.serve()).await;
    assert_eq!(code, FAILED, "{log}");
    assert!(
        log.contains("was made by calvin 9.1.0 in format 7"),
        "{log}"
    );
    assert!(log.contains("start that version or a newer one"), "{log}");
    let after = coordinators();
    for (path, bytes) in &before {
        assert!(
            after.get(path) == Some(bytes),
            "{} was changed",
            path.display()
        );
    }
    assert_eq!(
        after.keys().collect::<Vec<_>>(),
        before.keys().collect::<Vec<_>>()
    );
    assert_eq!(environment.processes("web", "init"), machines);

    // The version that made it goes on with it.
    put_version(&store, &this);
    environment.start_coordinator().await;
    environment.until_whole("web", 2).await;
    assert_eq!(environment.processes("web", "init"), machines);
}
