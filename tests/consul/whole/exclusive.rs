//! An exclusive fleet whose active machine, or only its agent, stands still for a while: another one
//! takes over, and never are two at work.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use calvin_consul::{
    Client, Consistency,
    exclusive::{FENCE_VARIABLE, lock_key},
    health::{ServiceHealth, ServiceStatus},
    registered,
};
use calvin_proto::wire::FleetStatus;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use crate::{
    stage::{
        calvin::{
            files::{PORT, custom_image},
            processes::{self, Process, signal},
        },
        whole::Whole,
    },
    support::until,
};

/// The fleet, its image and its service.
const DB: &str = "db";
/// What its workload is told to do, and by which it is found among the processes of a machine.
const WORK: &str = "100000";
/// Between two looks at the catalogue.
const LOOK: Duration = Duration::from_millis(20);
/// A runner that goes on ends work whose lease is over at once.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

/// What stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Still {
    Machine,
    Agent,
}

fn image(whole: &Whole, version: &str) {
    let consul = std::env::var("CALVIN_TEST_CONSUL").expect("tests/run sets it");
    // Nobody listens at its port: the kernel would take connections also for one that stands still.
    let text = format!(
        r#"name = "{DB}"
version = "{version}"

[workload]
command = ["sleep", "{WORK}"]
work = "on_active"
stop_timeout = "2s"

[[service]]
name = "{DB}"
port = {PORT}

[[check]]
name = "ready"
exec = ["true"]
interval = "1s"
timeout = "5s"

[consul]
program = {consul:?}
"#
    );
    let folder = custom_image(whole.calvin.home(), DB, version, &text);
    whole.calvin(&["image", "add", folder.to_str().unwrap()]);
}

fn fleet_file() -> String {
    format!(
        r#"name = "{DB}"
image = "{DB}@1.0"
count = 1
kind = "exclusive"

[replace]
min_healthy = "8s"
healthy_deadline = "2m"
progress_deadline = "3m"
settle = "4s"
settle_max = "8s"
bake = "45s"

[drain]
timeout = "3s"

[repair]
silent_after = "1m"
"#
    )
}

async fn fleet(whole: &Whole) -> Option<FleetStatus> {
    whole.calvin.fleet(DB).await.ok()
}

/// Waits until the newest rollout is in one of these phases.
async fn until_phase(whole: &Whole, phases: &[&str]) {
    until(&format!("a phase of {phases:?}"), async || {
        let rollout = fleet(whole).await.and_then(|fleet| fleet.rollout);
        match rollout {
            Some(rollout) if phases.contains(&rollout.phase.as_str()) => Ok(()),
            other => Err(format!("{other:#?}")),
        }
    })
    .await;
}

fn is_active(one: &ServiceHealth) -> bool {
    one.service.tags.iter().any(|tag| tag == registered::ACTIVE)
}

/// Looks below which an observer has seen nothing.
const LOOKS_MIN: u64 = 100;

