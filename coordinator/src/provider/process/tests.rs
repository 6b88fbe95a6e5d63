//! Tests with real directories, locks and processes; the machines' init is the real one.

mod support;

use std::{fs, process::Command};

use calvin_engine::ports::{CreateOrder, Provider};
use calvin_planner::{DeleteBasis, MachineState};
use calvin_proto::machine::{InitRecord, MachineFiles, MachineTag, processes::find};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use self::support::{Bench, DEADLINE, WORKLOAD, until};
use super::*;

#[test]
fn a_machine_is_made_once_and_found_again_by_a_new_coordinator() {
    let bench = Bench::new(1, 28);
    let mut provider = bench.open("build");
    let order = CreateOrder {
        zone: Some("rack-1".parse().unwrap()),
        ..bench.order("web-aaaaaaaa")
    };
    provider.create(&order);
    provider.create(&order);
    bench.until_state(&provider, "web-aaaaaaaa", Some(MachineState::Running));
    let before = provider.list();
    assert_eq!(before.machines.len(), 1);
    let record = bench.record("web-aaaaaaaa");
    let provision = fs::read_to_string(bench.files("web-aaaaaaaa").provision()).unwrap();
    let provision = calvin_model::Provision::parse("provision.toml", &provision).unwrap();
    assert_eq!(provision.address, before.machines[0].address);
    assert_eq!(provision.join_token, "token of web-aaaaaaaa");
    let tag = MachineTag::read(&bench.files("web-aaaaaaaa"))
        .unwrap()
        .unwrap();
    assert_eq!(tag.zone, order.zone);

    drop(provider);
    let mut provider = bench.open("build");
    assert_eq!(provider.list().machines, before.machines);
    provider.create(&order);
    let now = bench.record("web-aaaaaaaa");
    assert_eq!((now.init, &now.boot), (record.init, &record.boot));
    assert!(record.init.is_alive());
}

#[test]
fn deleting_ends_everything_and_keeps_the_last_output() {
    let bench = Bench::new(2, 28);
    let mut provider = bench.open("build");
    bench.make(&mut provider, "web-aaaaaaaa");
    let workload = bench.start_workload("web-aaaaaaaa", WORKLOAD);
    let files = bench.files("web-aaaaaaaa");
    let processes = find(files.root(), Some(&bench.record("web-aaaaaaaa")));
    assert!(
        processes.contains(&workload) && processes.len() >= 3,
        "{processes:?}"
    );

    let free = provider.room().unwrap().free;
    bench.delete(&mut provider, "web-aaaaaaaa");
    assert!(processes.iter().all(|process| !process.is_alive()));
    assert!(!files.root().exists());
    assert_eq!(provider.room().unwrap().free, free + 1);
    let instance = "web-aaaaaaaa".parse().unwrap();
    let kept = provider.console(&instance, 1000).unwrap().read(1000);
    let kept = kept.unwrap();
    assert!(String::from_utf8(kept).unwrap().contains("workload is up"));
    provider.delete(&instance, &DeleteBasis::Replaced);
    assert!(provider.list().machines.is_empty(), "again is harmless");
}

#[test]
fn deleting_ends_everything_when_init_and_agent_were_killed_before() {
    let bench = Bench::new(3, 28);
    let mut provider = bench.open("build");
    bench.make(&mut provider, "web-aaaaaaaa");
    let workload = bench.start_workload("web-aaaaaaaa", WORKLOAD);
    let files = bench.files("web-aaaaaaaa");
    let record = bench.record("web-aaaaaaaa");
    let below = find(files.root(), Some(&record));
    record.init.signal(Signal::KILL).unwrap();
    bench.until_state(&provider, "web-aaaaaaaa", Some(MachineState::Stopped));
    until("the agent ended with init", || {
        record.agent.is_none_or(|agent| !agent.is_alive())
    });
    assert!(workload.is_alive(), "nothing else ends the workload");

    bench.delete(&mut provider, "web-aaaaaaaa");
    assert!(below.iter().all(|process| !process.is_alive()));
}

#[test]
fn deleting_finds_strays_without_any_record() {
    let bench = Bench::new(4, 28);
    let mut provider = bench.open("build");
    bench.make(&mut provider, "web-aaaaaaaa");
    let workload = bench.start_workload("web-aaaaaaaa", WORKLOAD);
    let files = bench.files("web-aaaaaaaa");
    let init = bench.record("web-aaaaaaaa").init;
    fs::write(files.init_record(), "{").unwrap();
    bench.delete(&mut provider, "web-aaaaaaaa");
    assert!(!init.is_alive() && !workload.is_alive());
}

