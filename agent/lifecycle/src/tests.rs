//! Tests of the whole state machine, on a machine that is simulated by the few lines below.

mod health;
mod orders;
mod properties;
mod quorum;
mod roles;

use std::{sync::Arc, time::Duration};

use calvin_model::{
    DrainOrder, DrainReason, Epoch, Generation, ImageManifest, Report, Role, Wanted, WorkloadState,
};

use crate::{
    AgentRecord, CheckOutcome, HookKind, HookOutcome, HookRun, Input, Lifecycle, Output, Spec,
};

/// What the tests' images have in common.
const IMAGE: &str = "name = \"web\"\nversion = \"1\"\n";
const BOOT_WORK: &str = "[workload]\ncommand = [\"a\"]\n";
const PULLED_WORK: &str = "[workload]\ncommand = [\"a\"]\nwork = \"on_active\"\n";
const CHECK: &str =
    "[[check]]\nname = \"up\"\ntcp = true\nport = 1\ninterval = \"1s\"\ntimeout = \"1s\"\n";
const HOOKS: &str =
    "[hooks]\nstandby = [\"s\"]\nactive = [\"a\"]\ndrain = [\"d\"]\nretire = [\"r\"]\n";

fn spec(parts: &[&str]) -> Arc<Spec> {
    let text = format!("{IMAGE}{}", parts.concat());
    Arc::new(Spec::of(
        &ImageManifest::parse("image.toml", &text).unwrap(),
    ))
}

fn epoch(number: u64, run: &str) -> Epoch {
    Epoch {
        number,
        run: run.parse().unwrap(),
    }
}

fn wanted(generation: u64, role: Role) -> Wanted {
    let order = DrainOrder {
        reason: DrainReason::Replaced,
        timeout: Duration::from_secs(60),
    };
    Wanted {
        generation: Generation(generation),
        role,
        drain: (role == Role::Draining).then_some(order),
    }
}

/// A machine: does at once what the lifecycle says, but hooks, which the test ends.
#[derive(Debug, Clone)]
struct Machine {
    lifecycle: Lifecycle,
    now: Duration,
    disk: Option<AgentRecord>,
    disk_works: bool,
    runs: bool,
    /// The runner says what became of an order; else nobody looks at it.
    obeys: bool,
    hooks: Vec<(HookRun, HookKind)>,
    /// Every hook that was started, and the workload's starts and stops, in order.
    log: Vec<String>,
    reports: Vec<Report>,
    checks: Vec<usize>,
}

impl Machine {
    fn new(spec: &Arc<Spec>) -> Self {
        let now = Duration::from_secs(1000);
        let lifecycle = Lifecycle::new(spec.clone(), None, "b1".parse().unwrap(), now);
        Self {
            lifecycle,
            now,
            disk: None,
            disk_works: true,
            runs: false,
            obeys: true,
            hooks: Vec::new(),
            log: Vec::new(),
            reports: Vec::new(),
            checks: Vec::new(),
        }
    }

    /// A machine that is enrolled and in a session.
    fn joined(spec: &Arc<Spec>) -> Self {
        let mut machine = Self::new(spec);
        machine.put(Input::Workload(WorkloadState::NotWanted));
        machine.put(Input::Enrolled);
        machine.session(5);
        machine
    }

    fn session(&mut self, number: u64) {
        self.put(Input::SessionUp {
            epoch: epoch(number, "aa"),
            report_interval: Duration::from_secs(5),
            clock_offset_ms: 0,
        });
    }

    fn want(&mut self, generation: u64, role: Role) {
        self.put(Input::Wanted {
            epoch: epoch(5, "aa"),
            wanted: wanted(generation, role),
        });
    }

    /// The agent starts again; `boot` says whether the machine did too.
    fn restart(&mut self, spec: &Arc<Spec>, boot: &str) {
        let same_boot = self.lifecycle.record().boot.as_str() == boot;
        self.lifecycle = Lifecycle::new(
            spec.clone(),
            self.disk.clone(),
            boot.parse().unwrap(),
            self.now,
        );
        self.hooks.clear();
        self.checks.clear();
        self.runs &= same_boot;
        let state = if self.runs {
            WorkloadState::Running
        } else {
            WorkloadState::NotWanted
        };
        self.put(Input::Workload(state));
        self.put(Input::Enrolled);
    }

    fn put(&mut self, input: Input) -> Vec<Output> {
        let mut all = self.lifecycle.handle(self.now, input);
        let mut next = 0;
        while let Some(output) = all.get(next).cloned() {
            next += 1;
            for input in self.act(output) {
                all.extend(self.lifecycle.handle(self.now, input));
            }
        }
        all
    }

    fn act(&mut self, output: Output) -> Vec<Input> {
        match output {
            Output::Persist(record) if self.disk_works => {
                let revision = record.revision;
                self.disk = Some(record);
                vec![Input::Committed { revision }]
            }
            Output::Persist(_) | Output::Refused(_) | Output::EndSession(_) => Vec::new(),
            Output::StartWorkload | Output::StopWorkload if !self.obeys => Vec::new(),
            Output::StartWorkload => {
                self.log.push("start".into());
                self.runs = true;
                vec![
                    Input::Workload(WorkloadState::Starting),
                    Input::Workload(WorkloadState::Running),
                ]
            }
            Output::StopWorkload => {
                if self.runs {
                    self.log.push("stop".into());
                }
                self.runs = false;
                vec![Input::Workload(WorkloadState::Stopped)]
            }
            Output::RunHook { run, kind, .. } => {
                self.log.push(kind.to_string());
                self.hooks.push((run, kind));
                Vec::new()
            }
            Output::CancelHook(run) => {
                self.log.push("cancel".into());
                self.hooks.retain(|(running, _)| *running != run);
                Vec::new()
            }
            Output::RunChecks(checks) => {
                self.checks = checks;
                Vec::new()
            }
            Output::Report(report) => {
                self.reports.push(report);
                Vec::new()
            }
        }
    }

    fn wait(&mut self, seconds: u64) -> Vec<Output> {
        self.now += Duration::from_secs(seconds);
        self.put(Input::Tick)
    }

    fn end_hook(&mut self, outcome: HookOutcome) {
        let (run, _) = self.hooks.remove(0);
        self.put(Input::HookEnded { run, outcome });
    }

    fn check(&mut self, index: usize, passes: &str) {
        for run in passes.chars() {
            let outcome = match run {
                '+' => CheckOutcome::Pass,
                _ => CheckOutcome::Fail("refused".into()),
            };
            self.put(Input::Check { index, outcome });
        }
    }

    fn report(&self) -> Report {
        self.lifecycle.report_now()
    }

    fn applied(&self) -> u64 {
        self.report().generation_applied.0
    }
}