/// Looks from outside at whom clients find.
struct Observer {
    looks: Arc<Mutex<u64>>,
    /// Every answer with two that are active and pass their checks.
    two: Arc<Mutex<Vec<Vec<String>>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Observer {
    fn start(consul: Client) -> Self {
        let looks: Arc<Mutex<u64>> = Arc::default();
        let two: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
        let (count, note) = (Arc::clone(&looks), Arc::clone(&two));
        let task = tokio::spawn(async move {
            loop {
                let read = consul.service_health(DB, Consistency::Consistent).await;
                let found = match read {
                    Ok(read) => read.value.into_iter(),
                    // Without a leader for a moment.
                    Err(error) if error.is_transient() => continue,
                    Err(error) => panic!("{error:?}"),
                };
                let passing = |one: &ServiceHealth| one.status() == ServiceStatus::Passing;
                let active: Vec<String> = found
                    .filter(|one| is_active(one) && passing(one))
                    .map(|one| one.node.name)
                    .collect();
                if active.len() > 1 {
                    note.lock().unwrap().push(active);
                }
                *count.lock().unwrap() += 1;
                sleep(LOOK).await;
            }
        });
        Self { looks, two, task }
    }

    /// Waits until it has looked often enough to say anything.
    async fn until_it_has_looked(&self) {
        until("more looks", async || {
            let looks = *self.looks.lock().unwrap();
            if looks > LOOKS_MIN {
                Ok(())
            } else {
                Err(looks)
            }
        })
        .await;
    }

    fn assert_never_two(&self) {
        let two = self.two.lock().unwrap();
        assert!(two.is_empty(), "two are active: {two:?}");
        assert!(!self.task.is_finished(), "the observer has given up");
        let looks = *self.looks.lock().unwrap();
        assert!(looks > LOOKS_MIN, "only {looks} looks");
    }
}

/// The nodes that are active in the catalogue.
async fn active(whole: &Whole) -> Vec<String> {
    let found = whole.catalogue(DB).await.unwrap_or_default();
    let active = found.into_iter().filter(is_active);
    active.map(|one| one.node.name).collect()
}

/// The process of an instance that is at work, if there is one.
fn work(whole: &Whole, instance: &str) -> Option<i32> {
    let all = processes::of_fleet(whole.calvin.home(), DB, WORK);
    all.get(instance).copied()
}

/// The fencing number that work was given.
fn fence(pid: i32) -> u64 {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let text = String::from_utf8_lossy(&environment).into_owned();
    let mut words = text.split('\0');
    let value = words.find_map(|word| word.strip_prefix(FENCE_VARIABLE)?.strip_prefix('='));
    let value = value.unwrap_or_else(|| panic!("no {FENCE_VARIABLE} in {text:?}"));
    value.parse().unwrap()
}

/// Whether a process is there and not held still.
fn goes_on(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim().chars().next());
    !matches!(state, None | Some('T' | 'Z' | 'X'))
}

/// The processes of an instance that stand still, what would start others first.
fn held(whole: &Whole, instance: &str, still: Still) -> Vec<i32> {
    let all = processes::list(whole.calvin.home()).into_iter();
    let of = all.filter(|one| one.instance.as_deref() == Some(instance));
    let (first, rest): (Vec<Process>, Vec<Process>) = match still {
        Still::Machine => of.partition(|one| one.command == "init"),
        Still::Agent => (of.filter(|one| one.command == "run").collect(), Vec::new()),
    };
    let pids: Vec<i32> = first.into_iter().chain(rest).map(|one| one.pid).collect();
    assert!(!pids.is_empty(), "{instance} has no processes");
    pids
}