#[test]
fn a_machine_whose_delete_was_interrupted_is_deleted_when_asked_again() {
    let bench = Bench::new(5, 28);
    let mut provider = bench.open("build");
    bench.make(&mut provider, "web-aaaaaaaa");
    let record = bench.record("web-aaaaaaaa");
    drop(provider);
    record.init.signal(Signal::KILL).unwrap();
    until("init is gone", || !record.init.is_alive());
    // A crash after the last process was gone, and before its directory was.
    let files = bench.files("web-aaaaaaaa");
    fs::rename(
        files.root(),
        bench.machines().join(".deleting-web-aaaaaaaa"),
    )
    .unwrap();
    let provider = bench.open("build");
    assert!(provider.list().machines.is_empty());
    assert_eq!(bench.names(), Vec::<String>::new());
}

#[test]
fn what_is_half_made_is_cleaned_up_and_made_anew_when_asked_for() {
    let bench = Bench::new(6, 28);
    let order = bench.order("web-aaaaaaaa");
    let tag = bench.tag("build", "web-aaaaaaaa");
    // Before its directory was complete; before anything was in it; before its tag was written to
    // the end; before init was started.
    let making = bench.machines().join(".making-web-aaaaaaaa");
    fs::create_dir_all(&making).unwrap();
    tag.write(&MachineFiles::new(&making)).unwrap();
    fs::create_dir(bench.machines().join(".making-web-bbbbbbbb")).unwrap();
    let tagging = bench.machines().join(".making-web-dddddddd");
    fs::create_dir(&tagging).unwrap();
    fs::write(tagging.join("machine.json.new"), "{").unwrap();
    let complete = bench.machines().join("web-cccccccc");
    fs::create_dir(&complete).unwrap();
    bench
        .tag("build", "web-cccccccc")
        .write(&MachineFiles::new(&complete))
        .unwrap();

    let mut provider = bench.open("build");
    assert!(provider.list().machines.is_empty());
    assert_eq!(bench.names(), Vec::<String>::new());
    assert!(!tagging.exists());
    provider.create(&order);
    bench.until_state(&provider, "web-aaaaaaaa", Some(MachineState::Running));
}

#[test]
fn directories_of_other_environments_and_of_nobody_are_left_alone() {
    let bench = Bench::new(7, 28);
    let foreign = bench.machines().join("web-aaaaaaaa");
    fs::create_dir_all(&foreign).unwrap();
    bench
        .tag("other", "web-aaaaaaaa")
        .write(&MachineFiles::new(&foreign))
        .unwrap();
    let half = bench.machines().join(".making-web-bbbbbbbb");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("notes"), "mine").unwrap();
    let nobodys = bench.machines().join("web-cccccccc");
    fs::create_dir(&nobodys).unwrap();

    let mut provider = bench.open("build");
    assert!(provider.list().machines.is_empty());
    for instance in ["web-aaaaaaaa", "web-cccccccc"] {
        provider.delete(&instance.parse().unwrap(), &DeleteBasis::Ordered);
    }
    provider.create(&bench.order("web-aaaaaaaa"));
    let fault = bench.until_fault(&provider, "web-aaaaaaaa");
    assert!(fault.permanent, "{fault:?}");
    assert!(fault.message.contains("no machine of this environment"));
    bench.delete(&mut provider, "web-aaaaaaaa");
    provider.create(&bench.order("web-bbbbbbbb"));
    assert!(bench.until_fault(&provider, "web-bbbbbbbb").permanent);
    assert!(foreign.join("machine.json").exists());
    assert_eq!(fs::read_dir(&half).unwrap().count(), 1);
    assert!(half.join("notes").exists() && nobodys.exists());
}

#[test]
fn what_cannot_be_cleaned_up_does_not_keep_a_coordinator_from_its_other_machines() {
    let bench = Bench::new(2, 28);
    let mut provider = bench.open("build");
    bench.make(&mut provider, "web-aaaaaaaa");
    drop(provider);
    // Never started, and there is a directory of somebody else where it would be put aside.
    let stuck = bench.files("web-bbbbbbbb");
    fs::create_dir(stuck.root()).unwrap();
    bench.tag("build", "web-bbbbbbbb").write(&stuck).unwrap();
    let foreign = bench.machines().join(".deleting-web-bbbbbbbb");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("notes"), "mine").unwrap();

    let mut provider = bench.open("build");
    bench.until_state(&provider, "web-aaaaaaaa", Some(MachineState::Running));
    bench.until_state(&provider, "web-bbbbbbbb", Some(MachineState::Stopped));
    fs::remove_dir_all(&foreign).unwrap();
    bench.delete(&mut provider, "web-bbbbbbbb");
    assert!(!stuck.root().exists());
}

