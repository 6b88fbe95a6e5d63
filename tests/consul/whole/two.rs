//! Two environments on the same host and network, with equal fleets: each finds its own alone, and
//! neither takes the other's word.

use std::{collections::BTreeSet, fs, net::IpAddr, process::ExitStatus};

use calvin_consul::Consistency;

use super::{COUNT, COUNT_SIZE};
use crate::{
    stage::{
        front::Front,
        images::{GOOD, Pace, WEB},
        names,
        whole::{DOMAIN, Whole},
    },
    support::{datacenter::MANAGEMENT, until},
};

/// The addresses of the fleet's machines, in order.
async fn machines(whole: &Whole) -> Vec<IpAddr> {
    let fleet = whole.fleet().await.unwrap();
    let addresses = fleet
        .instances
        .iter()
        .map(|one| one.address.parse().unwrap());
    let mut found: Vec<IpAddr> = addresses.collect();
    found.sort();
    found
}

/// Waits until a coordinator has ended by itself; how, and what it said.
async fn ended(whole: &mut Whole) -> (ExitStatus, String) {
    let mut child = whole.calvin.serve();
    let status = until("it to end", async || {
        child.try_wait().unwrap().ok_or("it runs")
    })
    .await;
    (status, whole.calvin.log())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_fleets_of_two_environments_do_not_meet() {
    let (one, two) = tokio::join!(Whole::start("one", 1), Whole::start("two", 1));
    one.bring_up(&[GOOD[0]], COUNT, Pace::default()).await;
    two.bring_up(&[GOOD[1]], COUNT, Pace::default()).await;
    let fronts = [
        Front::start(&one, COUNT_SIZE).await,
        Front::start(&two, COUNT_SIZE).await,
    ];
    for (whole, front, version) in [(&one, &fronts[0], "1.0"), (&two, &fronts[1], "2.0")] {
        front.until_more(1_000).await;
        for load in front.all() {
            let seen = load.seen();
            let answered: BTreeSet<&str> = seen.by_page.keys().map(String::as_str).collect();
            assert_eq!(answered, BTreeSet::from([version]), "{seen:#?}");
        }
        front.assert_none_failed(version);
        // Every machine's agent says the same, and so does Consul.
        let own = machines(whole).await;
        assert_eq!(own.len(), COUNT_SIZE);
        for name in [
            format!("{WEB}.service.{DOMAIN}"),
            format!("active.{WEB}.service.{DOMAIN}"),
        ] {
            for server in &own {
                assert_eq!(names::addresses(*server, &name).await, own, "{server}");
            }
            assert_eq!(names::ask(whole.edge.dns, &name).await, own);
        }
    }
    // A token of the one is none to the other.
    let token = fs::read_to_string(one.calvin.home().join("token")).unwrap();
    let crossing = two
        .datacenter
        .client(&two.datacenter.servers[0], Some(MANAGEMENT));
    crossing.set_token(Some(token.trim().parse().unwrap()));
    let error = crossing.nodes(Consistency::Consistent).await.unwrap_err();
    assert!(error.is_denied(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_works_on_no_datacenter_of_another_name_and_on_none_that_is_taken() {
    let mut whole = Whole::prepare("taken", 1).await;
    let path = whole.calvin.home().join("calvin.toml");
    let right = fs::read_to_string(&path).unwrap();
    let wrong = right.replace("environment = \"taken\"", "environment = \"other\"");
    fs::write(&path, &wrong).unwrap();
    let (status, log) = ended(&mut whole).await;
    assert!(!status.success());
    assert!(log.contains("taken") && log.contains("other"), "{log}");

    fs::write(&path, &right).unwrap();
    whole.calvin.start_coordinator().await;
    let first = whole.calvin.coordinator_id();
    // The same environment once more, with a store and sockets of its own.
    let data = whole.calvin.home().join("data");
    let other = whole.calvin.home().join("data2");
    let elsewhere = crate::stage::haproxy::free_address();
    let second = right
        .replace(
            &format!("{:?}", data.to_string_lossy()),
            &format!("{:?}", other.to_string_lossy()),
        )
        .replace(&whole.calvin.agents.to_string(), &elsewhere.to_string())
        .replace(
            &whole.calvin.operators.to_string(),
            &crate::stage::haproxy::free_address().to_string(),
        );
    fs::write(&path, second).unwrap();
    let (status, log) = ended(&mut whole).await;
    assert!(!status.success());
    let agents = whole.calvin.agents;
    for word in [
        &format!("process {first} on host "),
        &format!("agents at {agents}"),
        "stop that one",
    ] {
        assert!(
            log.contains(word),
            "no word {word:?} of who holds it: {log}"
        );
    }
    // The first one does not mind.
    fs::write(&path, &right).unwrap();
    whole.calvin(&["status"]);
}
