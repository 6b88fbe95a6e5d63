//! What workloads do to their machine: a burst of output, a slow end, children, connections that
//! last.

use std::{fs, time::Duration};

use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::support::{
    Environment,
    files::{self, Fleet, PORT},
    operator::fleet_request,
    processes,
    waiting::{LIMIT, until},
};

/// An image without services whose workload is a line of shell.
fn shell_image(environment: &Environment, name: &str, script: &str) -> std::path::PathBuf {
    let text = format!(
        "name = \"{name}\"\nversion = \"1.0\"\n\n[workload]\ncommand = [\"/bin/sh\", \"-c\", {script:?}]\n\
         stop_timeout = \"1s\"\n"
    );
    files::custom_image(environment.home(), name, "1.0", &text)
}

#[tokio::test]
async fn a_burst_of_output_while_the_agent_is_killed_stalls_nobody_and_loses_no_line() {
    let environment = Environment::start().await;
    // 40,000 numbered lines, as fast as the shell can: more than any pipe holds.
    let script = "i=0; while [ $i -lt 40000 ]; do echo line $i; i=$((i+1)); done; echo the end; exec sleep 1000";
    environment
        .add_image(shell_image(&environment, "burst", script))
        .await;
    let fleet = Fleet::new("burst", "burst@1.0", 1);
    environment.operator.apply(&fleet.toml()).await.unwrap();
    let console = |instance: &str| {
        let folder = environment.home().join("data/machines").join(instance);
        let read = |file| fs::read(folder.join(file)).unwrap_or_default();
        let bytes = [read("console.log.1"), read("console.log")].concat();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let instance = until("the burst to end", async || {
        for pid in environment.processes("burst", "run").into_values() {
            processes::signal(pid, Signal::SIGKILL);
        }
        let found = environment.processes("burst", "init").into_keys().next();
        let instance = found.ok_or("no machine yet".to_owned())?;
        let text = console(&instance);
        if text.contains("the end") {
            Ok(instance)
        } else {
            Err(text.lines().last().unwrap_or("nothing").to_owned())
        }
    })
    .await;
    let text = console(&instance);
    let lines: Vec<_> = text
        .lines()
        .filter_map(|line| line.split("line ").nth(1))
        .collect();
    let numbers: Vec<u32> = lines.iter().filter_map(|line| line.parse().ok()).collect();
    assert!(numbers.len() > 1_000, "{} lines", numbers.len());
    // The file is bounded, so the oldest may be gone; what is there is without a gap.
    for pair in numbers.windows(2) {
        assert_eq!(pair[1], pair[0] + 1, "a gap after line {}", pair[0]);
    }
    assert_eq!(numbers.last(), Some(&39_999));
}

#[tokio::test]
async fn a_workload_that_does_not_stay_up_fails_its_rollout_with_the_reason() {
    let environment = Environment::start().await;
    // Paused for long after its first end, so that the deadline finds it so.
    for (name, command) in [
        ("missing", r#"["/no/such/program"]"#),
        ("brief", r#"["/bin/sh", "-c", "exit 3"]"#),
    ] {
        let text = format!(
            "name = \"{name}\"\nversion = \"1.0\"\n\n[workload]\ncommand = {command}\n\
             restart_min = \"30s\"\n"
        );
        let image = files::custom_image(environment.home(), name, "1.0", &text);
        environment.add_image(image).await;
    }
    for (name, reason) in [
        ("missing", "could not start /no/such/program: No such file"),
        ("brief", "it ended by itself with exit code 3"),
    ] {
        let fleet = Fleet {
            healthy_deadline: "2s",
            ..Fleet::new(name, &format!("{name}@1.0"), 1)
        };
        environment.operator.apply(&fleet.toml()).await.unwrap();
        let ended = environment.until_ended(name).await;
        assert_eq!(ended.phase, "failed", "{ended:?}");
        assert!(ended.reason.contains(reason), "{}", ended.reason);
    }
}

#[tokio::test]
async fn a_workload_that_will_not_stop_is_killed_with_its_children() {
    let environment = Environment::start().await;
    let script = "trap '' TERM; sleep 98765 & while true; do sleep 1; done";
    environment
        .add_image(shell_image(&environment, "stubborn", script))
        .await;
    environment
        .bring_up(&Fleet {
            bake: "0s",
            ..Fleet::new("stubborn", "stubborn@1.0", 1)
        })
        .await;
    let delete = crate::support::operator::fleet_request("stubborn");
    environment
        .operator
        .client
        .clone()
        .delete_fleet(delete)
        .await
        .unwrap();
    until("the machine and all below it to be gone", async || {
        let left: Vec<_> = processes::list(environment.home())
            .into_iter()
            .filter(|process| process.instance.is_some())
            .collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_never_looks_up_again_is_served_until_blue_is_drained() {
    let environment = Environment::start().await;
    environment
        .add_web_images(&[("1.0", ""), ("2.0", "")])
        .await;
    environment.bring_up(&Fleet::new("web", "web@1.0", 1)).await;
    let blue = environment.until_whole("web", 1).await.remove(0);
    let address = format!("{}:{PORT}", blue.address);
    environment.operator.start("web", "web@2.0").await.unwrap();
    let mut baked = false;
    loop {
        let status = environment.fleet("web").await.unwrap();
        let rollout = status.rollout.unwrap();
        if matches!(rollout.phase.as_str(), "draining" | "retiring" | "done") {
            break;
        }
        assert!(!rollout.ended, "{rollout:?}");
        baked |= rollout.phase == "baking";
        // It holds the address for ever: blue, on standby, must serve it all the same. The answer
        // counts only if the rollout is still before the drain after it.
        let page = timeout(LIMIT, ask(&address)).await.unwrap();
        let after = environment.fleet("web").await.unwrap().rollout.unwrap();
        if matches!(after.phase.as_str(), "draining" | "retiring" | "done") {
            break;
        }
        assert!(
            page.is_some_and(|page| page.contains("1.0")),
            "in phase {}",
            rollout.phase
        );
        sleep(Duration::from_millis(50)).await;
    }
    assert!(baked, "the rollout never baked");
    assert_eq!(environment.until_ended("web").await.phase, "done");
}

async fn ask(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(answer)
}

#[tokio::test]
async fn a_connection_that_lasts_is_listed_by_its_address_while_blue_drains() {
    let environment = Environment::start().await;
    environment
        .add_web_images(&[("1.0", ""), ("2.0", "")])
        .await;
    let fleet = Fleet {
        bake: "500ms",
        drain: "6s",
        ..Fleet::new("web", "web@1.0", 1)
    };
    environment.bring_up(&fleet).await;
    let blue = environment.until_whole("web", 1).await.remove(0);
    let lasting = TcpStream::connect((blue.address.as_str(), PORT))
        .await
        .unwrap();
    let own = lasting.local_addr().unwrap().to_string();
    environment.operator.start("web", "web@2.0").await.unwrap();
    environment
        .until_fleet("web", &format!("{own} to be listed at drain"), |fleet| {
            let draining = fleet
                .rollout
                .as_ref()
                .is_some_and(|it| it.phase == "draining");
            let reports = fleet.instances.iter().filter_map(|one| one.report.as_ref());
            let mut peers = reports.filter_map(|report| report.connections.as_ref());
            draining && peers.any(|seen| seen.peers.contains(&own))
        })
        .await;
    drop(lasting);
    assert_eq!(environment.until_ended("web").await.phase, "done");
}

#[tokio::test]
async fn the_last_output_of_an_instance_that_is_gone_can_be_read_and_of_one_that_never_was_not() {
    let environment = Environment::start().await;
    let script = "echo my last words; exec sleep 1000";
    let folder = shell_image(&environment, "brief", script);
    let image = environment.operator.add_image(folder).await.unwrap();
    assert!(!image.added_by.is_empty(), "{image:?}");
    let fleet = Fleet::new("brief", "brief@1.0", 1);
    environment.operator.apply(&fleet.toml()).await.unwrap();
    let instance = until("the workload to speak", async || {
        let found = environment.processes("brief", "init").into_keys().next();
        let instance = found.ok_or("no machine yet")?;
        let console = environment.calvin(&["instance", "console", &instance]);
        let said = String::from_utf8_lossy(&console.stdout).contains("last words");
        said.then_some(instance).ok_or("nothing said yet")
    })
    .await;
    let mut client = environment.operator.client.clone();
    client.delete_fleet(fleet_request("brief")).await.unwrap();
    let machines = environment.home().join("data/machines");
    until("the machine to be gone", async || {
        let stands = machines.join(&instance).exists();
        (!stands).then_some(()).ok_or("it stands")
    })
    .await;

    let console = environment.calvin(&["instance", "console", &instance]);
    assert!(console.status.success(), "{console:?}");
    assert_eq!(console.stdout, b"my last words\n");
    let never = environment.calvin(&["instance", "console", "brief-zzzzzzzz"]);
    assert!(!never.status.success());
    let error = String::from_utf8_lossy(&never.stderr);
    let kept = machines.join(".gone").display().to_string();
    assert!(error.contains("no machine brief-zzzzzzzz"), "{error}");
    assert!(error.contains(&kept), "{error}");
}