#[test]
fn a_console_that_is_no_file_does_not_keep_a_machine_from_being_deleted() {
    let bench = Bench::new(3, 28);
    let mut provider = bench.open("build");
    bench.make(&mut provider, "web-aaaaaaaa");
    let console = bench.files("web-aaaaaaaa").console();
    let made = Command::new("mkfifo").arg(&console).status().unwrap();
    assert!(made.success());
    let instance = "web-aaaaaaaa".parse().unwrap();
    assert!(provider.console(&instance, 1000).is_err());
    bench.delete(&mut provider, "web-aaaaaaaa");
}

#[test]
fn two_coordinators_with_one_network_never_share_an_address() {
    // Two addresses for machines, and two that want them.
    let (one, two) = (Bench::new(8, 30), Bench::new(8, 30));
    let mut first = one.open("build");
    let mut second = two.open_with_locks("test", &one.locks());
    one.make(&mut first, "web-aaaaaaaa");
    two.make(&mut second, "web-aaaaaaaa");
    let address = |provider: &ProcessProvider| provider.list().machines[0].address;
    assert_ne!(address(&first), address(&second));
    assert_eq!(first.room().unwrap(), Room { free: 0, total: 2 });

    first.create(&one.order("web-bbbbbbbb"));
    let fault = one.until_fault(&first, "web-bbbbbbbb");
    assert!(fault.message.contains("no address of 127."));
    assert!(!fault.permanent);
    two.delete(&mut second, "web-aaaaaaaa");
    one.until_state(&first, "web-bbbbbbbb", Some(MachineState::Running));
}

#[test]
fn an_address_that_is_served_by_somebody_else_is_left_for_another() {
    let bench = Bench::new(9, 30);
    let (first, second) = (bench.address(0), bench.address(1));
    let _taken = std::net::UdpSocket::bind((first, 8653)).unwrap();
    let mut provider = bench.open("build");
    provider.create(&bench.order("web-aaaaaaaa"));
    bench.until_state(&provider, "web-aaaaaaaa", Some(MachineState::Running));
    assert_eq!(provider.list().machines[0].address, Some(second.into()));
    assert!(provider.list().faults.is_empty());
}

#[test]
fn a_changed_image_makes_no_machine() {
    let bench = Bench::new(10, 28);
    let mut provider = bench.open("build");
    bench.make(&mut provider, "web-aaaaaaaa");
    fs::write(bench.image().join("index.html"), "changed").unwrap();
    provider.create(&bench.order("web-bbbbbbbb"));
    let fault = bench.until_fault(&provider, "web-bbbbbbbb");
    assert!(fault.permanent && fault.tries == 1, "{fault:?}");
    assert!(fault.message.contains("not what was recorded"), "{fault:?}");
    let machines = provider.list().machines;
    assert_eq!(machines.len(), 1, "{machines:?}");
    bench.delete(&mut provider, "web-bbbbbbbb");
    assert!(provider.list().faults.is_empty());
}

#[test]
fn an_init_that_does_not_start_is_a_fault_with_its_words_and_leaves_nothing() {
    let bench = Bench::new(11, 28);
    let broken = bench.script("broken", "echo 'no such luck' >&2; exit 7");
    let mut provider = bench.open_with_agent("build", &broken);
    provider.create(&bench.order("web-aaaaaaaa"));
    let fault = bench.until_fault(&provider, "web-aaaaaaaa");
    assert!(fault.message.contains("no such luck"), "{fault:?}");
    assert!(!fault.permanent);
    until("it is tried again", || {
        let faults = provider.list().faults;
        faults.values().all(|fault| fault.tries >= 2)
    });
    assert!(!bench.files("web-aaaaaaaa").root().exists());
    bench.delete(&mut provider, "web-aaaaaaaa");
    assert_eq!(bench.names(), Vec::<String>::new());
}

