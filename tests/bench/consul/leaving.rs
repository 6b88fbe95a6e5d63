//! From a closed port to an answer of Consul's DNS without it: machines with agents and Consul clients,
//! and beside them a Consul client with the same check and no calvin. The ports are opened and closed
//! by the bench itself: nobody but the checks can notice.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Mutex,
    time::Duration,
};

use calvin_consul::{
    agent::{CheckKind, CheckRegistration, ServiceRegistration},
    catalog::Weights,
    health::CheckStatus,
};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    CONSUL, Size,
    interrupt::end_at_signals,
    report::Figures,
    requests::{apply_quiet_fleet, quiet_image},
    stage::{
        calvin::{files::PORT, processes},
        images::WEB,
        names,
        whole::{DOMAIN, Whole},
    },
    support::{datacenter::MANAGEMENT, process::own_address, until},
};

/// Machines of calvin's; each is closed in turn.
const COUNT: u32 = 3;
/// The service without calvin, and its node.
const PLAIN: &str = "plain";
/// Between two questions to the DNS.
const LOOK: Duration = Duration::from_millis(4);
/// Shortest interval of a check of Consul's.
const SECOND: Duration = Duration::from_secs(1);

/// A port that takes connections until it is dropped.
struct Door(JoinSet<()>);

impl Door {
    async fn open(address: IpAddr) -> Self {
        let listener = TcpListener::bind(SocketAddr::new(address, PORT)).await;
        let listener = listener.unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let _ = listener.accept().await;
            }
        });
        Self(task)
    }

    async fn close(mut self) {
        self.0.shutdown().await;
    }
}

/// The ports of a fleet whose workloads open none.
pub(crate) struct Doors(Mutex<BTreeMap<IpAddr, Door>>);

impl Doors {
    /// None is open yet.
    pub(crate) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Opens the port of each machine as it comes, until the fleet's rollout is done.
    pub(crate) async fn open_until_done(&self, whole: &Whole) {
        until("the fleet", async || {
            let fleet = whole.fleet().await.ok_or("none")?;
            let addresses = fleet
                .instances
                .iter()
                .filter_map(|one| one.address.parse().ok());
            for address in addresses.collect::<Vec<IpAddr>>() {
                let known = self.0.lock().unwrap().contains_key(&address);
                if !known {
                    let door = Door::open(address).await;
                    self.0.lock().unwrap().insert(address, door);
                }
            }
            let phase = fleet.rollout.map(|rollout| rollout.phase);
            match phase.as_deref() {
                Some("done") => Ok(()),
                _ => Err("not done"),
            }
        })
        .await;
    }
}

/// The service without calvin; its address.
async fn register_plain(whole: &mut Whole) -> IpAddr {
    whole.datacenter.add_agent(PLAIN).await;
    let agent = whole.datacenter.agents.last().unwrap();
    let address = own_address();
    let check = CheckRegistration {
        id: PLAIN.to_owned(),
        name: "port".to_owned(),
        notes: String::new(),
        status: CheckStatus::Critical,
        kind: CheckKind::Tcp {
            address: SocketAddr::new(address, PORT),
            interval: SECOND,
            timeout: SECOND,
        },
        success_before_passing: 0,
        failures_before_critical: 0,
    };
    let client = whole.datacenter.client(agent, Some(MANAGEMENT));
    let service = ServiceRegistration {
        id: PLAIN.to_owned(),
        name: PLAIN.to_owned(),
        tags: Vec::new(),
        address: address.to_string(),
        port: PORT,
        meta: BTreeMap::new(),
        tagged_addresses: BTreeMap::new(),
        weights: Weights::default(),
        enable_tag_override: false,
        checks: vec![check],
    };
    client.register(&service).await.unwrap();
    address
}

/// Closes ports in turn, and asks until the answer lacks each; milliseconds.
async fn close_and_ask(
    dns: SocketAddr,
    name: &str,
    mut doors: Vec<(IpAddr, Door)>,
    samples: u32,
) -> Vec<f64> {
    let mut took = Vec::new();
    for sample in 0..samples {
        let (address, door) = doors.remove(0);
        let found = async |is: bool| {
            while names::ask(dns, name).await.contains(&address) != is {
                sleep(LOOK).await;
            }
        };
        found(true).await;
        // Spread over the check's interval: by the golden ratio, evenly whatever their number.
        let part = (f64::from(sample) * 0.618_034).fract();
        sleep(SECOND.mul_f64(part)).await;
        let closed = Instant::now();
        door.close().await;
        found(false).await;
        took.push(closed.elapsed().as_secs_f64() * 1e3);
        doors.push((address, Door::open(address).await));
    }
    took
}

/// The value that 99 of 100 do not pass.
fn p99(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * 99).div_ceil(100) - 1]
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

pub(crate) async fn measure(size: Size, figures: &mut Figures) {
    let mut whole = Whole::start("leaving", 1).await;
    end_at_signals(whole.calvin.home(), processes::end_all);
    quiet_image(&whole, &std::env::var(CONSUL).unwrap());
    let doors = Doors::new();
    apply_quiet_fleet(&whole, COUNT);
    doors.open_until_done(&whole).await;
    let plain = register_plain(&mut whole).await;
    let ours: Vec<_> = doors.0.into_inner().unwrap().into_iter().collect();
    let theirs = vec![(plain, Door::open(plain).await)];

    let dns = whole.edge.dns;
    let name = format!("active.{WEB}.service.{DOMAIN}");
    let plain_name = format!("{PLAIN}.service.{DOMAIN}");
    let (ours, theirs) = tokio::join!(
        close_and_ask(dns, &name, ours, size.samples),
        close_and_ask(dns, &plain_name, theirs, size.samples),
    );
    let ratio = [median(&ours) / median(&theirs), p99(&ours) / p99(&theirs)];
    let what = "closed port to DNS without it";
    for (with, values) in [("with calvin", ours), ("Consul alone", theirs)] {
        let worst = p99(&values);
        figures.add(format!("{what}, {with}: median"), values, "ms", None);
        figures.add(format!("{what}, {with}: p99"), vec![worst], "ms", None);
    }
    for (of, ratio) in [("medians", ratio[0]), ("p99", ratio[1])] {
        figures.add(format!("{what}: ratio of {of}"), vec![ratio], "", None);
    }
}
