//! How long a switch takes, by the coordinator's own log: from the first agent that is told to enter
//! to the last change that was read back; and of it the transactions with their read-back. The agents
//! are played: each registers with the Consul agent of the one server, as soon as it is told.

use std::{fs, time::Duration};

use calvin_proto::wire::HistoryLine;

use crate::{
    Size,
    interrupt::end_at_signals,
    log::{between, time_of_day, took},
    report::Figures,
    stage::calvin::{operator::rollout_request, processes},
    support::{
        Datacenter,
        datacenter::MANAGEMENT,
        environment::Environment,
        files::{Fleet, PORT, custom_image},
        home::{coordinator_token, of_environment, prepare},
        player::Player,
        until,
    },
};

/// How often agents report when nothing changes: the default.
const REPORTS: Duration = Duration::from_secs(2);

/// Longest time to make a large fleet.
const LARGE: Duration = Duration::from_secs(600);

/// An environment whose agents are played, with a datacenter of one server.
pub(crate) struct Played {
    // First, so that it does not see the others end.
    _player: Player,
    pub(crate) environment: Environment,
    pub(crate) datacenter: Datacenter,
}

impl Played {
    /// Starts it, with `calvin.toml` as `edit` makes it.
    pub(crate) async fn start(edit: fn(String) -> String) -> Self {
        let mut more = of_environment();
        // All agents ask from one address; by default 200 connections of one are taken.
        more["limits"]["http_max_conns_per_client"] = 4_000.into();
        let datacenter = Datacenter::start(1, more).await;
        let token = coordinator_token(&datacenter).await;
        let mut environment = prepare(&datacenter, &token);
        end_at_signals(environment.home(), processes::end_all);
        let file = environment.home().join("calvin.toml");
        let text = fs::read_to_string(&file).unwrap();
        let usual = text.replace("report_interval = \"15s\"", "report_interval = \"2s\"");
        assert_ne!(text, usual);
        fs::write(&file, edit(usual)).unwrap();
        environment.use_silent_agent();
        environment.start_coordinator().await;
        for version in ["1.0", "2.0"] {
            let text = format!(
                "name = \"web\"\nversion = \"{version}\"\n[workload]\ncommand = [\"true\"]\n\
                 [[service]]\nname = \"web\"\nport = {PORT}\n\
                 [consul]\naddress = \"http://127.0.0.1:8500\"\n"
            );
            let folder = custom_image(environment.home(), "web", version, &text);
            environment.operator.add_image(folder).await.unwrap();
        }
        let player = Player::start_reporting(&environment, &datacenter, REPORTS);
        Self {
            environment,
            datacenter,
            _player: player,
        }
    }

    /// Makes a fleet of this size.
    pub(crate) async fn bring_up(&self, count: u32) {
        let fleet = Fleet {
            healthy_deadline: "20m",
            bake: "3s",
            ..Fleet::new("web", "web@1.0", count)
        };
        self.environment
            .operator
            .apply(&fleet.toml())
            .await
            .unwrap();
        self.until_phase("done", LARGE).await;
    }

    /// Waits until the newest rollout is in this phase.
    async fn until_phase(&self, phase: &str, limit: Duration) {
        let found = async {
            loop {
                let fleet = self.environment.fleet("web").await;
                let rollout = fleet.ok().and_then(|fleet| fleet.rollout);
                if rollout.is_some_and(|rollout| rollout.phase == phase) {
                    return;
                }
                // Seldom: an answer about a large fleet is work for the coordinator.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let found = tokio::time::timeout(limit, found).await;
        found.unwrap_or_else(|_| panic!("no phase {phase} within {limit:?}"));
    }

    /// Entries under the service's own name, as the server has them.
    pub(crate) async fn registered(&self) -> usize {
        let server = &self.datacenter.servers[0];
        let management = self.datacenter.client(server, Some(MANAGEMENT));
        let read = management
            .service_health("web", calvin_consul::Consistency::Consistent)
            .await;
        read.unwrap().value.len()
    }
}

/// One switch, in milliseconds.
#[derive(Debug)]
struct Took {
    whole: f64,
    written: f64,
    transactions: usize,
}

/// The switch that a part of the coordinator's log tells.
fn read(log: &str) -> Option<Took> {
    let entered = log
        .lines()
        .find(|line| line.contains("to be registered with Consul") && line.contains("entered"))?;
    let changed = || {
        log.lines()
            .filter(|line| line.contains("role tags changed, and read back"))
    };
    let last = changed().next_back()?;
    let whole = between(time_of_day(entered)?, time_of_day(last)?);
    let written: Duration = changed().filter_map(took).sum();
    let transactions = changed().filter_map(|line| {
        let count = line.split("transactions=").nth(1)?;
        count.split_whitespace().next()?.parse::<usize>().ok()
    });
    Some(Took {
        whole: whole.as_secs_f64() * 1e3,
        written: written.as_secs_f64() * 1e3,
        transactions: transactions.sum(),
    })
}

/// From the line that says that the newest rollout switches to the one that says that it settles.
fn decided(history: &[HistoryLine]) -> f64 {
    let last = |word: &str| {
        let mut lines = history.iter().rev().filter(|line| line.kind == "phase");
        let line = lines.find(|line| line.text.contains(word));
        line.unwrap_or_else(|| panic!("no line of {word}")).wall_ms
    };
    let took = last("-> settling") - last("-> switching");
    f64::from(u32::try_from(took).unwrap())
}

pub(crate) async fn measure(size: Size, figures: &mut Figures) {
    let played =
        Played::start(|text| format!("log = \"info,calvin_coordinator::catalogue=debug\"\n{text}"))
            .await;
    played.bring_up(size.set).await;
    let mut all = Vec::new();
    let mut decisions = Vec::new();
    for _ in 0..size.rollouts {
        let operator = &played.environment.operator;
        let mut from = played.environment.log().len();
        operator.start("web", "web@2.0").await.unwrap();
        played.until_phase("baking", LARGE).await;
        let text = played.environment.log();
        all.push(read(&text[from..]).expect("the log tells of a switch"));
        decisions.push(decided(&operator.history("web").await));
        from = text.len();
        let mut client = operator.client.clone();
        let back = client.rollback_rollout(rollout_request("web")).await;
        back.unwrap();
        played.until_phase("rolled_back", LARGE).await;
        all.push(read(&played.environment.log()[from..]).expect("the log tells of a way back"));
        until("green to be gone", async || {
            let found = played.registered().await;
            if found == size.set as usize {
                Ok(())
            } else {
                Err(found)
            }
        })
        .await;
    }
    let count = size.set * 2;
    let most = all.iter().map(|one| one.transactions).max().unwrap_or(0);
    println!("switch: {count} services changed in {most} transactions");
    let whole = all.iter().map(|one| one.whole).collect();
    let written = all.iter().map(|one| one.written).collect();
    let name = |what: &str| format!("switch of {} instances: {what}", size.set);
    figures.add(
        name("first order to enter to last read-back"),
        whole,
        "ms",
        Some(500.0),
    );
    figures.add(
        name("of it transactions and read-back"),
        written,
        "ms",
        Some(50.0),
    );
    figures.add(
        name("decided to settling, in history"),
        decisions,
        "ms",
        None,
    );
}
