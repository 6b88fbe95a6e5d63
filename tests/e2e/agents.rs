//! Agents that die or stand still while their workloads live: nobody is deleted, nobody notices.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use crate::support::{Environment, files::Fleet, processes, waiting::until};

/// For how long the agents are away: longer than reports and sessions stay fresh, shorter than
/// `silent_after` and `unmanaged_after` of the fleets.
const AWAY: Duration = Duration::from_secs(12);

async fn machines_and_workloads_stay(environment: &Environment, during: impl AsyncFnOnce()) {
    let machines = environment.processes("web", "init");
    let workloads = environment.processes("web", "workload");
    assert_eq!((machines.len(), workloads.len()), (5, 5));
    during().await;
    assert_eq!(
        environment.processes("web", "init"),
        machines,
        "a machine was deleted"
    );
    assert_eq!(
        environment.processes("web", "workload"),
        workloads,
        "a workload was touched"
    );
    let history = environment.operator.history("web").await;
    let gone = [
        "instance_failed",
        "instance_draining",
        "instance_retiring",
        "instance_gone",
    ];
    let deleted: Vec<_> = history
        .iter()
        .filter(|line| gone.contains(&line.kind.as_str()))
        .collect();
    assert!(deleted.is_empty(), "{deleted:?}");
    environment.until_whole("web", 5).await;
    environment.assert_nothing_failed().await;
}

#[tokio::test]
async fn all_agents_of_a_fleet_killed_again_and_again_cost_no_request_and_no_machine() {
    let environment = Environment::start().await;
    environment.bring_up_web_with_traffic().await;
    machines_and_workloads_stay(&environment, async || {
        let start = Instant::now();
        while start.elapsed() < AWAY {
            for pid in environment.processes("web", "run").into_values() {
                processes::signal(pid, Signal::SIGKILL);
            }
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn all_agents_of_a_fleet_standing_still_cost_no_request_and_no_machine() {
    let environment = Environment::start().await;
    environment.bring_up_web_with_traffic().await;
    machines_and_workloads_stay(&environment, async || {
        let agents = environment.processes("web", "run");
        assert_eq!(agents.len(), 5);
        for pid in agents.values() {
            processes::signal(*pid, Signal::SIGSTOP);
        }
        sleep(AWAY).await;
        for pid in agents.values() {
            processes::signal(*pid, Signal::SIGCONT);
        }
    })
    .await;
}

#[tokio::test]
async fn one_agent_killed_comes_back_and_finds_its_workload() {
    let environment = Environment::start().await;
    environment.bring_up_web_with_traffic().await;
    machines_and_workloads_stay(&environment, async || {
        let agents = environment.processes("web", "run");
        let (instance, pid) = agents.iter().next().unwrap();
        processes::signal(*pid, Signal::SIGKILL);
        until("another agent", async || {
            let now = environment.processes("web", "run");
            match now.get(instance) {
                Some(other) if other != pid => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn the_clients_own_agent_killed_loses_no_look_up() {
    let environment = Environment::start().await;
    environment.bring_up_web_with_traffic().await;
    let before = environment.counted().await;
    for _ in 0..5 {
        for pid in environment.processes("client", "run").into_values() {
            processes::signal(pid, Signal::SIGKILL);
        }
        // Names live for a second: each of these kills meets a look-up.
        sleep(Duration::from_millis(1_100)).await;
    }
    let after = environment.counted().await;
    assert!(after.lookups > before.lookups, "{before:?} {after:?}");
    environment.assert_nothing_failed().await;
}

#[tokio::test]
async fn a_machine_killed_with_all_below_it_is_replaced_and_the_others_are_left_alone() {
    let environment = Environment::start().await;
    environment.bring_up_web_with_traffic().await;
    let before = environment.processes("web", "workload");
    let victim = before.keys().next().unwrap().clone();
    for process in processes::list(environment.home()) {
        if process.instance.as_ref() == Some(&victim) && process.command == "init" {
            processes::signal(process.pid, Signal::SIGKILL);
        }
    }
    for process in processes::list(environment.home()) {
        if process.instance.as_ref() == Some(&victim) {
            processes::signal(process.pid, Signal::SIGKILL);
        }
    }
    environment
        .until_fleet("web", "the machine to be replaced", |fleet| {
            fleet.serving == 5
                && fleet.instances.len() == 5
                && fleet.instances.iter().all(|one| one.id != victim)
        })
        .await;
    let after = environment.processes("web", "workload");
    for (instance, pid) in before.iter().filter(|(instance, _)| **instance != victim) {
        assert_eq!(after.get(instance), Some(pid), "{instance} was touched");
    }
}

#[tokio::test]
async fn a_workload_that_ends_by_itself_is_started_again() {
    let environment = Environment::start().await;
    environment.add_web_images(&[("1.0", "")]).await;
    environment.bring_up(&Fleet::new("web", "web@1.0", 1)).await;
    let (instance, first) = environment
        .processes("web", "workload")
        .into_iter()
        .next()
        .unwrap();
    processes::signal(first, Signal::SIGKILL);
    until("another workload", async || {
        let now = environment.processes("web", "workload");
        match now.get(&instance) {
            Some(other) if *other != first => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    environment.until_whole("web", 1).await;
    assert!(
        environment.processes("web", "init").contains_key(&instance),
        "the machine was replaced"
    );
}

#[tokio::test]
async fn agents_killed_while_they_enrol_enrol_in_the_end_and_raise_no_alarm() {
    let environment = Environment::start().await;
    environment.add_web_images(&[("1.0", "")]).await;
    let fleet = Fleet {
        healthy_deadline: "30s",
        ..Fleet::new("web", "web@1.0", 3)
    };
    environment.operator.apply(&fleet.toml()).await.unwrap();
    // Kills come at every moment of the first second of each agent.
    let start = Instant::now();
    let mut kills = 0_u32;
    while start.elapsed() < Duration::from_secs(4) || kills < 4 {
        for pid in environment.processes("web", "run").into_values() {
            processes::signal(pid, Signal::SIGKILL);
            kills += 1;
        }
        sleep(Duration::from_millis(u64::from(kills * 7 % 90))).await;
    }
    assert!(kills > 3, "{kills} agents were killed");
    let instances = environment.until_whole("web", 3).await;
    let alarms: Vec<_> = instances
        .iter()
        .filter(|one| !one.alarm.is_empty())
        .collect();
    assert!(alarms.is_empty(), "{alarms:?}");
}

#[tokio::test]
async fn an_instance_without_an_agent_serves_until_its_replacement_does() {
    let environment = Environment::start().await;
    environment.add_web_images(&[("1.0", "")]).await;
    let fleet = Fleet {
        unmanaged_after: "4s",
        silent_after: "10m",
        ..Fleet::new("web", "web@1.0", 3)
    };
    environment.bring_up(&fleet).await;
    environment.bring_up_client().await;
    let before = environment.processes("web", "workload");
    let (victim, agent) = environment
        .processes("web", "run")
        .into_iter()
        .next()
        .unwrap();
    processes::signal(agent, Signal::SIGSTOP);
    environment
        .until_fleet("web", "the instance to be replaced", |fleet| {
            fleet.serving == 3
                && fleet.instances.len() == 3
                && fleet.instances.iter().all(|one| one.id != victim)
        })
        .await;
    let after = environment.processes("web", "workload");
    for (instance, pid) in before.iter().filter(|(instance, _)| **instance != victim) {
        assert_eq!(after.get(instance), Some(pid), "{instance} was touched");
    }
    environment.assert_nothing_failed().await;
}
