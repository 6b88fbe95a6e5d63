//! Exclusive fleets and quorums of real processes: never two at work, one member at a time.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use nix::sys::signal::Signal;
use tokio::time::sleep;

use crate::support::{
    Environment,
    files::{self, Fleet},
    operator::rollout_request,
    processes,
    waiting::until,
};

/// A workload that works: it holds a lock that only one can, and says so if another has it. A child
/// that is deaf holds it too: the work has stopped when nobody of it is left.
const WORKER: &str = r#"
exec 9>>"$SHARED/lock"
if ! flock -n 9; then echo "$CALVIN_INSTANCE" >>"$SHARED/twice"; sleep 1; exit 1; fi
echo "begins $CALVIN_INSTANCE" >>"$SHARED/log"
(trap '' TERM; while :; do sleep 0.05; done) &
trap 'echo "ends $CALVIN_INSTANCE" >>"$SHARED/log"; exit 0' TERM
while :; do sleep 0.1; done
"#;

/// A workload that votes: its file in the shared folder is fresh while it lives, and gone when it
/// left. The one that joined first leads.
const VOTER: &str = r#"
me="$SHARED/members/$(date +%s%N)-$CALVIN_INSTANCE"
touch "$me"
trap 'rm -f "$me"; exit 0' TERM
while :; do touch "$me"; sleep 0.2; done
"#;

/// What a voter knows of the others.
const VOTES: &str = r#"
[ -e "$SHARED/fails/$CALVIN_INSTANCE" ] && { echo "no leader is known"; exit 1; }
cd "$SHARED/members" || exit 1
known=$(ls | wc -l)
echo "voters=$(find . -type f -newermt '3 seconds ago' | wc -l)"
echo "needed=$((known / 2 + 1))"
case "$(ls | sort | head -n 1)" in *-"$CALVIN_INSTANCE") echo leader=true ;; *) echo leader=false ;; esac
if ls | grep -q -e "-$CALVIN_INSTANCE\$"; then echo caught_up=true; else echo caught_up=false; fi
"#;

/// An image without services, of this kind of workload.
async fn add(environment: &Environment, name: &str, version: &str, work: &str, script: &str) {
    let shared = environment.home().join("shared");
    for folder in ["members", "fails"] {
        fs::create_dir_all(shared.join(folder)).unwrap();
    }
    let command = |script: &str| format!("SHARED={shared:?}\n{script}");
    let text = format!(
        "name = \"{name}\"\nversion = \"{version}\"\n\n[workload]\nwork = \"{work}\"\n\
         command = [\"/bin/sh\", \"-c\", {:?}]\nstop_timeout = \"5s\"\n\n\
         [quorum]\nexec = [\"/bin/sh\", \"-c\", {:?}]\ninterval = \"500ms\"\ntimeout = \"5s\"\n",
        command(script),
        command(VOTES),
    );
    let folder = files::custom_image(environment.home(), name, version, &text);
    environment.add_image(folder).await;
}

async fn bring_up(environment: &Environment, kind: &str, fleet: &Fleet) {
    let text = format!("kind = \"{kind}\"\n{}", fleet.toml());
    environment.operator.apply(&text).await.unwrap();
    let ended = environment.until_ended(&fleet.name).await;
    assert_eq!(ended.phase, "done", "{ended:?}");
}

async fn worker(bake: &'static str) -> Environment {
    let environment = Environment::start().await;
    for version in ["1.0", "2.0"] {
        add(&environment, "worker", version, "on_active", WORKER).await;
    }
    let fleet = Fleet {
        bake,
        ..Fleet::new("worker", "worker@1.0", 1)
    };
    bring_up(&environment, "exclusive", &fleet).await;
    environment
}

fn shared(environment: &Environment, file: &str) -> String {
    fs::read_to_string(environment.home().join("shared").join(file)).unwrap_or_default()
}

/// Fails unless work began and ended in turn, and nobody ever found another at it.
fn assert_never_twice(environment: &Environment) {
    assert_eq!(shared(environment, "twice"), "", "two were at work");
    let log = shared(environment, "log");
    let lines: Vec<&str> = log.lines().collect();
    for pair in lines.windows(2) {
        let turn = (pair[0].starts_with("begins"), pair[1].starts_with("ends"));
        assert_eq!(turn.0, turn.1, "{log}");
    }
}

async fn history(environment: &Environment, fleet: &str) -> String {
    let lines = environment.operator.history(fleet).await;
    let texts: Vec<String> = lines.into_iter().map(|line| line.text).collect();
    texts.join("\n")
}

#[tokio::test]
async fn never_two_of_an_exclusive_fleet_are_at_work_while_its_image_is_replaced() {
    let environment = worker("1s").await;
    environment
        .operator
        .start("worker", "worker@2.0")
        .await
        .unwrap();
    let ended = environment.until_ended("worker").await;
    assert_eq!(ended.phase, "done", "{ended:?}");
    let instances = environment.until_whole("worker", 1).await;
    assert_eq!(instances[0].image, "worker@2.0");
    assert_never_twice(&environment);
    let log = shared(&environment, "log");
    assert_eq!(log.lines().count(), 3, "{log}");
    let told = history(&environment, "worker").await;
    assert!(told.contains("its agent says so"), "{told}");
    let gap = told
        .lines()
        .find(|line| line.contains("nobody was active for"));
    println!("{}", gap.unwrap_or_else(|| panic!("{told}")));
    let measured = ended.gap.expect("it is measured");
    assert!(measured.over && measured.length_ms > 0, "{measured:?}");
}

