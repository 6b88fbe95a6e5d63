//! Two machines of one exclusive fleet, with the real agents, runners and Consul clients: one works at a
//! time. What each does at work it writes to one file, with the fence that it works with, so that who
//! worked after another had begun shows in it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use calvin_consul::{
    Client, Consistency,
    exclusive::{LEASE, LOCK_DELAY, TTL, lock_key},
    kv::Entry,
};
use calvin_proto::wire;
use rustix::process::Signal;

use super::machine::{Kit, MANAGEMENT, Machine, consul_program, field};
use crate::support::{Datacenter, until};

const BLUE: &str = "web-blueblue";
const GREEN: &str = "web-greengrn";

/// What two machines do, and the file that they write to.
struct Pair {
    blue: Machine,
    green: Machine,
    work: Work,
    consul: Client,
    _directory: tempfile::TempDir,
    _datacenter: Datacenter,
}

struct Work(PathBuf);

/// One line: who worked with which fence.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Done {
    instance: String,
    fence: u64,
}

impl Work {
    /// All that was done, oldest first.
    fn all(&self) -> Vec<Done> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        // The last line may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let done = |line: &str| {
            let (instance, fence) = line.split_once(' ').unwrap();
            let (instance, fence) = (instance.to_owned(), fence.parse().unwrap());
            Done { instance, fence }
        };
        whole.lines().map(done).collect()
    }

    /// Waits until the next thing is done, and says by whom.
    async fn next(&self) -> Done {
        let before = self.all().len();
        until("work is done", async || {
            self.all().get(before).cloned().ok_or(before)
        })
        .await
    }

    /// Waits until this one is at work.
    async fn is_done_by(&self, instance: &str) -> Done {
        until(&format!("{instance} works"), async || {
            let last = self.all().pop();
            let found = last.clone().filter(|done| done.instance == instance);
            found.ok_or(last)
        })
        .await
    }

    /// Waits until nobody is at work for a while.
    async fn rests(&self) {
        until("nobody works", async || {
            let before = self.all().len();
            tokio::time::sleep(Duration::from_millis(500)).await;
            let more = self.all().len() - before;
            if more == 0 { Ok(()) } else { Err(more) }
        })
        .await;
    }

    /// Nobody worked once somebody else had begun: fences only grow, and each is of one instance.
    fn was_never_done_by_two(&self) {
        let all = self.all();
        for pair in all.windows(2) {
            let [before, after] = pair else { continue };
            let same = before.instance == after.instance;
            assert!(before.fence <= after.fence, "{before:?}, then {after:?}");
            assert!(same || before.fence < after.fence, "{before:?}, {after:?}");
        }
    }
}

/// Work that does not stop for SIGTERM, and each of whose steps is one line.
fn image(work: &Path) -> String {
    let script = format!(
        "trap \\\"\\\" TERM; while :; do echo $CALVIN_INSTANCE $CALVIN_FENCE >> {}; sleep 0.02; done",
        work.display()
    );
    format!(
        "name = \"web\"\nversion = \"1.0\"\n[workload]\ncommand = [\"sh\", \"-c\", \"{script}\"]\n\
         work = \"on_active\"\nstop_timeout = \"1s\"\n[consul]\nprogram = \"{}\"\n[[service]]\n\
         name = \"web\"\nport = 8080\n",
        consul_program()
    )
}

impl Pair {
    async fn start(number: u8) -> Self {
        let datacenter = field().await;
        let directory = tempfile::tempdir().unwrap();
        let work = directory.path().join("work");
        let kit = |number, instance| Kit {
            number,
            instance,
            image: image(&work),
            exclusive: true,
        };
        let blue = Machine::start_kit(&datacenter, kit(number, BLUE)).await;
        let green = Machine::start_kit(&datacenter, kit(number + 1, GREEN)).await;
        for machine in [&blue, &green] {
            machine.register(wire::CatalogueRole::Standby).await;
        }
        Self {
            blue,
            green,
            work: Work(work),
            consul: datacenter.client(&datacenter.servers[0], Some(MANAGEMENT)),
            _directory: directory,
            _datacenter: datacenter,
        }
    }

    async fn lock(&self) -> Entry {
        let key = lock_key(&"build".parse().unwrap(), &"web".parse().unwrap()).unwrap();
        let read = self.consul.kv_get(&key, Consistency::Consistent).await;
        read.unwrap().value.unwrap()
    }
}

/// Waits until it says that it waits for the lock, which this one holds.
async fn waits(machine: &mut Machine, holder: &str) {
    let words = format!("waits for the lock of fleet web, which {holder} holds");
    let report = machine
        .hear(|report| {
            let consul = report.consul.as_ref();
            consul.is_some_and(|consul| consul.fault.contains(&words))
        })
        .await;
    assert_ne!(report.workload(), wire::WorkloadState::Running);
    let explained = machine.explain();
    assert!(explained.contains(&words), "{explained}");
}