#[test]
fn a_failed_start_whose_output_cannot_be_kept_is_tried_again() {
    let bench = Bench::new(15, 28);
    let agent = bench.agent_that_fails_once("exit 7");
    fs::write(bench.machines().join(".gone"), "no directory").unwrap();
    let mut provider = bench.open_with_agent("build", &agent);
    provider.create(&bench.order("web-aaaaaaaa"));
    bench.until_state(&provider, "web-aaaaaaaa", Some(MachineState::Running));
}

#[test]
fn a_failed_start_that_could_not_be_undone_is_a_passing_fault() {
    let bench = Bench::new(0, 28);
    // The directory cannot be renamed to that, nor that removed: it is not ours.
    let stuck = bench.machines().join(".deleting-web-aaaaaaaa");
    let agent = bench.agent_that_fails_once(&format!(
        "mkdir {0}; echo mine > {0}/notes; exit 7",
        stuck.display()
    ));
    let mut provider = bench.open_with_agent("build", &agent);
    provider.create(&bench.order("web-aaaaaaaa"));
    until("it was tried twice", || {
        let faults = provider.list().faults;
        faults.values().any(|fault| fault.tries >= 2)
    });
    let fault = bench.until_fault(&provider, "web-aaaaaaaa");
    assert!(!fault.permanent, "{fault:?}");
    assert!(fault.message.contains("could not rename"), "{fault:?}");
    fs::remove_dir_all(&stuck).unwrap();
    bench.until_state(&provider, "web-aaaaaaaa", Some(MachineState::Running));
}

#[test]
fn a_machine_that_is_killed_is_seen_as_stopped_and_the_engine_is_told() {
    let bench = Bench::new(12, 28);
    let mut provider = bench.open("build");
    bench.make(&mut provider, "web-aaaaaaaa");
    let told = bench.times_told();
    bench
        .record("web-aaaaaaaa")
        .init
        .signal(Signal::KILL)
        .unwrap();
    bench.until_state(&provider, "web-aaaaaaaa", Some(MachineState::Stopped));
    until("the engine is told", || bench.times_told() > told);
    assert!(provider.list().age.unwrap() < DEADLINE);
}

#[test]
fn a_delete_overtakes_a_create_that_has_not_ended() {
    let bench = Bench::new(13, 28);
    let mut provider = bench.open("build");
    for number in 0..8 {
        provider.create(&bench.order(&format!("web-aaaaaaa{number}")));
    }
    for number in 0..8 {
        let instance = format!("web-aaaaaaa{number}").parse().unwrap();
        provider.delete(&instance, &DeleteBasis::RolledBack);
    }
    until("all are gone", || provider.list().machines.is_empty());
    assert_eq!(bench.names(), Vec::<String>::new());
    let left = calvin_proto::machine::processes::find_marked(
        "CALVIN_ADDRESS_LOCKS",
        &bench.locks().display().to_string(),
    );
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_machine_may_open_as_many_files_as_the_coordinator_was_started_with() {
    let limits = getrlimit(Resource::Nofile);
    // Enough for the tests beside this one.
    let low = Rlimit {
        current: Some(512),
        ..limits
    };
    setrlimit(Resource::Nofile, low).unwrap();
    calvin_proto::machine::descriptors::raise_limit().unwrap();
    let bench = Bench::new(1, 28);
    let says = bench.script("says", "ulimit -Sn >&2; exit 7");
    let mut provider = bench.open_with_agent("build", &says);
    provider.create(&bench.order("web-aaaaaaaa"));
    let fault = bench.until_fault(&provider, "web-aaaaaaaa");
    assert!(fault.message.ends_with(": 512"), "{fault:?}");
    bench.delete(&mut provider, "web-aaaaaaaa");
}

#[test]
fn a_machine_outlives_the_process_that_made_it() {
    let bench = Bench::new(14, 28);
    let mut provider = bench.open("build");
    bench.make(&mut provider, "web-aaaaaaaa");
    let record: InitRecord = bench.record("web-aaaaaaaa");
    // Its session is its own: a signal to the coordinator's does not reach it.
    let stat = fs::read_to_string(format!("/proc/{}/stat", record.init.pid)).unwrap();
    let session = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3);
    assert_eq!(session, Some(record.init.pid.to_string().as_str()));
    drop(provider);
    assert!(record.init.is_alive());
    let environment = fs::read(format!("/proc/{}/environ", record.init.pid)).unwrap();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert!(!environment.contains("CARGO"), "{environment}");
}
