//! What Consul is asked when nothing happens. Each machine's own Consul client says so itself: it logs
//! every request that it has answered, and here is told to log them. Nothing stands between it and its
//! agent.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use tokio::time::sleep;

use crate::{
    CONSUL, Size,
    interrupt::end_at_signals,
    leaving::Doors,
    report::Figures,
    stage::{
        calvin::{files::PORT, files::custom_image, processes},
        images::{Pace, WEB, web_fleet},
        whole::Whole,
    },
    support::process::requests,
};

/// Machines that are listened to.
const COUNT: u32 = 3;

/// A Consul that logs what it is asked, into a file of the instance's name in `logs`.
fn wrapper(home: &Path, logs: &Path) -> String {
    let program = home.join("consul-that-tells");
    let consul = std::env::var(CONSUL).unwrap();
    let script = format!(
        "#!/bin/sh\nexec {consul:?} \"$@\" -log-level debug >>{:?}/\"$CALVIN_INSTANCE\" 2>&1\n",
        logs.display().to_string()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program.display().to_string()
}

/// An image whose workload does nothing, and whose one check is of a port that the bench opens.
pub(crate) fn quiet_image(whole: &Whole, consul: &str) {
    let text = format!(
        r#"name = "{WEB}"
version = "1.0"

[workload]
command = ["sleep", "1000000"]
stop_timeout = "1s"

[[service]]
name = "{WEB}"
port = {PORT}

[[check]]
name = "port"
tcp = true
port = {PORT}
interval = "1s"
timeout = "1s"
fall = 1

[consul]
program = {consul:?}
"#
    );
    let folder = custom_image(whole.calvin.home(), WEB, "1.0", &text);
    whole.calvin(&["image", "add", folder.to_str().unwrap()]);
}

/// Makes a fleet of that image.
pub(crate) fn apply_quiet_fleet(whole: &Whole, count: u32) {
    let file = whole.calvin.home().join("web.toml");
    let pace = Pace {
        bake: "1s",
        ..Pace::default()
    };
    fs::write(&file, web_fleet(&format!("{WEB}@1.0"), count, pace)).unwrap();
    whole.calvin(&["fleet", "apply", file.to_str().unwrap()]);
}

pub(crate) async fn measure(size: Size, figures: &mut Figures) {
    let whole = Whole::start("requests", 1).await;
    end_at_signals(whole.calvin.home(), processes::end_all);
    let logs = whole.calvin.home().join("consul-logs");
    fs::create_dir_all(&logs).unwrap();
    quiet_image(&whole, &wrapper(whole.calvin.home(), &logs));
    let doors = Doors::new();
    apply_quiet_fleet(&whole, COUNT);
    doors.open_until_done(&whole).await;
    let coordinators = &whole.datacenter.agents[0];
    coordinators.say_requests();
    sleep(size.rest / 2).await;

    let instances = whole.instances("1.0").await;
    let log = |instance: &String| fs::read_to_string(logs.join(instance)).unwrap();
    let before: Vec<usize> = instances.iter().map(|one| log(one).len()).collect();
    // Else none would be counted for want of words.
    assert!(instances.iter().all(|one| requests(&log(one)) > 0));
    let from = coordinators.requests();
    let time = size.rest * u32::try_from(size.rests).unwrap();
    sleep(time).await;
    let a_minute =
        |count: usize| f64::from(u32::try_from(count).unwrap()) * 60.0 / time.as_secs_f64();
    let machines = instances
        .iter()
        .zip(before)
        .map(|(instance, from)| a_minute(requests(&log(instance)[from..])));
    figures.add(
        "requests in rest, of an agent to its Consul client, per minute",
        machines.collect(),
        "",
        Some(4.0),
    );
    let own = a_minute(coordinators.requests() - from);
    let name = format!("the same, of the coordinator of {COUNT} instances altogether");
    figures.add(name, vec![own], "", None);
}