async fn another_takes_over(name: &str, still: Still) {
    let whole = Whole::start(name, 1).await;
    for version in ["1.0", "2.0"] {
        image(&whole, version);
    }
    let file = whole.calvin.home().join("db.toml");
    fs::write(&file, fleet_file()).unwrap();
    whole.calvin(&["fleet", "apply", file.to_str().unwrap()]);
    until_phase(&whole, &["done"]).await;
    let blue = active(&whole).await.remove(0);
    let old = work(&whole, &blue).expect("blue is at work");
    let first = fence(old);
    let observer = Observer::start(whole.management());

    let image = format!("{DB}@2.0");
    whole.calvin(&["rollout", "start", DB, &image, "--detach", "--yes"]);
    until_phase(&whole, &["soaking"]).await;
    let pids = held(&whole, &blue, still);
    for pid in &pids {
        signal(*pid, Signal::SIGSTOP);
    }

    // Green begins only when blue does not go on, and with a higher number.
    let (green, new) = until("green at work", async || {
        let all = processes::of_fleet(whole.calvin.home(), DB, WORK);
        let other = all.into_iter().find(|(instance, _)| *instance != blue);
        match other {
            Some(found) => Ok(found),
            None => Err(format!("{:#?}", fleet(&whole).await)),
        }
    })
    .await;
    assert!(!goes_on(old), "{blue} and {green} are at work");
    if still == Still::Agent {
        assert_eq!(work(&whole, &blue), None, "its runner did not end it");
    }
    let second = fence(new);
    assert!(second > first, "{second} after {first}");
    until("green to be active", async || {
        let active = active(&whole).await;
        if active == [green.clone()] {
            Ok(())
        } else {
            Err(active)
        }
    })
    .await;

    // Blue goes on, and finds that it is none of its business any more.
    for pid in &pids {
        signal(*pid, Signal::SIGCONT);
    }
    let continued = Instant::now();
    until("blue's work to be ended", async || {
        match work(&whole, &blue) {
            None => Ok(()),
            Some(pid) => Err(pid),
        }
    })
    .await;
    assert!(
        continued.elapsed() < ENDS_WITHIN,
        "{:?}",
        continued.elapsed()
    );
    until_phase(&whole, &["done"]).await;
    assert_eq!(active(&whole).await, [&*green]);
    assert_eq!(work(&whole, &green), Some(new), "green began anew");
    observer.assert_never_two();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_takes_over_from_a_machine_that_stands_still_and_never_are_two_at_work() {
    another_takes_over("still", Still::Machine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_takes_over_from_an_agent_that_stands_still_and_never_are_two_at_work() {
    another_takes_over("silent", Still::Agent).await;
}

/// Whoever worked before there was a lock takes it, and works with its number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_at_work_when_the_environment_moves_to_consul_takes_the_lock() {
    let mut whole = Whole::prepare_embedded("locked", 1).await;
    whole.calvin.start_coordinator().await;
    image(&whole, "1.0");
    let file = whole.calvin.home().join("db.toml");
    fs::write(&file, fleet_file()).unwrap();
    whole.calvin(&["fleet", "apply", file.to_str().unwrap()]);
    until_phase(&whole, &["done"]).await;
    let before = processes::of_fleet(whole.calvin.home(), DB, WORK);
    assert_eq!(before.len(), 1, "{before:?}");
    let (instance, old) = before.into_iter().next().unwrap();
    let lines = whole.calvin.operator.history(DB).await.len();

    whole.calvin.signal_coordinator(Signal::SIGTERM);
    whole.calvin.coordinator_ended().await;
    whole.configure_consul().await;
    whole.calvin.start_coordinator().await;
    let observer = Observer::start(whole.management());
    let key = lock_key(&"locked".parse().unwrap(), &DB.parse().unwrap()).unwrap();
    let lock = until("the lock to be held", async || {
        let consul = whole.management();
        let read = consul.kv_get(&key, Consistency::Consistent).await;
        let found = read.map_err(|error| format!("{error:?}"))?.value;
        let held = found.clone().filter(|entry| entry.session.is_some());
        held.ok_or_else(|| format!("{found:?}"))
    })
    .await;
    assert_eq!(lock.value, instance.as_bytes());
    until(
        "it to work with the number of the lock",
        async || match work(&whole, &instance).filter(|pid| *pid != old) {
            Some(pid) if fence(pid) == lock.lock_index => Ok(()),
            other => Err(format!("{other:?}, before {old}")),
        },
    )
    .await;
    until("it to be active and passing", async || {
        let found = whole.catalogue(DB).await?;
        let good = |one: &ServiceHealth| is_active(one) && one.status() == ServiceStatus::Passing;
        match &*found {
            [one] if one.node.name == instance && good(one) => Ok(()),
            other => Err(format!("{other:#?}")),
        }
    })
    .await;
    whole.calvin.until_whole(DB, 1).await;
    let history = whole.calvin.operator.history(DB).await;
    let kinds: Vec<&str> = history[lines..].iter().map(|line| &*line.kind).collect();
    for kind in ["instance_intended", "instance_retiring"] {
        assert!(!kinds.contains(&kind), "{kinds:?}");
    }
    observer.until_it_has_looked().await;
    observer.assert_never_two();
}