#[tokio::test]
async fn never_two_are_at_work_while_an_exclusive_fleet_goes_back() {
    let environment = worker("60s").await;
    environment
        .operator
        .start("worker", "worker@2.0")
        .await
        .unwrap();
    environment.until_phase("worker", "baking").await;
    let back = environment.operator.client.clone();
    let back = { back }.rollback_rollout(rollout_request("worker")).await;
    back.unwrap();
    let ended = environment.until_ended("worker").await;
    assert_eq!(ended.phase, "rolled_back", "{ended:?}");
    let instances = environment.until_whole("worker", 1).await;
    assert_eq!(instances[0].image, "worker@1.0");
    assert_never_twice(&environment);
    let log = shared(&environment, "log");
    assert_eq!(log.lines().count(), 5, "{log}");
}

#[tokio::test]
async fn a_stopped_machine_that_may_be_at_work_is_waited_for() {
    let environment = worker("1s").await;
    let frozen: Vec<i32> = ["init", "run"]
        .into_iter()
        .flat_map(|kind| environment.processes("worker", kind).into_values())
        .collect();
    assert_eq!(frozen.len(), 2);
    for pid in &frozen {
        processes::signal(*pid, Signal::SIGSTOP);
    }
    environment
        .operator
        .start("worker", "worker@2.0")
        .await
        .unwrap();
    environment.until_phase("worker", "stopping").await;
    let held = environment
        .until_fleet("worker", "it to be held", |fleet| {
            let blocked = fleet.blocked.iter();
            let mut held = blocked.filter(|one| one.rule == "ExclusiveNeverTwice");
            held.any(|one| one.what.contains("power its machine off"))
        })
        .await;
    assert_eq!(held.rollout.unwrap().phase, "stopping");
    assert_eq!(shared(&environment, "log").lines().count(), 1);
    for pid in &frozen {
        processes::signal(*pid, Signal::SIGCONT);
    }
    let ended = environment.until_ended("worker").await;
    assert_eq!(ended.phase, "done", "{ended:?}");
    environment.until_whole("worker", 1).await;
    assert_never_twice(&environment);
}

fn members(home: &Path) -> BTreeSet<String> {
    let folder = fs::read_dir(home.join("shared/members")).unwrap();
    let names = folder.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[tokio::test]
async fn members_of_a_quorum_are_replaced_one_at_a_time_and_one_that_fails_holds_it() {
    let environment = Environment::start().await;
    for version in ["1.0", "2.0"] {
        add(&environment, "voter", version, "boot", VOTER).await;
    }
    let fleet = Fleet {
        bake: "500ms",
        settle: "0s",
        healthy_deadline: "20s",
        ..Fleet::new("voter", "voter@1.0", 3)
    };
    bring_up(&environment, "quorum", &fleet).await;
    let home = environment.home().to_owned();
    let olds = members(&home);
    assert_eq!(olds.len(), 3);
    // One follower says nothing any more: the other, which would be the first, may not leave.
    let followers = olds.iter().skip(1);
    let quiet = followers.map(|name| name.split_once('-').unwrap().1.to_owned());
    let quiet = quiet.max().unwrap();
    let fails = home.join("shared/fails").join(&quiet);
    fs::write(&fails, "").unwrap();
    sleep(Duration::from_secs(2)).await;
    environment
        .operator
        .start("voter", "voter@2.0")
        .await
        .unwrap();
    environment
        .until_fleet("voter", "it to be held", |fleet| {
            let blocked = fleet.blocked.iter();
            let mut held = blocked.filter(|one| one.rule == "QuorumOneAtATime");
            held.any(|one| one.fact.contains(&quiet) && one.fact.contains("how many voters"))
        })
        .await;
    assert_eq!(members(&home), olds);
    fs::remove_file(&fails).unwrap();
    let (mut fewest, mut most) = (3, 3);
    let mut left: Vec<String> = Vec::new();
    until("the rollout to end", async || {
        let now = members(&home);
        (fewest, most) = (now.len().min(fewest), now.len().max(most));
        for old in olds.difference(&now) {
            if !left.contains(old) {
                left.push(old.clone());
            }
        }
        let fleet = environment
            .fleet("voter")
            .await
            .map_err(|status| status.to_string())?;
        let rollout = fleet.rollout.clone().ok_or("no rollout")?;
        if rollout.ended && rollout.to == "voter@2.0" {
            Ok(())
        } else {
            Err(format!("{rollout:?} {:?}", fleet.blocked))
        }
    })
    .await;
    environment.until_whole("voter", 3).await;
    assert_eq!((fewest, most), (3, 4), "members at once");
    assert_eq!(left.len(), 3);
    assert_eq!(left.last(), olds.first(), "the leader leaves last");
}