#[tokio::test]
async fn an_exclusive_fleet_hands_its_lock_on_over_a_restart_a_switch_and_a_stop() {
    let mut pair = Pair::start(11).await;
    let work = &pair.work;
    pair.blue.want(wire::Role::Active).await;
    let first = work.is_done_by(BLUE).await;
    let lock = pair.lock().await;
    assert_eq!(
        (lock.lock_index, lock.value.as_slice()),
        (first.fence, BLUE.as_bytes())
    );
    let status = pair.blue.status();
    assert!(status.contains("held, fence 1"), "{status}");

    // A new agent goes on with the session, and what runs does not see it.
    let before = until("the work is recorded", async || {
        let record = pair.blue.record();
        if record.workload.is_some() {
            Ok(record)
        } else {
            Err(())
        }
    })
    .await;
    before.agent.unwrap().signal(Signal::KILL).unwrap();
    pair.blue.hear_again().await;
    tokio::time::sleep(LEASE + Duration::from_secs(2)).await;
    assert_eq!(work.next().await, first);
    assert_eq!(pair.blue.record().workload, before.workload);
    assert_eq!(pair.lock().await.session, lock.session);

    pair.green.want(wire::Role::Active).await;
    waits(&mut pair.green, BLUE).await;
    assert_eq!(work.next().await, first);

    // What ignores its stop signal works on until it is killed, and then only is the lock given back.
    pair.blue.want(wire::Role::Standby).await;
    let next = work.is_done_by(GREEN).await;
    assert_eq!(next.fence, 2);
    pair.blue
        .hear(|report| report.role_applied() == wire::Role::Standby)
        .await;

    // The machine is stopped in order: nobody waits for the session's end.
    pair.blue.want(wire::Role::Active).await;
    waits(&mut pair.blue, GREEN).await;
    let began = Instant::now();
    pair.green.stop().await;
    let next = pair.work.is_done_by(BLUE).await;
    eprintln!("handed on {:?} after a stop began", began.elapsed());
    // It was given back: what is lost is kept from everybody for longer.
    assert!(began.elapsed() < LOCK_DELAY, "{:?}", began.elapsed());
    assert_eq!(next.fence, 3);
    pair.work.was_never_done_by_two();
}

#[tokio::test]
async fn an_exclusive_fleet_outlives_an_agent_that_stands_still_and_a_machine_that_is_gone() {
    let mut pair = Pair::start(13).await;
    pair.blue.want(wire::Role::Active).await;
    pair.work.is_done_by(BLUE).await;
    pair.green.want(wire::Role::Active).await;
    waits(&mut pair.green, BLUE).await;

    // Nobody renews, and the runner ends what nobody else would.
    let agent = pair.blue.record().agent.unwrap();
    let began = Instant::now();
    agent.signal(Signal::STOP).unwrap();
    pair.work.rests().await;
    eprintln!("rests {:?} after the agent stood still", began.elapsed());
    assert!(began.elapsed() < TTL + LOCK_DELAY, "{:?}", began.elapsed());
    let next = pair.work.is_done_by(GREEN).await;
    eprintln!("goes on {:?} after the agent stood still", began.elapsed());
    assert_eq!(next.fence, 2);
    agent.signal(Signal::CONT).unwrap();
    pair.blue.hear_again().await;
    waits(&mut pair.blue, GREEN).await;

    let began = Instant::now();
    pair.green.cut();
    let next = pair.work.is_done_by(BLUE).await;
    eprintln!("goes on {:?} after the power failed", began.elapsed());
    assert_eq!(next.fence, 3);
    until("the runner's record of it", async || {
        pair.blue.record().workload.map(drop).ok_or(())
    })
    .await;
    pair.work.was_never_done_by_two();
}

#[tokio::test]
async fn exclusive_work_stops_while_consul_is_silent_and_goes_on_when_it_speaks() {
    let pair = Pair::start(15).await;
    let mut blue = pair.blue;
    blue.want(wire::Role::Active).await;
    let first = pair.work.is_done_by(BLUE).await;
    // Its own client says nothing for longer than a lease, and for less than the session lives.
    let client = blue.client_process();
    client.signal(Signal::STOP).unwrap();
    let began = Instant::now();
    pair.work.rests().await;
    eprintln!("rests {:?} after Consul fell silent", began.elapsed());
    let report = blue.hear(|report| !report.failing.is_empty()).await;
    assert!(report.failing[0].contains("lease"), "{:?}", report.failing);
    client.signal(Signal::CONT).unwrap();
    let next = pair.work.next().await;
    // The session may have lived on, or not: the lock is its own all the same.
    assert_eq!(next.instance, first.instance);
    assert!(next.fence >= first.fence);
    pair.work.was_never_done_by_two();
    drop(pair.green);
}

#[tokio::test]
async fn exclusive_work_goes_on_over_a_restart_of_an_agent_whose_session_is_not_on_disk() {
    let mut pair = Pair::start(17).await;
    // What is no file cannot be replaced by one, nor read.
    let kept = pair.blue.files.state().join("lock.json");
    fs::create_dir(&kept).unwrap();
    pair.blue.want(wire::Role::Active).await;
    let first = pair.work.is_done_by(BLUE).await;
    let says = |report: &wire::Report| {
        let consul = report.consul.as_ref();
        consul.is_some_and(|consul| consul.fault.contains("is not on disk"))
    };
    pair.blue.hear(says).await;
    let lock = pair.lock().await;
    let before = until("the work is recorded", async || {
        let record = pair.blue.record();
        record.workload.ok_or(())
    })
    .await;

    pair.blue.kill_agent().await;
    pair.blue.hear_again().await;
    tokio::time::sleep(LEASE + Duration::from_secs(2)).await;
    assert_eq!(pair.work.next().await, first);
    assert_eq!(pair.blue.record().workload, Some(before));
    assert_eq!(pair.lock().await.session, lock.session);
    pair.blue.hear(says).await;
    fs::remove_dir(&kept).unwrap();
    pair.blue.hear(|report| !says(report)).await;
    assert!(kept.is_file());

    // It is its own to give back.
    pair.green.want(wire::Role::Active).await;
    waits(&mut pair.green, BLUE).await;
    let began = Instant::now();
    pair.blue.want(wire::Role::Standby).await;
    let next = pair.work.is_done_by(GREEN).await;
    assert!(began.elapsed() < LOCK_DELAY, "{:?}", began.elapsed());
    assert_eq!(next.fence, 2);
    pair.work.was_never_done_by_two();
}
