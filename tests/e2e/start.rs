//! A coordinator that cannot start says why, names what is in its way, and touches nothing.

use std::{fs, net::TcpListener, process::Child};

use crate::support::{Environment, files::Fleet, waiting::until};

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
    let (_, log) = refused(&environment, environment.serve()).await;
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
    let (_, log) = refused(&environment, environment.serve()).await;
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
    let (_, log) = refused(&environment, environment.serve()).await;
    assert!(
        log.contains(environment.home().join("data").to_str().unwrap()),
        "{log}"
    );
}

#[tokio::test]
async fn a_store_that_is_no_store_is_refused_and_left_as_it_is() {
    let environment = Environment::prepare();
    let data = environment.home().join("data");
    fs::create_dir(&data).unwrap();
    let rubbish = b"this was a database once".repeat(200);
    fs::write(data.join("store.redb"), &rubbish).unwrap();
    let (_, log) = refused(&environment, environment.serve()).await;
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
    let (_, log) = refused(&environment, environment.serve()).await;
    assert!(log.contains("ca"), "{log}");
    // With the keys back, everything is as it was.
    drop(fs::remove_dir_all(&keys));
    fs::rename(&aside, &keys).unwrap();
    environment.start_coordinator().await;
    environment.until_whole("web", 1).await;
}
