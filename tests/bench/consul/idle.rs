//! What a large fleet costs the coordinator when nothing happens: its processor time, and what it asks
//! of Consul for each instance. The agents are played, with sessions that report as often as by
//! default; their entries are real.

use tokio::time::sleep;

use crate::{
    Size,
    processor::{TICKS, ticks},
    report::Figures,
    switch::Played,
};

/// Room for more machines than the 254 of the tests' environments, where none of those are.
fn in_a_wider_network(text: String) -> String {
    let own = 192 + std::process::id() % 8;
    let replace = |line: &str| match line.strip_prefix("network = ") {
        Some(_) => format!("network = \"127.{own}.0.0/16\"\n"),
        None => format!("{line}\n"),
    };
    text.lines().map(replace).collect()
}

pub(crate) async fn measure(size: Size, figures: &mut Figures) {
    let played = Played::start(in_a_wider_network).await;
    played.bring_up(size.registered).await;
    let registered = played.registered().await;
    println!("idle: {registered} instances are registered and in session");
    let server = &played.datacenter.servers[0];
    server.say_requests();
    // What the rollout left behind, and the first round of everything.
    sleep(size.rest / 2).await;
    let pid = i32::try_from(played.environment.coordinator_id()).unwrap();
    let mut used = Vec::new();
    let mut asked = Vec::new();
    for _ in 0..size.rests {
        let (before, from) = (ticks(pid), server.requests());
        sleep(size.rest).await;
        let seconds = size.rest.as_secs_f64();
        used.push((ticks(pid) - before) / TICKS / seconds * 100.0);
        let count = u32::try_from(server.requests() - from).unwrap();
        asked.push(f64::from(count) * 60.0 / seconds / f64::from(size.registered));
    }
    let name = |what: &str| format!("{} instances in rest: {what}", size.registered);
    figures.add(name("coordinator's processor time"), used, "%", None);
    figures.add(
        name("its requests per instance and minute"),
        asked,
        "",
        Some(4.0),
    );
}
