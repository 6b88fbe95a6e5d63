//! One environment in which the same course is run again and again: a fleet under traffic, and a
//! rollout of it that ends one way or the other, each time with a coordinator that dies somewhere.

use std::{collections::BTreeMap, fs, path::PathBuf};

use calvin_proto::wire::{HistoryLine, RolloutStatus};

use crate::{
    points::Point,
    support::{
        Environment,
        files::{Fleet, Traffic},
        operator::rollout_request,
        waiting::until,
    },
};

/// Instances of the fleet: the fewest with which one can be done and the other not.
const COUNT: u32 = 2;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// A rollout to its end.
    Forward,
    /// A rollout that an operator takes back when green serves.
    Back,
}

/// An environment for one course.
pub(crate) struct Stage {
    pub(crate) environment: Environment,
    course: Course,
    /// The image that serves.
    serving: &'static str,
}

/// What there was before a run.
struct Before {
    rollout: String,
    blue: BTreeMap<String, i32>,
    /// The number of the newest line of the history. Not how many there were: of many the oldest are
    /// not shown.
    line: u64,
}

impl Stage {
    /// Two web servers, and a client that asks them from now to the end.
    pub(crate) async fn prepare(course: Course) -> Self {
        let environment = Environment::start().await;
        let bake = match course {
            Course::Forward => "300ms",
            // Longer than it takes to give the order, also after a restart.
            Course::Back => "60s",
        };
        let fleet = Fleet {
            min_healthy: "300ms",
            healthy_deadline: "20s",
            settle: "1100ms",
            // Longer than an agent's longest pause before it connects again: it is often cut off
            // here, and serves blue's names until it is back.
            settle_max: "30s",
            drain: "1s",
            bake,
            ..Fleet::new("web", "web@1.0", COUNT)
        };
        environment
            .bring_up_with_traffic(&fleet, Traffic::Calm)
            .await;
        Self {
            environment,
            course,
            serving: "web@1.0",
        }
    }

    /// The course without a death. Gives the lines of the places passed.
    pub(crate) async fn dry_run(&mut self) -> Vec<String> {
        let before = self.before().await;
        self.start_to_die(None);
        self.go(&before).await;
        self.check(&before, "in the dry run").await;
        self.passed()
    }

    /// The course with a death at this place. Says whether the place was met.
    pub(crate) async fn run(&mut self, point: &Point) -> bool {
        let before = self.before().await;
        self.start_to_die(Some(point));
        self.go(&before).await;
        let what = format!("killed at {point}: {:#?}", self.passed());
        self.check(&before, &what).await;
        self.passed().iter().any(|line| line.starts_with("died"))
    }

    async fn before(&self) -> Before {
        let fleet = self.environment.fleet("web").await.expect("it is shown");
        Before {
            rollout: fleet.rollout.expect("there was one").id,
            blue: self.environment.processes("web", "workload"),
            line: self.newest_line().await,
        }
    }

    async fn newest_line(&self) -> u64 {
        let lines = self.environment.operator.history("web").await;
        lines.last().map_or(0, |line| line.number)
    }

    fn log(&self) -> PathBuf {
        self.environment.home().join("crash-points")
    }

    fn passed(&self) -> Vec<String> {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Starts a coordinator that dies at a place, in place of the one that runs.
    fn start_to_die(&mut self, point: Option<&Point>) {
        self.environment.kill_coordinator();
        // There is none before the first run.
        let _ = fs::remove_file(self.log());
        let mut variables = vec![(
            "CALVIN_CRASH_LOG",
            self.log().to_string_lossy().into_owned(),
        )];
        if let Some(point) = point {
            variables.push(("CALVIN_CRASH_AT", point.order()));
        }
        self.environment.start_program("calvin-crash", &variables);
    }

    fn image(&self) -> &'static str {
        match self.serving {
            "web@1.0" => "web@2.0",
            _ => "web@1.0",
        }
    }

    /// Gives the orders of the course until it has ended, and starts the coordinator again when it
    /// is found dead.
    async fn go(&mut self, before: &Before) {
        let image = self.image();
        let course = self.course;
        let environment = &mut self.environment;
        until("the course to end", async || {
            if environment.is_dead() {
                environment.start_program("calvin", &[]);
            }
            let seen = environment.fleet("web").await;
            let fleet = seen.map_err(|status| status.message().to_owned())?;
            let newest = fleet.rollout.ok_or("no rollout")?;
            let operator = environment.operator.clone();
            if newest.id == before.rollout {
                // It may be refused or unheard while the coordinator dies: it is given again.
                let started = operator.start("web", image).await;
                return Err(format!("{:?}", started.err()));
            }
            if ended(&newest, course) {
                return Ok(());
            }
            if course == Course::Back && newest.phase == "baking" {
                let order = rollout_request("web");
                let taken = operator.client.clone().rollback_rollout(order).await;
                return Err(format!("{:?}", taken.err()));
            }
            Err(newest.phase)
        })
        .await;
        if course == Course::Forward {
            self.serving = image;
        }
    }

    /// What must hold after each run.
    async fn check(&mut self, before: &Before, what: &str) {
        let environment = &self.environment;
        let instances = environment.until_whole("web", COUNT).await;
        assert!(
            instances.iter().all(|one| one.image == self.serving),
            "{what}: {instances:?}"
        );
        let workloads = environment.processes("web", "workload");
        match self.course {
            Course::Forward => assert!(
                workloads.keys().all(|id| !before.blue.contains_key(id)),
                "{what}: {workloads:?} after {:?}",
                before.blue
            ),
            // The same processes: nobody restarted what went on serving.
            Course::Back => assert_eq!(workloads, before.blue, "{what}"),
        }
        let lines = environment.operator.history("web").await;
        let orders = match self.course {
            Course::Forward => 1,
            Course::Back => 2,
        };
        let before = lines.partition_point(|line| line.number <= before.line);
        assert_told_once(&lines, &lines[before..], orders, what);
        self.assert_nothing_leaked(what).await;
        let counted = environment.until_requests(20).await;
        assert_eq!(
            (counted.failed, counted.lookups_failed),
            (0, 0),
            "{what}: {counted:?}"
        );
    }
}

fn ended(rollout: &RolloutStatus, course: Course) -> bool {
    let right = match course {
        Course::Forward => "done",
        Course::Back => "rolled_back",
    };
    assert!(
        !rollout.ended || rollout.phase == right,
        "{course:?} ended otherwise: {rollout:?}"
    );
    rollout.ended
}

/// The history goes on in order, and tells of each order and of one green for each instance once,
/// whatever was asked twice.
fn assert_told_once(all: &[HistoryLine], new: &[HistoryLine], orders: usize, what: &str) {
    let numbers: Vec<u64> = all.iter().map(|line| line.number).collect();
    assert!(
        numbers.is_sorted_by(|one, next| one < next),
        "{what}: {numbers:?}"
    );
    let of = |kind: &str| new.iter().filter(|line| line.kind == kind).count();
    let count = COUNT as usize;
    assert_eq!(of("instance_intended"), count, "{what}: {new:#?}");
    assert_eq!(of("instance_retiring"), count, "{what}: {new:#?}");
    assert_eq!(of("instance_gone"), count, "{what}: {new:#?}");
    assert_eq!(of("command"), orders, "{what}: {new:#?}");
}
